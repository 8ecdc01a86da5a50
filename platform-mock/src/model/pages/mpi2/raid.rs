//! Pages of integrated RAID.

use super::{CONTROLLER_SAS_ADDRESS, NoPage, Page};
use crate::model::devices::{Devices, Member, MemberState, RaidLevel, Volume};
use crate::target::Target;

/// Sectors of a stripe: 64 KiB.
const STRIPE: u32 = 128;

/// IOC page 6, of 0x3c bytes: what volumes there can be.
pub(super) fn ioc_6(page: Page) -> Page {
    // RAID 0, 1, 1E and 10.
    page.u32(0x0000_001e)
        .bytes(&[10, 2, 10, 10, 2, 2, 3, 4])
        .u32(0)
        .bytes(&[2, 14, 2, 1, 0, 0, 0, 0])
        // Stripes of 64 KiB only.
        .u32(0x0000_0010)
        .u32(0x0000_0010)
        .u32(0x0000_0010)
        .zeros_to(0x3c)
}

fn volume_at(devices: &Devices, address: u32) -> Result<&Volume, NoPage> {
    let handle = address as u16;
    let mut volumes: Vec<_> = devices.volumes().iter().collect();
    volumes.sort_by_key(|volume| volume.device.handle);
    volumes
        .into_iter()
        .find(|volume| match address >> 28 {
            0 => handle == 0xffff || volume.device.handle > handle,
            1 => volume.device.handle == handle,
            _ => false,
        })
        .ok_or(NoPage::Number)
}

/// Bytes of RAID volume page 0: of the largest volume, so that each has room.
pub(super) fn volume_0_bytes(devices: &Devices) -> usize {
    let members = devices.volumes().iter().map(|volume| volume.members.len()).max();
    0x28 + 4 * members.unwrap_or(1)
}

fn last_block(target: &Target) -> u64 {
    target.blocks().saturating_sub(1)
}

/// RAID volume page 0.
pub(super) fn volume_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let volume = volume_at(devices, address)?;
    let rebuilding = volume.members.iter().any(|m| m.state == MemberState::Rebuilding);
    let target = &volume.device.target;
    let mut page = page
        .u16(volume.device.handle)
        .u8(volume.state().code())
        .u8(volume.level.code())
        // Enabled; resynchronizing.
        .u32(0x0000_0001 | if rebuilding { 0x0001_0000 } else { 0 })
        // Its write cache: on, off.
        .u16(if target.disk().write_cache() { 2 } else { 1 })
        .u16(0)
        .u64(last_block(target))
        .u32(if volume.level == RaidLevel::Raid1 { 0 } else { STRIPE })
        .u16(target.config().block_size as u16)
        .u16(0)
        // Disks of any kind.
        .u8(0x0f)
        .u8(0)
        .u16(0)
        .u8(volume.members.len() as u8)
        .zeros_to(0x28);
    for (index, member) in volume.members.iter().enumerate() {
        let secondary = volume.level == RaidLevel::Raid10 && index % 2 == 1
            || volume.level == RaidLevel::Raid1 && index == 1;
        page = page.u8(0).u8(if secondary { 2 } else { 1 }).u8(member.number).u8(0);
    }
    Ok(page.zeros_to(volume_0_bytes(devices)))
}

/// RAID volume page 1, of 0x40 bytes: who it is.
pub(super) fn volume_1(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let volume = volume_at(devices, address)?;
    let wwid = volume.device.target.config().wwn;
    Ok(page
        .u16(volume.device.handle)
        .u16(0)
        .text("LSI     ", 8)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u64(wwid)
        .text("", 16)
        .u64(wwid)
        .zeros_to(0x40))
}

fn member_at(devices: &Devices, address: u32) -> Result<(&Volume, &Member), NoPage> {
    let value = address as u16;
    let mut members: Vec<_> = devices.members().collect();
    members.sort_by_key(|(_, member)| member.number);
    members
        .into_iter()
        .find(|(_, member)| match address >> 28 {
            0 => value & 0xff == 0xff || u16::from(member.number) > value & 0xff,
            1 => u16::from(member.number) == value & 0xff,
            2 => devices.slot(member.slot).is_some_and(|device| device.handle == value),
            _ => false,
        })
        .ok_or(NoPage::Number)
}

/// RAID physical disk page 0, of 0x78 bytes.
pub(super) fn physical_disk_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let (_, member) = member_at(devices, address)?;
    let (state, reason) = member.state.codes();
    let Some(device) = devices.slot(member.slot) else {
        // It was pulled: missing.
        return Ok(page.u16(0).u8(0).u8(member.number).zeros_to(0x50).u8(2).u8(1).zeros_to(0x78));
    };
    let config = device.target.config();
    let last = last_block(&device.target);
    let media = if config.rotation_rate == 1 { 0x08 } else { 0x04 };
    let protocol = if config.sata { 0x01 } else { 0x02 };
    Ok(page
        .u16(device.handle)
        .u8(0)
        .u8(member.number)
        .zeros_to(0x10)
        .padded(&config.vendor, 8)
        .padded(&config.product, 16)
        .padded(&config.revision, 4)
        .padded(&config.serial, 32)
        .zeros_to(0x50)
        .u8(state)
        .u8(reason)
        .u8(0)
        .u8(media | protocol)
        .u32(u32::from(member.state != MemberState::Optimal))
        .u64(last)
        .u64(last)
        .u64(last)
        .u16(config.block_size as u16)
        .zeros_to(0x78))
}

/// RAID physical disk page 1, of 0x24 bytes: its one path.
pub(super) fn physical_disk_1(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let (_, member) = member_at(devices, address)?;
    let device = devices.slot(member.slot).ok_or(NoPage::Number)?;
    Ok(page
        .u8(1)
        .u8(member.number)
        .zeros_to(0x0c)
        .u16(device.handle)
        .u16(0)
        .u64(devices.sas_address(device))
        .u64(CONTROLLER_SAS_ADDRESS)
        .u8(devices.place(member.slot).phy)
        .u8(0)
        .u16(0x0004))
}

/// Bytes of RAID configuration page 0.
pub(super) fn configuration_0_bytes(devices: &Devices) -> usize {
    0x30 + 8 * (devices.volumes().len() + devices.members().count()).max(1)
}

/// RAID configuration page 0: the one configuration, of all volumes and members.
pub(super) fn configuration_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let found = !devices.volumes().is_empty()
        && match address >> 28 {
            0 => address & 0xff == 0xff,
            1 => address & 0xff == 0,
            2 => true,
            _ => false,
        };
    if !found {
        return Err(NoPage::Number);
    }
    let (volumes, members) = (devices.volumes().len() as u8, devices.members().count() as u8);
    let mut page = page
        .u8(0)
        .u8(members)
        .u8(volumes)
        .u8(0)
        .u32(0)
        .text("LSI     ", 8)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u64(0)
        .u32(0)
        .u8(volumes + members)
        .zeros_to(0x30);
    for volume in devices.volumes() {
        page = page.u16(0).u16(volume.device.handle).u8(0).u8(0).u16(0);
        for member in &volume.members {
            let handle = devices.slot(member.slot).map_or(0, |device| device.handle);
            page = page.u16(1).u16(volume.device.handle).u8(0).u8(member.number).u16(handle);
        }
    }
    Ok(page.zeros_to(configuration_0_bytes(devices)))
}
