//! The little of PCI firmware that the controller needs: find it, give it addresses, route its
//! interrupt.
//!
//! Configuration space is reached through the two ports of configuration mechanism 1 (PCI Local
//! Bus Specification 3.0, section 3.2.2.3.2).

use super::connection::Connection;
use crate::bus::BusError;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Standard configuration header registers, in bytes.
mod header {
    pub(super) const ID: u8 = 0x00;
    pub(super) const COMMAND: u8 = 0x04;
    pub(super) const BAR0: u8 = 0x10;
    pub(super) const BAR1: u8 = 0x14;
    pub(super) const BAR2: u8 = 0x18;
}

/// I/O space, memory space and bus master enable; INTx is not disabled.
const COMMAND_ENABLE: u32 = 0x0007;

/// Where the BARs go: into the hole below 4 GiB, which no memory size that the options allow
/// reaches. BAR0 is 256 bytes of ports, BAR1 0x4000 bytes of registers, BAR2 64 KiB of diagnostic
/// memory.
const PORTS: u32 = 0xc000;
const REGISTERS: u32 = 0xe000_0000;
const DIAGNOSTIC: u32 = 0xe010_0000;

/// LSI SAS1068, the only Fusion-MPT controller QEMU has.
const VENDOR: u16 = 0x1000;
const DEVICE: u16 = 0x0054;

/// The south bridge (82371SB) and its PIRQ route control registers: each of the four bytes names
/// the interrupt that a PCI interrupt line arrives at.
const SOUTH_BRIDGE: u32 = 0x7000_8086;
const PIRQ_ROUTES: u8 = 0x60;
const INTERRUPT: u32 = 11;

/// A PCI function with its resources assigned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function {
    /// Device number on bus 0.
    #[expect(dead_code, reason = "for `Debug`")]
    pub(super) slot: u8,
    /// PCI vendor id.
    pub(super) vendor: u16,
    /// PCI device id.
    pub(super) device: u16,
    /// Physical address of the register window.
    pub(super) registers: u32,
}

/// Finds the controller on bus 0, programs its BARs and its command register, and has its
/// interrupt line reported.
pub(super) fn assign(connection: &Connection) -> Result<Function, BusError> {
    let config = Config(connection);
    let controller = u32::from(DEVICE) << 16 | u32::from(VENDOR);
    let slot = config.find(controller).ok_or_else(|| {
        BusError(format!(
            "QEMU runs, but there is no controller {VENDOR:04x}:{DEVICE:04x} on its PCI bus 0; \
             check the extra arguments it was given"
        ))
    })?;
    if let Some(bridge) = config.find(SOUTH_BRIDGE) {
        config.write(bridge, PIRQ_ROUTES, INTERRUPT * 0x0101_0101);
    }
    config.write(slot, header::BAR0, PORTS);
    config.write(slot, header::BAR1, REGISTERS);
    config.write(slot, header::BAR2, DIAGNOSTIC);
    config.write(slot, header::COMMAND, COMMAND_ENABLE);
    let assigned = config.read(slot, header::BAR1);
    if assigned & !0xf != REGISTERS {
        return Err(BusError(format!(
            "the controller at PCI slot {slot} was given {REGISTERS:#x} for its registers (BAR1), \
             but reads back {assigned:#x}; this QEMU's model differs from the one known here"
        )));
    }
    connection.watch_interrupts();
    Ok(Function { slot, vendor: VENDOR, device: DEVICE, registers: REGISTERS })
}

/// Configuration space of function 0 of each device on bus 0.
struct Config<'a>(&'a Connection);

impl Config<'_> {
    /// The device whose device and vendor id, as one word, are `id`.
    fn find(&self, id: u32) -> Option<u8> {
        (0..32).find(|slot| self.read(*slot, header::ID) == id)
    }

    fn select(&self, slot: u8, register: u8) {
        let address = 0x8000_0000 | u32::from(slot) << 11 | u32::from(register & !3);
        self.0.write_port(CONFIG_ADDRESS, address);
    }

    fn read(&self, slot: u8, register: u8) -> u32 {
        self.select(slot, register);
        self.0.read_port(CONFIG_DATA)
    }

    fn write(&self, slot: u8, register: u8, value: u32) {
        self.select(slot, register);
        self.0.write_port(CONFIG_DATA, value);
    }
}
