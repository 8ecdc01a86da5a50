//! The controller's phys: their links, who is at the other end, and what went wrong on the way.

use fusion_mpt::wire::config::pages::{DeviceInfo, LinkRate, entries, mpi1, mpi2};
use fusion_mpt::wire::config::{ExtPageType, page_address};
use serde::Serialize;

use super::page::{Page, Pages, name};
use crate::error::Error;

/// Errors that a phy has counted since the controller started (SAS phy page 1; SPL-4, phy error
/// counters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PhyErrors {
    /// Words that were none.
    pub invalid_dwords: u32,
    /// Words with the wrong running disparity.
    pub disparity_errors: u32,
    /// Times that word synchronisation was lost.
    pub sync_losses: u32,
    /// Resets of the phy that did not succeed.
    pub reset_problems: u32,
}

/// A phy, of the controller or of an expander.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phy {
    /// Its number.
    pub phy: u8,
    /// The port that it belongs to.
    pub port: u8,
    /// The link in words: its rate, or why there is none.
    pub link: &'static str,
    /// Whether the link works.
    pub up: bool,
    /// Megabits per second of the link, while it works.
    pub megabits: Option<u32>,
    /// DevHandle of the neighbour.
    pub attached_handle: Option<u16>,
    /// The neighbour's phy.
    pub attached_phy: Option<u8>,
    /// SAS address of the neighbour.
    pub attached_sas_address: Option<String>,
    /// What the neighbour is.
    pub attached: Option<&'static str>,
    /// DevHandle under which the controller is known here, or the expander's.
    pub controller_handle: u16,
    /// The least and the greatest rate that the phy is set to negotiate, in words.
    pub programmed: Option<String>,
    /// The least and the greatest rate that the hardware can.
    pub hardware: Option<String>,
    /// Times that the link has changed.
    pub changes: Option<u8>,
    /// Errors counted.
    pub errors: Option<PhyErrors>,
}

/// Megabits per second of a negotiated rate (`MPI2_SAS_NEG_LINK_RATE_*`).
#[must_use]
pub(super) const fn megabits(rate: LinkRate) -> Option<u32> {
    match LinkRate(rate.0 & 0x0f) {
        LinkRate::RATE_1_5 => Some(1_500),
        LinkRate::RATE_3_0 => Some(3_000),
        LinkRate::RATE_6_0 => Some(6_000),
        LinkRate::RATE_12_0 => Some(12_000),
        LinkRate::RATE_22_5 => Some(22_500),
        _ => None,
    }
}

/// A pair of rates, the greatest in the high nibble: `1.5 Gbit/s to 12 Gbit/s`; `None` where a rate
/// is none.
pub(super) fn range(rates: u8) -> Option<String> {
    let (least, greatest) = (LinkRate(rates & 0x0f), LinkRate(rates >> 4));
    (least.is_up() && greatest.is_up()).then(|| format!("{} to {}", least.name(), greatest.name()))
}

/// What a neighbour is, by its `DeviceInfo`.
pub(super) fn kind(info: u32) -> Option<&'static str> {
    let info = DeviceInfo::from_bits_retain(info);
    Some(match info.device_type() {
        0 => return None,
        2 => "expander",
        3 => "fanout expander",
        _ if info.contains(DeviceInfo::SEP) => "enclosure processor",
        _ if info.is_sata() => "SATA device",
        _ if info.contains(DeviceInfo::SSP_TARGET) => "SAS target",
        _ if info.contains(DeviceInfo::SSP_INITIATOR) => "initiator",
        _ => "end device",
    })
}

/// SAS phy page 1, whose counters stand at the same place in both generations.
pub(super) fn errors(page: &Page) -> Option<PhyErrors> {
    Some(PhyErrors {
        invalid_dwords: page.u32(0x0c)?,
        disparity_errors: page.u32(0x10)?,
        sync_losses: page.u32(0x14)?,
        reset_problems: page.u32(0x18)?,
    })
}

impl Phy {
    /// A phy with a link in this state and this neighbour.
    pub(super) fn new(phy: u8, port: u8, rate: u8, attached: u16, own: u16) -> Self {
        let rate = LinkRate(rate & 0x0f);
        Self {
            phy,
            port,
            link: rate.name(),
            up: rate.is_up(),
            megabits: megabits(rate),
            attached_handle: Some(attached).filter(|handle| *handle != 0),
            attached_phy: None,
            attached_sas_address: None,
            attached: None,
            controller_handle: own,
            programmed: None,
            hardware: None,
            changes: None,
            errors: None,
        }
    }
}

/// The controller's phys; `None` without SAS IO unit page 0.
pub(super) fn of_controller(pages: &mut Pages<'_>) -> Result<Option<Vec<Phy>>, Error> {
    let Some(unit) = pages.extended(ExtPageType::SAS_IO_UNIT, 0, 0)? else { return Ok(None) };
    let mpi1 = pages.is_mpi1();
    let mut phys = if mpi1 { mpi1_phys(&unit) } else { mpi2_phys(&unit) };
    let settings = pages.extended(ExtPageType::SAS_IO_UNIT, 1, 0)?;
    for phy in &mut phys {
        let address = page_address::sas_phy(phy.phy);
        let zero = pages.extended(ExtPageType::SAS_PHY, 0, address)?;
        match zero {
            Some(page) if mpi1 => mpi1_phy(phy, &page),
            Some(page) => mpi2_phy(phy, &page),
            None => {}
        }
        if phy.programmed.is_none() {
            phy.programmed = settings.as_ref().and_then(|page| set_rates(page, phy.phy));
        }
        let one = pages.extended(ExtPageType::SAS_PHY, 1, address)?;
        phy.errors = one.as_ref().and_then(errors);
        if let Some(handle) = phy.attached_handle {
            neighbour(pages, phy, handle)?;
        }
    }
    Ok(Some(phys))
}

/// Who the neighbour is, from its SAS device page 0, which has name and kind at the same place in
/// both generations.
fn neighbour(pages: &mut Pages<'_>, phy: &mut Phy, handle: u16) -> Result<(), Error> {
    let address = page_address::sas_device(handle);
    let Some(page) = pages.extended(ExtPageType::SAS_DEVICE, 0, address)? else { return Ok(()) };
    phy.attached_sas_address = page.u64(0x0c).and_then(name);
    phy.attached = page.u32(0x1c).and_then(kind).or(phy.attached);
    Ok(())
}

fn mpi1_phys(page: &Page) -> Vec<Phy> {
    let unit: mpi1::SasIoUnit0 = page.wire();
    let entries = entries::<mpi1::SasIoUnit0Phy>(page.bytes(), 0x10, unit.num_phys);
    let phys = (0..).zip(entries).map(|(number, entry)| {
        let rate = if entry.phy_flags & 0x04 != 0 { 1 } else { entry.negotiated_link_rate };
        let (attached, own) = (entry.attached_dev_handle.get(), entry.controller_dev_handle.get());
        Phy::new(number, entry.port, rate, attached, own)
    });
    phys.collect()
}

fn mpi2_phys(page: &Page) -> Vec<Phy> {
    let unit: mpi2::SasIoUnit0 = page.wire();
    let entries = entries::<mpi2::SasIoUnit0Phy>(page.bytes(), 0x10, unit.num_phys);
    let phys = (0..).zip(entries).map(|(number, entry)| {
        let rate = if entry.phy_flags & 0x08 != 0 { 1 } else { entry.negotiated_link_rate };
        let (attached, own) = (entry.attached_dev_handle.get(), entry.controller_dev_handle.get());
        Phy::new(number, entry.port, rate, attached, own)
    });
    phys.collect()
}

fn mpi1_phy(phy: &mut Phy, page: &Page) {
    let of: mpi1::SasPhy0 = page.wire();
    phy.programmed = range(of.programmed_link_rate);
    phy.hardware = range(of.hw_link_rate);
    phy.changes = Some(of.change_count);
    phy.attached = kind(of.attached_device_info.get());
    phy.attached_phy = phy.attached_handle.map(|_| of.attached_phy_identifier);
}

fn mpi2_phy(phy: &mut Phy, page: &Page) {
    let of: mpi2::SasPhy0 = page.wire();
    phy.programmed = range(of.programmed_link_rate);
    phy.hardware = range(of.hw_link_rate);
    phy.changes = Some(of.change_count);
    phy.attached_phy = phy.attached_handle.map(|_| of.attached_phy_identifier);
}

/// The rates that a phy is set to, from SAS IO unit page 1, which has them at the same place in both
/// generations.
fn set_rates(page: &Page, phy: u8) -> Option<String> {
    let unit: mpi2::SasIoUnit1 = page.wire();
    let mut entries = entries::<mpi2::SasIoUnit1Phy>(page.bytes(), 0x14, unit.num_phys);
    entries.nth(phy.into()).and_then(|entry| range(entry.max_min_link_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disabled_phy_is_told_as_such_whatever_its_rate_says() {
        let mut page = vec![0; 0x10 + 0x14];
        page[0x0c] = 1;
        page[0x12] = 0x08;
        page[0x13] = 0xbb;
        let phys = mpi2_phys(&Page::new(page));
        assert_eq!(
            phys.iter().map(|phy| (phy.link, phy.up)).collect::<Vec<_>>(),
            [("phy disabled", false)]
        );
    }

    #[test]
    fn rates_are_told_from_the_least_to_the_greatest() {
        assert_eq!(range(0xb8).as_deref(), Some("1.5 Gbit/s to 12 Gbit/s"));
        assert_eq!((range(0), range(0xb0)), (None, None));
    }

    #[test]
    fn neighbours_are_named_by_what_they_are() {
        assert_eq!(kind(0x0401), Some("SAS target"));
        assert_eq!(kind(0x0081), Some("SATA device"));
        assert_eq!(kind(0x0102), Some("expander"));
        assert_eq!(kind(0x4401), Some("enclosure processor"));
        assert_eq!(kind(0), None);
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_and_length_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let page = Page::new(bytes);
            for mut phy in mpi1_phys(&page).into_iter().chain(mpi2_phys(&page)) {
                mpi1_phy(&mut phy, &page);
                mpi2_phy(&mut phy, &page);
                let _ = (set_rates(&page, phy.phy), errors(&page));
            }
        }
    }
}
