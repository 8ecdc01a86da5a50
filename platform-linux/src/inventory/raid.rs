//! RAID volumes of controllers whose firmware has them, and the disks that they are made of.

use fusion_mpt::wire::config::{PageId, PageType, page_address};
use serde::Serialize;

use super::page::{Page, Pages, name};
use crate::error::Error;

/// A RAID volume (RAID volume pages 0 and 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// DevHandle (MPI 2.x), or bus and target id as one number (MPI 1.x).
    pub handle: u16,
    /// `RAID 1`, ...
    pub level: &'static str,
    /// How it is: `optimal`, `degraded`, ...
    pub state: &'static str,
    /// What is under way or wrong besides.
    pub flags: Vec<&'static str>,
    /// World wide id.
    pub wwid: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Bytes; `None` where the block size is not told.
    pub bytes: Option<u64>,
    /// Blocks of a stripe; 0 where there are none.
    pub stripe_blocks: u32,
    /// Numbers of the disks that it is made of, as in [`Member::number`].
    pub members: Vec<u8>,
}

/// A disk of a volume, or a spare (RAID physical disk page 0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// `PhysDiskNum`.
    pub number: u8,
    /// DevHandle (MPI 2.x), or bus and target id as one number (MPI 1.x); `None` if it is missing.
    pub handle: Option<u16>,
    /// How it is: `optimal`, `missing`, ...
    pub state: &'static str,
    /// T10 vendor identification.
    pub vendor: Option<String>,
    /// Product identification.
    pub product: Option<String>,
    /// Product revision level.
    pub revision: Option<String>,
    /// Unit serial number.
    pub serial: Option<String>,
    /// Bytes; `None` where it is not told.
    pub bytes: Option<u64>,
}

/// All volumes and members that the controller tells of.
pub(super) fn of(pages: &mut Pages<'_>) -> Result<(Vec<Volume>, Vec<Member>), Error> {
    let mpi1 = pages.is_mpi1();
    let volumes = if mpi1 { mpi1_volumes(pages)? } else { mpi2_volumes(pages)? };
    let mut numbers: Vec<u8> = volumes.iter().flat_map(|volume| volume.members.clone()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut members = Vec::new();
    for number in numbers {
        let address = match mpi1 {
            true => number.into(),
            false => page_address::raid_phys_disk(number),
        };
        let Some(page) = pages.plain(PageType::RAID_PHYS_DISK, 0, address)? else { continue };
        members.extend(if mpi1 { mpi1_member(number, &page) } else { mpi2_member(number, &page) });
    }
    Ok((volumes, members))
}

fn mpi2_volumes(pages: &mut Pages<'_>) -> Result<Vec<Volume>, Error> {
    let id = PageId::plain(PageType::RAID_VOLUME, 0);
    let found = pages.list(id, |page| page.u16(4))?;
    let mut volumes = Vec::new();
    for (handle, page) in found {
        let Some(mut volume) = mpi2_volume(handle, &page) else { continue };
        let address = page_address::raid_volume(handle);
        if let Some(page) = pages.plain(PageType::RAID_VOLUME, 1, address)? {
            volume.name = page.text(0x20, 16);
            volume.wwid = page.u64(0x30).and_then(name);
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// RAID volume page 0 of MPI 2.x (`MPI2_RAID_VOL_TYPE_*`, `MPI2_RAID_VOL_STATE_*`).
fn mpi2_volume(handle: u16, page: &Page) -> Option<Volume> {
    let blocks = page.u64(0x10)?.checked_add(1);
    let block_bytes = page.u16(0x1c).filter(|bytes| *bytes != 0);
    Some(Volume {
        handle,
        level: match page.u8(7)? {
            0 => "RAID 0",
            1 => "RAID 1E",
            2 => "RAID 1",
            5 => "RAID 10",
            _ => "unknown",
        },
        state: match page.u8(6)? {
            0 => "missing",
            1 => "failed",
            2 => "initialising",
            3 => "online",
            4 => "degraded",
            5 => "optimal",
            _ => "unknown",
        },
        flags: names(
            page.u32(8)?,
            &[
                (1 << 1, "quiesced"),
                (1 << 2, "inactive"),
                (1 << 3, "bad block table full"),
                (1 << 16, "resynchronising"),
                (1 << 17, "initialising in the background"),
                (1 << 18, "expanding"),
                (1 << 19, "checking consistency"),
                (1 << 20, "scrubbing"),
            ],
        ),
        wwid: None,
        name: None,
        bytes: blocks.zip(block_bytes).and_then(|(blocks, each)| blocks.checked_mul(each.into())),
        stripe_blocks: page.u32(0x18)?,
        members: members(page, page.u8(0x24)?, 2),
    })
}

/// RAID physical disk page 0 of MPI 2.x (`MPI2_RAID_PD_STATE_*`, `MPI2_PHYSDISK0_OFFLINE_*`).
fn mpi2_member(number: u8, page: &Page) -> Option<Member> {
    let handle = page.u16(4)?;
    let (vendor, product, revision, serial) = inquiry(page, 0x10);
    let blocks = page.u64(0x58).filter(|last| *last != 0).and_then(|last| last.checked_add(1));
    let block_bytes = page.u16(0x70).filter(|bytes| *bytes != 0);
    Some(Member {
        number,
        handle: Some(handle).filter(|handle| *handle != 0),
        state: match (page.u8(0x50)?, page.u8(0x51)) {
            (0, _) => "not configured",
            (1, _) => "not compatible",
            (2, Some(1)) => "missing",
            (2, Some(3)) => "failed",
            (2, _) => "offline",
            (3, _) => "online",
            (4, _) => "hot spare",
            (5, _) => "degraded",
            (6, _) => "rebuilding",
            (7, _) => "optimal",
            _ => "unknown",
        },
        vendor,
        product,
        revision,
        serial,
        bytes: blocks.zip(block_bytes).and_then(|(blocks, each)| blocks.checked_mul(each.into())),
    })
}

/// IOC page 2 lists the volumes of MPI 1.x; each has its own RAID volume pages.
fn mpi1_volumes(pages: &mut Pages<'_>) -> Result<Vec<Volume>, Error> {
    let Some(list) = pages.plain(PageType::IOC, 2, 0)? else { return Ok(Vec::new()) };
    let mut volumes = Vec::new();
    for at in (0x0c..).step_by(8).take(list.u8(8).unwrap_or(0).into()) {
        let (Some(id), Some(bus)) = (list.u8(at), list.u8(at + 1)) else { break };
        let address = page_address::raid_volume_at(bus, id);
        let Some(page) = pages.plain(PageType::RAID_VOLUME, 0, address)? else { continue };
        let Some(mut volume) = mpi1_volume(u16::from(bus) << 8 | u16::from(id), &page) else {
            continue;
        };
        if let Some(page) = pages.plain(PageType::RAID_VOLUME, 1, address)? {
            volume.name = page.text(0x20, 32);
            volume.wwid = page.u64(0x40).and_then(name);
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// RAID volume page 0 of MPI 1.x (`MPI_RAID_VOL_TYPE_*`, `MPI_RAIDVOL0_STATUS_*`). Its blocks have
/// 512 bytes.
fn mpi1_volume(handle: u16, page: &Page) -> Option<Volume> {
    let blocks = (u64::from(page.u32(0x14)?) << 32 | u64::from(page.u32(0x10)?)).checked_add(1);
    Some(Volume {
        handle,
        level: match page.u8(7)? {
            0 => "RAID 0",
            1 => "RAID 1E",
            2 => "RAID 1",
            3 => "RAID 5",
            4 => "RAID 6",
            5 => "RAID 10",
            6 => "RAID 50",
            _ => "unknown",
        },
        state: match page.u8(9)? {
            0 => "optimal",
            1 => "degraded",
            2 => "failed",
            3 => "missing",
            _ => "unknown",
        },
        flags: names(
            page.u8(8)?.into(),
            &[
                (1 << 1, "quiesced"),
                (1 << 2, "resynchronising"),
                (1 << 3, "inactive"),
                (1 << 4, "bad block table full"),
            ],
        ),
        wwid: None,
        name: None,
        bytes: blocks.and_then(|blocks| blocks.checked_mul(512)),
        stripe_blocks: page.u32(0x18)?,
        members: members(page, page.u8(0x24)?, 3),
    })
}

/// RAID physical disk page 0 of MPI 1.x (`MPI_PHYSDISK0_STATUS_*`).
fn mpi1_member(number: u8, page: &Page) -> Option<Member> {
    let (vendor, product, revision, serial) = inquiry(page, 0x28);
    let state = page.u8(0x65)?;
    let handle = u16::from(page.u8(5)?) << 8 | u16::from(page.u8(4)?);
    let last = page.u32(0x68).filter(|last| *last != 0).map(u64::from);
    Some(Member {
        number,
        handle: (state != 1).then_some(handle),
        state: match state {
            0 => "online",
            1 => "missing",
            2 => "not compatible",
            3 => "failed",
            4 => "initialising",
            5 => "offline on request",
            6 => "failed on request",
            _ => "offline",
        },
        vendor,
        product,
        revision,
        serial,
        bytes: last.map(|last| (last + 1) * 512),
    })
}

type Inquiry = (Option<String>, Option<String>, Option<String>, Option<String>);

/// Vendor, product, revision and serial number, in fields of 8, 16, 4 and 32 bytes in both
/// generations.
fn inquiry(page: &Page, at: usize) -> Inquiry {
    let field = |offset: usize, bytes| page.text(at + offset, bytes);
    (field(0, 8), field(8, 16), field(0x18, 4), field(0x1c, 32))
}

/// Numbers of the disks of a volume: entries of four bytes from 0x28 on, the number at `at`.
fn members(page: &Page, count: u8, at: usize) -> Vec<u8> {
    (0..usize::from(count)).map_while(|index| page.u8(0x28 + 4 * index + at)).collect()
}

fn names(bits: u32, names: &[(u32, &'static str)]) -> Vec<&'static str> {
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mirror_of_mpi1_is_told_with_its_state_and_disks() {
        let mut page = vec![0; 0x30];
        page[7] = 2;
        page[8] = 0x05;
        page[9] = 1;
        page[0x10] = 0xff;
        page[0x24] = 2;
        [page[0x2b], page[0x2f]] = [4, 7];
        let volume = mpi1_volume(3, &Page::new(page)).expect("long enough");
        assert_eq!((volume.level, volume.state), ("RAID 1", "degraded"));
        assert_eq!(volume.flags, ["resynchronising"]);
        assert_eq!((volume.bytes, volume.members), (Some(256 * 512), vec![4, 7]));
    }

    #[test]
    fn a_member_that_is_missing_has_no_handle() {
        let mut page = vec![0; 0x78];
        page[0x50] = 2;
        page[0x51] = 1;
        let member = mpi2_member(2, &Page::new(page)).expect("long enough");
        assert_eq!((member.handle, member.state, member.bytes), (None, "missing", None));
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_and_length_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let page = Page::new(bytes);
            let _ = (mpi1_volume(1, &page), mpi2_volume(1, &page));
            let _ = (mpi1_member(1, &page), mpi2_member(1, &page));
        }
    }
}
