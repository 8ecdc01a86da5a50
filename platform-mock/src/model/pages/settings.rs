//! What the host has written into configuration pages: current until the adapter is reset, or kept
//! in NVRAM.

use std::collections::BTreeMap;

use super::kind;
use crate::model::chip::{Chip, Family};

/// Type and number of a page.
type Key = (u8, u8);

/// Bytes of pages, header included, that differ from what the chip has by itself.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    current: BTreeMap<Key, Vec<u8>>,
    kept: BTreeMap<Key, Vec<u8>>,
}

impl Settings {
    /// Whether a chip lets its host write a page.
    pub(crate) fn takes(chip: &Chip, page_kind: u8, number: u8) -> bool {
        match (page_kind, number) {
            _ if chip.is_mpi1() => false,
            (kind::IO_UNIT | kind::IOC | kind::SAS_IO_UNIT, 1) | (kind::MANUFACTURING, 11) => true,
            (kind::BIOS, 2 | 3) => true,
            (kind::DRIVER_TRIGGER, 0..=4) | (kind::PCIE_IO_UNIT, 1) => chip.family == Family::Mpi26,
            _ => false,
        }
    }

    /// Takes the bytes after the header of `page`, which is as it stands now.
    pub(crate) fn write(&mut self, page: &[u8], body: &[u8], nvram: bool) {
        let (key, header) = if page.get(3) == Some(&kind::EXTENDED) {
            ((page.get(6).copied().unwrap_or(0), page.get(2).copied().unwrap_or(0)), 8)
        } else {
            let basic = page.get(3).copied().unwrap_or(0) & 0x0f;
            ((basic, page.get(2).copied().unwrap_or(0)), 4)
        };
        let mut page = page.to_vec();
        for (to, from) in page.iter_mut().zip(body).skip(header) {
            *to = *from;
        }
        let pages = if nvram { &mut self.kept } else { &mut self.current };
        pages.insert(key, page);
    }

    /// The page as the host has set it, if it has.
    pub(crate) fn read(&self, page_kind: u8, number: u8, nvram: bool) -> Option<&Vec<u8>> {
        let pages = if nvram { &self.kept } else { &self.current };
        pages.get(&(page_kind, number))
    }

    /// Makes a page what the chip has by itself.
    pub(crate) fn forget(&mut self, page_kind: u8, number: u8) {
        self.current.remove(&(page_kind, number));
    }

    /// What a reset of the adapter does: only NVRAM stays.
    pub(crate) fn reset(&mut self) {
        self.current.clone_from(&self.kept);
    }

    /// Whether the host has turned off a phy of the controller, by SAS IO unit page 1.
    pub(crate) fn phy_disabled(&self, phy: u8) -> bool {
        let flags = 0x14 + usize::from(phy) * 12 + 2;
        self.read(kind::SAS_IO_UNIT, 1, false)
            .and_then(|page| page.get(flags))
            .is_some_and(|flags| flags & 0x08 != 0)
    }
}
