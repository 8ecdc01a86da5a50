//! Where a slot is in the fabric: enclosure, bay, parent, phy and port, and who sits at the other
//! end of each of the controller's phys.

use super::{Device, Devices, Expander};

/// The controller's own SAS address.
pub(crate) const CONTROLLER_SAS_ADDRESS: u64 = 0x5006_05b0_0123_4560;
/// The handle of the enclosure that the controller's own phys make up.
pub(crate) const ENCLOSURE_HANDLE: u16 = 1;
/// The handle of the expander's enclosure.
pub(crate) const EXPANDER_ENCLOSURE_HANDLE: u16 = 2;
/// Phys of the wide port that leads to the expander: the controller's last.
pub(crate) const WIDE_PORT_PHYS: u8 = 4;

/// The expander's SAS address.
const EXPANDER_SAS_ADDRESS: u64 = 0x5006_05b0_0765_43bf;
/// SATA bridges of the expander: the expander's phy is added.
const BRIDGE_SAS_ADDRESS: u64 = 0x5006_05b0_0765_4380;
/// What firmware calls a SATA disk on its own phy: the phy is added in bits 31:24.
const DIRECT_SATA_ADDRESS: u64 = 0x4433_2211_0000_0000;

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) enclosure: u16,
    /// Slot in the enclosure.
    pub(crate) bay: u16,
    /// Handle of the controller's phy or of the expander.
    pub(crate) parent: u16,
    /// Phy of the parent.
    pub(crate) phy: u8,
    /// Port of the controller.
    pub(crate) port: u8,
}

/// An enclosure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enclosure {
    pub(crate) handle: u16,
    pub(crate) logical_id: u64,
    pub(crate) slots: u16,
    /// How it is managed (`MPI2_SAS_ENCLS0_FLAGS_MNG_*`).
    pub(crate) management: u16,
    /// Port of the controller that leads to it.
    pub(crate) port: u8,
    /// The controller's phys that lead to it.
    pub(crate) phy_bits: u32,
}

/// Who is at the other end of one of the controller's phys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Neighbour<'d> {
    Nobody,
    Disk(&'d Device),
    /// The expander, and its phy.
    Expander(Expander, u8),
}

impl Neighbour<'_> {
    /// DevHandle, 0 for nobody.
    pub(crate) fn handle(&self) -> u16 {
        match self {
            Neighbour::Nobody => 0,
            Neighbour::Disk(device) => device.handle,
            Neighbour::Expander(expander, _) => expander.handle,
        }
    }
}

impl Expander {
    /// Its phys: the bays', then the wide port's.
    pub(crate) fn phys(self) -> u8 {
        self.bays + WIDE_PORT_PHYS
    }

    /// Its SAS address.
    pub(crate) fn sas_address(self) -> u64 {
        EXPANDER_SAS_ADDRESS
    }
}

impl Devices {
    /// The first phy of the wide port, also the port's number.
    pub(crate) fn wide_port(&self) -> u8 {
        self.phys().saturating_sub(WIDE_PORT_PHYS)
    }

    /// Whether a phy of the controller belongs to the wide port.
    pub(crate) fn is_wide_port(&self, phy: u8) -> bool {
        self.expander().is_some() && (self.wide_port()..self.phys()).contains(&phy)
    }

    /// The port that a phy of the controller belongs to.
    pub(crate) fn port(&self, phy: u8) -> u8 {
        if self.is_wide_port(phy) { self.wide_port() } else { phy }
    }

    /// The handle of a phy of the controller.
    pub(crate) fn controller_handle(&self, phy: u8) -> u16 {
        u16::from(phy) + 1
    }

    /// Where a slot is.
    pub(crate) fn place(&self, slot: u8) -> Place {
        match self.expander() {
            Some(expander) if slot >= self.phys() => Place {
                enclosure: EXPANDER_ENCLOSURE_HANDLE,
                bay: u16::from(slot - self.phys()),
                parent: expander.handle,
                phy: slot - self.phys(),
                port: self.wide_port(),
            },
            _ => Place {
                enclosure: ENCLOSURE_HANDLE,
                bay: slot.into(),
                parent: self.controller_handle(slot),
                phy: slot,
                port: slot,
            },
        }
    }

    /// The SAS address under which a disk is reached. That of a SATA disk is its place's.
    pub(crate) fn sas_address(&self, device: &Device) -> u64 {
        let config = device.target.config();
        let place = self.place(device.slot);
        match (config.sata, place.enclosure) {
            (false, _) => config.sas_address,
            (true, ENCLOSURE_HANDLE) => DIRECT_SATA_ADDRESS | u64::from(place.phy) << 24,
            (true, _) => BRIDGE_SAS_ADDRESS + u64::from(place.phy),
        }
    }

    /// Who is at the other end of a phy of the controller.
    pub(crate) fn neighbour(&self, phy: u8) -> Neighbour<'_> {
        match (self.expander(), self.slot(phy)) {
            (Some(expander), _) if self.is_wide_port(phy) => {
                Neighbour::Expander(expander, expander.bays + phy - self.wide_port())
            }
            (_, Some(device)) if phy < self.phys() && !self.is_off(phy) => Neighbour::Disk(device),
            _ => Neighbour::Nobody,
        }
    }

    /// The enclosures: the controller's own, and the expander's.
    pub(crate) fn enclosures(&self) -> impl Iterator<Item = Enclosure> {
        let own = match self.expander() {
            Some(_) => self.wide_port(),
            None => self.phys(),
        };
        let direct = Enclosure {
            handle: ENCLOSURE_HANDLE,
            logical_id: CONTROLLER_SAS_ADDRESS,
            slots: own.into(),
            // By the controller's own firmware, through SGPIO.
            management: 2,
            port: 0,
            phy_bits: (1 << own) - 1,
        };
        let far = self.expander().map(|expander| Enclosure {
            handle: EXPANDER_ENCLOSURE_HANDLE,
            logical_id: expander.sas_address(),
            slots: expander.bays.into(),
            // By the expander, through SGPIO: there is no enclosure processor.
            management: 3,
            port: self.wide_port(),
            phy_bits: ((1 << WIDE_PORT_PHYS) - 1) << self.wide_port(),
        });
        [Some(direct), far].into_iter().flatten()
    }
}
