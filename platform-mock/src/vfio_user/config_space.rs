//! PCI configuration space: what each chip says of itself, and which of its bits can be written.
//!
//! Ids, capabilities, their places, and BARs are those of `lspci -vv` listings of such cards
//! (controllers.md 2.4): the generations before 3.5 have I/O ports first and the registers in
//! BAR 1; those since have the registers in BAR 0 and I/O ports last.

use crate::model::{Chip, Family};

/// Bytes of a conventional configuration space.
const CONVENTIONAL: usize = 256;
/// Bytes of an extended one.
const EXTENDED: usize = 4096;

const COMMAND: usize = 0x04;
/// The device may reach memory by itself.
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// The interrupt line is not to be used, in the upper byte.
const COMMAND_LINE_DISABLE: u8 = 1 << 2;
/// The upper byte of the PCIe capability's device control, and in it the function-level reset.
const DEVICE_CONTROL_HIGH: usize = 0x71;
const INITIATE_RESET: u8 = 1 << 7;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;

const CAPABILITY_POWER_MANAGEMENT: u8 = 0x01;
const CAPABILITY_MSI: u8 = 0x05;
const CAPABILITY_PCI_X: u8 = 0x07;
const CAPABILITY_PCI_EXPRESS: u8 = 0x10;
const CAPABILITY_MSIX: u8 = 0x11;
const EXTENDED_ADVANCED_ERRORS: u16 = 0x0001;

/// What is behind a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Nothing: the BAR does not exist, or is the upper half of the one before.
    Nothing,
    /// The system interface registers, and in memory the MSI-X table.
    Registers,
    /// The chip's own memory, which nobody but its maker's tools looks at.
    Diagnostic,
}

/// A base address register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    /// The low bits, which say what kind of BAR it is.
    kind: u32,
    /// Its size in bytes, a power of two; 0 where there is none.
    pub(crate) bytes: u32,
    /// What an access meets.
    pub(crate) behind: Behind,
}

const NO_BAR: Bar = Bar { kind: 0, bytes: 0, behind: Behind::Nothing };
const IO_PORTS: u32 = 0x1;
const MEMORY_32: u32 = 0x0;
const MEMORY_64: u32 = 0x4;
const MEMORY_64_PREFETCHABLE: u32 = 0xc;

const fn bar(kind: u32, bytes: u32, behind: Behind) -> Bar {
    Bar { kind, bytes, behind }
}

/// What a chip is on PCI, beyond what its firmware says.
#[derive(Debug, Clone, Copy)]
struct Card {
    bars: [Bar; 6],
    /// Messages that its MSI-X table has, which may be more than its firmware uses.
    msix: u16,
    /// The BAR of the table, and where in it table and pending bits are.
    table: (u8, u32, u32),
    express: bool,
    /// Lanes, and the speed of each as PCIe encodes it.
    link: (u8, u8),
}

/// The card that carries `chip`.
fn card(chip: &Chip) -> Card {
    use Behind::{Diagnostic, Registers};
    let early = |registers: u32, diagnostic: u32| {
        [
            bar(IO_PORTS, 256, Registers),
            bar(MEMORY_64, registers, Registers),
            NO_BAR,
            bar(MEMORY_64, diagnostic, Diagnostic),
            NO_BAR,
            NO_BAR,
        ]
    };
    match chip.family {
        Family::Mpi1 => Card {
            bars: early(0x4000, 0x1_0000),
            msix: 1,
            table: (1, 0x2000, 0x3000),
            express: false,
            link: (0, 0),
        },
        Family::Mpi20 => Card {
            bars: early(0x4000, 0x4_0000),
            msix: 15,
            table: (1, 0x2000, 0x3800),
            express: true,
            link: (8, 2),
        },
        Family::Mpi25 => Card {
            bars: early(0x1_0000, 0x4_0000),
            msix: 96,
            table: (1, 0xe000, 0xf000),
            express: true,
            link: (8, 3),
        },
        Family::Mpi26 => Card {
            bars: [
                bar(MEMORY_64_PREFETCHABLE, 0x10_0000, Registers),
                NO_BAR,
                bar(MEMORY_64_PREFETCHABLE, 0x10_0000, Diagnostic),
                NO_BAR,
                bar(MEMORY_32, 0x10_0000, Diagnostic),
                bar(IO_PORTS, 256, Registers),
            ],
            msix: 128,
            table: (0, 0x2000, 0x3000),
            express: true,
            link: (8, 4),
        },
    }
}

/// A card's configuration space.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    bytes: Vec<u8>,
    /// Bits that can be written.
    writable: Vec<u8>,
    card: Card,
    /// Where the capability before the next one says where that is.
    last_pointer: usize,
}

impl ConfigSpace {
    /// As it is after power-on.
    pub(crate) fn new(chip: &Chip) -> Self {
        let card = card(chip);
        let bytes = if card.express { EXTENDED } else { CONVENTIONAL };
        let mut space = Self {
            bytes: vec![0; bytes],
            writable: vec![0; bytes],
            card,
            last_pointer: CAPABILITIES,
        };
        space.header(chip);
        space.power_management();
        if card.express {
            space.express();
            // With a mask for its message since MPI 2.5.
            space.msi(0xa8, chip.ieee());
            space.msix(0xc0);
            space.advanced_errors();
        } else {
            space.pci_x();
            space.msi(0x98, false);
            space.msix(0xb0);
        }
        space
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    fn header(&mut self, chip: &Chip) {
        let card = self.card;
        self.put16(0x00, 0x1000);
        self.put16(0x02, chip.device_id);
        self.put16(0x06, STATUS_CAPABILITIES);
        self.put(0x08, &[chip.revision]);
        // Mass storage: serial attached SCSI since MPI 2, SCSI before.
        let subclass = if chip.is_mpi1() { 0x00 } else { 0x07 };
        self.put(0x09, &[0x00, subclass, 0x01]);
        self.put16(0x2c, 0x1000);
        self.put16(0x2e, chip.subsystem_id);
        // INTA.
        self.put(0x3d, &[1]);
        // I/O, memory, bus master, parity, SERR, INTx disable; cache line; latency; line.
        self.allow(COMMAND, &[0x47, 0x05]);
        self.allow(0x0c, &[0xff, if card.express { 0 } else { 0xf8 }]);
        self.allow(0x3c, &[0xff]);
        for (number, bar) in card.bars.iter().enumerate().filter(|(_, bar)| bar.bytes > 0) {
            let at = BARS + number * 4;
            self.put32(at, bar.kind);
            let io = bar.kind == IO_PORTS;
            self.allow(at, &(!(bar.bytes - 1) & if io { 0xffff_fffc } else { !0xf }).to_le_bytes());
            if bar.kind & MEMORY_64 != 0 && !io {
                self.allow(at + 4, &[0xff; 4]);
            }
        }
    }

    /// Appends a capability at `at` to the list; returns where its own bytes begin.
    fn capability(&mut self, at: usize, id: u8) -> usize {
        self.put(self.last_pointer, &[at as u8]);
        self.put(at, &[id, 0]);
        self.last_pointer = at + 1;
        at + 2
    }

    fn power_management(&mut self) {
        let at = self.capability(0x50, CAPABILITY_POWER_MANAGEMENT);
        // Version 3 (conventional cards: 2), D1 and D2 too.
        self.put16(at, if self.card.express { 0x0603 } else { 0x0602 });
        // A card that comes back from D3 needs no new set-up.
        self.put16(at + 2, 1 << 3);
        self.allow(at + 2, &[0x03]);
    }

    fn pci_x(&mut self) {
        let at = self.capability(0x68, CAPABILITY_PCI_X);
        // 2 KiB reads, 8 outstanding; 64 bits and 133 MHz; function 0 of no known bus.
        self.put16(at, 0x0048);
        self.put32(at + 2, 0x1a43_fff8);
        self.allow(at, &[0x7f]);
    }

    fn express(&mut self) {
        let (lanes, speed) = self.card.link;
        let at = self.capability(0x68, CAPABILITY_PCI_EXPRESS);
        // Version 2, endpoint.
        self.put16(at, 0x0002);
        // Payloads up to 4096 bytes, extended tags, role-based errors, function-level reset.
        self.put32(at + 2, 0x1000_8025);
        self.put16(at + 6, 0x2810);
        // All but the function-level reset, which is a deed and no setting.
        self.allow(at + 6, &[0xff, 0x7f]);
        let link = u32::from(lanes) << 4 | u32::from(speed);
        self.put32(at + 10, link | 0x0000_0c00);
        self.put16(at + 14, 0x0040);
        self.allow(at + 14, &[0xc3, 0x03]);
        self.put16(at + 16, link as u16);
        // Completion timeouts of all ranges, and their switching off.
        self.put32(at + 34, 0x0000_001f);
        self.allow(at + 38, &[0x1f]);
        self.put32(at + 42, ((1u32 << speed) - 1) << 1);
        self.put16(at + 46, speed.into());
        self.allow(at + 46, &[0x0f]);
    }

    fn msi(&mut self, at: usize, masked: bool) {
        let at = self.capability(at, CAPABILITY_MSI);
        // One message, 64-bit addresses.
        self.put16(at, if masked { 0x0180 } else { 0x0080 });
        self.allow(at, &[0x01]);
        self.allow(at + 2, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        if masked {
            self.allow(at + 14, &[0x01]);
        }
    }

    fn msix(&mut self, at: usize) {
        let (bar, table, pending) = self.card.table;
        let at = self.capability(at, CAPABILITY_MSIX);
        self.put16(at, self.card.msix - 1);
        self.allow(at + 1, &[0xc0]);
        self.put32(at + 2, table | u32::from(bar));
        self.put32(at + 6, pending | u32::from(bar));
    }

    fn advanced_errors(&mut self) {
        // Version 2, the only one in the list.
        self.put32(0x100, u32::from(EXTENDED_ADVANCED_ERRORS) | 2 << 16);
        self.put32(0x10c, 0x0046_2030);
        self.allow(0x108, &[0x10, 0xf0, 0x5f, 0x00]);
        self.allow(0x10c, &[0x10, 0xf0, 0x5f, 0x00]);
        self.put32(0x114, 0x0000_2000);
        self.allow(0x114, &[0xc1, 0x31]);
    }

    /// Bytes of the space: 256, or 4096 on PCIe.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a region is a BAR of I/O ports.
    pub(crate) fn has_ports(&self, region: u32) -> bool {
        self.bars().get(region as usize).is_some_and(|bar| bar.kind == IO_PORTS)
    }

    /// The base address registers.
    pub(crate) fn bars(&self) -> &[Bar; 6] {
        &self.card.bars
    }

    /// Messages of MSI-X.
    pub(crate) fn msix_vectors(&self) -> u16 {
        self.card.msix
    }

    /// Reads; zeros beyond the end.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        for (place, to) in bytes.iter_mut().enumerate() {
            *to = usize::try_from(at)
                .ok()
                .and_then(|at| self.bytes.get(at.checked_add(place)?))
                .copied()
                .unwrap_or(0);
        }
    }

    /// Writes the bits that can be written. True if that asks for a function-level reset.
    #[must_use]
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        let Ok(at) = usize::try_from(at) else { return false };
        let places = self.bytes.iter_mut().zip(&self.writable).skip(at);
        for ((place, writable), value) in places.zip(bytes) {
            *place = *place & !writable | value & writable;
        }
        let control = DEVICE_CONTROL_HIGH.checked_sub(at).and_then(|inside| bytes.get(inside));
        self.card.express && control.is_some_and(|control| control & INITIATE_RESET != 0)
    }

    /// Whether the host has the card be silent on its interrupt line.
    pub(crate) fn line_disabled(&self) -> bool {
        self.bytes[COMMAND + 1] & COMMAND_LINE_DISABLE != 0
    }

    /// Whether the host lets the card reach memory.
    pub(crate) fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le(space: &ConfigSpace, at: u64, bytes: usize) -> u64 {
        let mut word = [0; 8];
        space.read(at, &mut word[..bytes]);
        u64::from_le_bytes(word)
    }

    /// Ids of the capabilities, in the order of the list.
    fn capabilities(space: &ConfigSpace) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut at = le(space, 0x34, 1);
        while at != 0 {
            found.push((at, le(space, at, 1)));
            at = le(space, at + 1, 1);
            assert!(found.len() < 48, "the list has no end");
        }
        found
    }

    #[test]
    fn each_chip_has_the_capabilities_of_its_bus() {
        for chip in Chip::ALL {
            let space = ConfigSpace::new(&chip);
            let ids: Vec<u64> = capabilities(&space).iter().map(|(_, id)| *id).collect();
            let bus = if chip.is_mpi1() { 0x07 } else { 0x10 };
            assert_eq!(ids, [0x01, bus, 0x05, 0x11], "{}", chip.name);
            assert_eq!(space.len(), if chip.is_mpi1() { 256 } else { 4096 });
        }
    }

    #[test]
    fn capabilities_do_not_overlap() {
        for chip in Chip::ALL {
            let space = ConfigSpace::new(&chip);
            for pair in capabilities(&space).windows(2) {
                let bytes = match pair[0].1 {
                    0x01 | 0x07 => 8,
                    0x10 => 0x3c,
                    0x05 if chip.ieee() => 0x18,
                    0x05 => 0x0e,
                    other => panic!("capability {other:#x}"),
                };
                assert!(pair[0].0 + bytes <= pair[1].0, "{}: {pair:x?}", chip.name);
            }
        }
    }

    #[test]
    fn the_msix_table_lies_in_its_bar_and_before_its_pending_bits() {
        for chip in Chip::ALL {
            let space = ConfigSpace::new(&chip);
            let (bar, table, pending) = space.card.table;
            let vectors = u32::from(space.msix_vectors());
            assert!(vectors >= u32::from(chip.vectors), "{}", chip.name);
            assert!(table + vectors * 16 <= pending);
            assert!(pending + vectors.div_ceil(64) * 8 <= space.bars()[usize::from(bar)].bytes);
            assert_eq!(space.bars()[usize::from(bar)].behind, Behind::Registers);
        }
    }

    #[test]
    fn a_bar_tells_its_size_when_all_ones_are_written() {
        for chip in Chip::ALL {
            let mut space = ConfigSpace::new(&chip);
            for (number, bar) in
                card(&chip).bars.iter().enumerate().filter(|(_, bar)| bar.bytes > 0)
            {
                let at = 0x10 + number as u64 * 4;
                assert!(!space.write(at, &[0xff; 4]));
                let kind_bits = if bar.kind == IO_PORTS { 0x3 } else { 0xf };
                let answer = le(&space, at, 4) as u32;
                assert_eq!(answer & kind_bits, bar.kind, "{} BAR {number}", chip.name);
                assert_eq!(!(answer & !kind_bits), bar.bytes - 1, "{} BAR {number}", chip.name);
            }
        }
    }

    #[test]
    fn a_function_level_reset_can_be_asked_for_where_there_is_one() {
        for chip in Chip::ALL {
            let mut space = ConfigSpace::new(&chip);
            assert_eq!(space.write(0x70, &[0x10, 0xa8]), !chip.is_mpi1(), "{}", chip.name);
            assert!(!space.write(0x70, &[0x10, 0x28]));
        }
    }

    #[test]
    fn ids_cannot_be_written_and_bus_mastering_can() {
        let mut space = ConfigSpace::new(&Chip::SAS3008);
        assert!(!space.bus_master());
        assert!(!space.write(0, &[0xff; 64]));
        assert_eq!(le(&space, 0, 4), 0x0097_1000);
        assert!(space.bus_master());
        assert!(!space.write(4094, &[0xff; 8]));
        assert_eq!(le(&space, u64::MAX, 4), 0);
    }
}
