//! The few facts of a PCI function that opening it takes, from sysfs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::pci::address::PciAddress;

/// A BAR of memory, not of ports (`IORESOURCE_MEM` of the kernel's linux/ioport.h).
const RESOURCE_MEMORY: u64 = 0x200;
/// BARs of a function of header type 0.
const BARS: usize = 6;

/// The files of a function.
#[derive(Clone, Debug)]
pub(crate) struct PciFiles {
    address: PciAddress,
    folder: PathBuf,
}

/// A memory BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemoryBar {
    /// Which of the six.
    pub(crate) index: u32,
    /// Its length.
    pub(crate) bytes: u64,
}

impl PciFiles {
    /// Those of the function at `address`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where there is none.
    pub(crate) fn find(address: PciAddress) -> Result<Self, Error> {
        let folder = PathBuf::from(format!("/sys/bus/pci/devices/{address}"));
        if !folder.exists() {
            return Err(Error::failed(format!(
                "there is no PCI function {address}; `mptctl status` lists the controllers that are there"
            )));
        }
        Ok(Self { address, folder })
    }

    /// The function.
    pub(crate) const fn address(&self) -> PciAddress {
        self.address
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The driver that has it.
    pub(crate) fn driver(&self) -> Option<String> {
        file_name(&self.folder.join("driver"))
    }

    /// Its IOMMU group.
    pub(crate) fn iommu_group(&self) -> Option<u32> {
        file_name(&self.folder.join("iommu_group"))?.parse().ok()
    }

    /// What its IOMMU group does with the addresses that it uses: `identity`, or one of several
    /// words for translation. Kernels since 5.11 say.
    pub(crate) fn iommu_domain(&self) -> Option<String> {
        let kind = fs::read_to_string(self.folder.join("iommu_group/type")).ok()?;
        Some(kind.trim().to_owned())
    }

    /// Vendor and device id.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when they cannot be read.
    pub(crate) fn id(&self) -> Result<(u16, u16), Error> {
        Ok((self.hexadecimal("vendor")?, self.hexadecimal("device")?))
    }

    fn hexadecimal(&self, name: &str) -> Result<u16, Error> {
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
        u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).map_err(|error| {
            Error::failed(format!(
                "{} says {:?}, which is no PCI id: {error}; look at the card with lspci",
                path.display(),
                text.trim()
            ))
        })
    }

    /// The BAR that the registers are in: the first of memory. It is BAR 1 on all controllers with
    /// ports in BAR 0, and BAR 0 on the later ones without.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it has none.
    pub(crate) fn register_bar(&self) -> Result<MemoryBar, Error> {
        let path = self.folder.join("resource");
        let text = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
        first_memory_bar(&text).ok_or_else(|| {
            Error::failed(format!(
                "{} has no memory BAR, where its registers should be; the system may have had no room for it, look at `lspci -v -s {}`",
                self.address, self.address
            ))
        })
    }
}

/// The name of what a link points to.
fn file_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

/// The first BAR of memory in a file `resource`: a line of first and last address and flags for each.
fn first_memory_bar(text: &str) -> Option<MemoryBar> {
    let bars = text.lines().take(BARS).enumerate();
    bars.filter_map(|(index, line)| {
        let mut words = line
            .split_ascii_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        let (first, last, flags) = (words.next()??, words.next()??, words.next()??);
        let bytes = last.checked_sub(first)?.checked_add(1)?;
        let is_memory = flags & RESOURCE_MEMORY != 0 && first != 0;
        is_memory.then_some(MemoryBar { index: index as u32, bytes })
    })
    .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registers_are_in_the_first_memory_bar() {
        let ports_first = "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n\
            0x00000000feb40000 0x00000000feb43fff 0x0000000000140204\n\
            0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
            0x00000000feb00000 0x00000000feb3ffff 0x0000000000140204\n";
        let bar = MemoryBar { index: 1, bytes: 0x4000 };
        assert_eq!(first_memory_bar(ports_first), Some(bar));
        let memory_first = "0x0000380000000000 0x00003800000fffff 0x000000000014220c\n";
        let bar = MemoryBar { index: 0, bytes: 0x10_0000 };
        assert_eq!(first_memory_bar(memory_first), Some(bar));
    }

    #[test]
    fn a_bar_that_the_system_had_no_room_for_is_none() {
        let without = "0x0 0xffff 0x40101\n0x0 0x3fff 0x140204\nrubbish\n\n";
        assert_eq!(first_memory_bar(without), None);
    }
}
