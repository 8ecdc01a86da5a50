//! Expanders and enclosures.

use fusion_mpt::wire::config::pages::{mpi1, mpi2};
use fusion_mpt::wire::config::{ExtPageType, PageId, page_address};
use serde::Serialize;

use super::links::{Phy, kind, range};
use super::page::{Page, Pages, name};
use crate::error::Error;

/// An expander (SAS expander pages 0 and 1).
#[derive(Clone, Debug, Serialize)]
pub struct Expander {
    /// DevHandle.
    pub handle: u16,
    /// SAS address.
    pub sas_address: Option<String>,
    /// Handle of its enclosure.
    pub enclosure_handle: u16,
    /// DevHandle of the expander or controller before it.
    pub parent_handle: u16,
    /// Port of the controller that it is reached by.
    pub port: u8,
    /// Its distance from the controller.
    pub level: u8,
    /// Times that it has changed.
    pub changes: u16,
    /// How many phys it has.
    pub phy_count: u8,
    /// Those that it tells of.
    pub phys: Vec<Phy>,
}

/// An enclosure (SAS enclosure page 0).
#[derive(Clone, Debug, Serialize)]
pub struct Enclosure {
    /// Handle.
    pub handle: u16,
    /// Its logical id.
    pub logical_id: Option<String>,
    /// How it is managed.
    pub management: &'static str,
    /// How many slots it has.
    pub slots: u16,
    /// The number of the first one.
    pub first_slot: u16,
    /// Handle of its processor (MPI 2.x).
    pub processor_handle: Option<u16>,
}

pub(super) fn expanders(pages: &mut Pages<'_>) -> Result<Vec<Expander>, Error> {
    let id = PageId::extended(ExtPageType::SAS_EXPANDER, 0);
    let found = pages.list(id, |page| page.u16(0x18))?;
    let mut expanders = Vec::new();
    for (handle, page) in found {
        let mut expander = expander(handle, &page);
        for phy in 0..expander.phy_count {
            let address = page_address::expander_phy(handle, phy);
            let Some(page) = pages.extended(ExtPageType::SAS_EXPANDER, 1, address)? else { break };
            expander.phys.extend(expander_phy(handle, phy, &page));
        }
        expanders.push(expander);
    }
    Ok(expanders)
}

fn expander(handle: u16, page: &Page) -> Expander {
    // Up to the flags, which are not shown, both generations have the same layout.
    let of: mpi1::SasExpander0 = page.wire();
    const {
        let at = std::mem::offset_of!(mpi1::SasExpander0, sas_level);
        assert!(at == std::mem::offset_of!(mpi2::SasExpander0, sas_level));
    }
    Expander {
        handle,
        sas_address: name(of.sas_address.get()),
        enclosure_handle: of.enclosure_handle.get(),
        parent_handle: of.parent_dev_handle.get(),
        port: of.physical_port,
        level: of.sas_level,
        changes: of.expander_change_count.get(),
        phy_count: of.num_phys,
        phys: Vec::new(),
    }
}

/// SAS expander page 1: up to the negotiated rate and the neighbour's phy both generations have the
/// same layout (`NegotiatedLinkRate` at 0x1F, `AttachedPhyIdentifier` at 0x21).
fn expander_phy(handle: u16, number: u8, page: &Page) -> Option<Phy> {
    let attached = page.u16(0x12)?;
    let mut phy = Phy::new(number, page.u8(0x08)?, page.u8(0x1f)?, attached, handle);
    phy.programmed = range(page.u8(0x10)?);
    phy.hardware = range(page.u8(0x11)?);
    phy.attached = page.u32(0x18).and_then(kind);
    phy.attached_phy = phy.attached_handle.and(page.u8(0x21));
    phy.changes = page.u8(0x1e);
    Some(phy)
}

pub(super) fn enclosures(pages: &mut Pages<'_>) -> Result<Vec<Enclosure>, Error> {
    let id = PageId::extended(ExtPageType::ENCLOSURE, 0);
    let found = pages.list(id, |page| page.u16(0x16))?;
    let mpi1 = pages.is_mpi1();
    Ok(found.into_iter().map(|(handle, page)| enclosure(handle, mpi1, &page)).collect())
}

fn enclosure(handle: u16, mpi1: bool, page: &Page) -> Enclosure {
    let of: mpi2::Enclosure0 = page.wire();
    let processor = of.sep_dev_handle.get();
    Enclosure {
        handle,
        logical_id: name(of.enclosure_logical_id.get()),
        // MPI2_SAS_ENCLS0_FLAGS_MNG_*, the same in both generations as far as both have them.
        management: match of.flags.get() & 0x0f {
            1 => "SES by the IOC",
            2 => "SGPIO by the IOC",
            3 => "SGPIO by the expander",
            4 => "SES by the enclosure",
            5 => "GPIO by the IOC",
            _ => "unknown",
        },
        slots: of.num_slots.get(),
        first_slot: of.start_slot.get(),
        processor_handle: (!mpi1 && processor != 0).then_some(processor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_enclosure_is_told_by_its_logical_id_and_slots() {
        let mut page = vec![0; 0x28];
        page[0x0c] = 0x10;
        page[0x13] = 0x50;
        page[0x14] = 2;
        page[0x16] = 1;
        page[0x18] = 8;
        page[0x1a] = 1;
        let found = enclosure(1, false, &Page::new(page));
        assert_eq!(found.logical_id.as_deref(), Some("5000000000000010"));
        assert_eq!((found.slots, found.first_slot, found.management), (8, 1, "SGPIO by the IOC"));
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_and_length_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let page = Page::new(bytes);
            let _ = (expander(1, &page), expander_phy(1, 2, &page), enclosure(3, true, &page));
        }
    }
}
