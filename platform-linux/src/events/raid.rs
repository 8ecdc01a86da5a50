//! Events of integrated RAID.

/// The bytes of an event's data, zeros after its end.
struct Data<'d>(&'d [u8]);

impl Data<'_> {
    fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at + 1)])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }
}

/// `MPI2_RAID_VOL_STATE_*`.
fn volume_state(state: u32) -> String {
    let name = match state {
        0 => "missing",
        1 => "failed",
        2 => "initialising",
        3 => "online",
        4 => "degraded",
        5 => "optimal",
        other => return format!("state {other}"),
    };
    name.into()
}

/// `MPI2_RAID_PD_STATE_*`.
fn disk_state(state: u32) -> String {
    let name = match state {
        0 => "not configured",
        1 => "not compatible",
        2 => "offline",
        3 => "online",
        4 => "hot spare",
        5 => "degraded",
        6 => "rebuilding",
        7 => "optimal",
        other => return format!("state {other}"),
    };
    name.into()
}

/// What changed from what to what: settings and flags as numbers, states in words.
fn change(reason: u8, new: u32, old: u32, state: fn(u32) -> String) -> String {
    match reason {
        1 => format!("settings {new:#010x}, were {old:#010x}"),
        2 => format!("flags {new:#010x}, were {old:#010x}"),
        3 => format!("{}, was {}", state(new), state(old)),
        other => format!("reason {other}, {new:#010x}, was {old:#010x}"),
    }
}

/// `MPI2_EVENT_DATA_IR_VOLUME`.
pub(super) fn volume(data: &[u8]) -> String {
    let data = Data(data);
    let what = change(data.u8(2), data.u32(4), data.u32(8), volume_state);
    format!("volume {:#06x}: {what}", data.u16(0))
}

/// `MPI2_EVENT_DATA_IR_PHYSICAL_DISK`.
pub(super) fn disk(data: &[u8]) -> String {
    let data = Data(data);
    let what = change(data.u8(2), data.u32(0x0c), data.u32(0x10), disk_state);
    format!(
        "disk {}, handle {:#06x}, enclosure {:#06x} slot {}: {what}",
        data.u8(3),
        data.u16(4),
        data.u16(0x0a),
        data.u16(8)
    )
}

/// `MPI2_EVENT_DATA_IR_OPERATION_STATUS`.
pub(super) fn operation(data: &[u8]) -> String {
    let data = Data(data);
    let what = match data.u8(4) {
        0 => "resynchronisation",
        1 => "expansion",
        2 => "consistency check",
        3 => "background initialisation",
        4 => "making data consistent",
        _ => "an operation",
    };
    format!("volume {:#06x}: {what} at {} %", data.u16(0), data.u8(5))
}

/// `MPI2_EVENT_DATA_IR_CONFIG_CHANGE_LIST`: as many elements as it says, and there are.
pub(super) fn changes(data: &[u8]) -> String {
    let count = data.first().copied().unwrap_or(0);
    let elements = data.get(8..).unwrap_or_default().chunks_exact(8).take(count.into());
    let texts: Vec<String> = elements.map(element).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join("; ") }
}

/// `MPI2_EVENT_IR_CONFIG_ELEMENT`.
fn element(data: &[u8]) -> String {
    let data = Data(data);
    let reason = match data.u8(4) {
        1 => "added",
        2 => "removed",
        3 => "no change",
        4 => "hidden",
        5 => "shown again",
        6 => "created",
        7 => "deleted",
        8 => "made a member",
        9 => "no longer a member",
        _ => "changed",
    };
    match data.u16(0) & 0x0f {
        0 => format!("volume {:#06x} {reason}", data.u16(2)),
        1 => format!(
            "disk {}, handle {:#06x}, of volume {:#06x} {reason}",
            data.u8(5),
            data.u16(6),
            data.u16(2)
        ),
        _ => format!("spare {}, handle {:#06x} {reason}", data.u8(5), data.u16(6)),
    }
}

/// `EVENT_DATA_RAID` of MPI 1.x (`MPI_EVENT_RAID_RC_*`).
pub(super) fn of_mpi1(data: &[u8]) -> String {
    let data = Data(data);
    let what = match data.u8(2) {
        0 => "volume created",
        1 => "volume deleted",
        2 => "volume settings changed",
        3 => "volume status changed",
        4 => "volume's disks changed",
        5 => "disk made a member",
        6 => "disk no longer a member",
        7 => "disk settings changed",
        8 => "disk status changed",
        9 => "domain validation needed",
        10 => "failure predicted",
        11 => "replacing begun",
        _ => "something changed",
    };
    format!(
        "{what}, volume {}:{}, disk {}, status {:#010x}",
        data.u8(1),
        data.u8(0),
        data.u8(3),
        data.u32(8)
    )
}

/// `MPI_EVENT_DATA_IR2` of MPI 1.x (`MPI_EVENT_IR2_RC_*`).
pub(super) fn second_of_mpi1(data: &[u8]) -> String {
    let data = Data(data);
    let what = match data.u8(2) {
        1 => "volume's state changed",
        2 => "disk's state changed",
        3 => "bad block table full",
        4 => "disk inserted",
        5 => "disk removed",
        6 => "foreign configuration found",
        7 => "medium error while rebuilding",
        8 => "second path added",
        9 => "second path removed",
        _ => "something changed",
    };
    format!("{what}, target {}:{}, disk {}", data.u8(1), data.u8(0), data.u8(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_degrades_is_told_with_both_states() {
        let data = [0x20, 0, 3, 0, 4, 0, 0, 0, 5, 0, 0, 0];
        assert_eq!(volume(&data), "volume 0x0020: degraded, was optimal");
        assert_eq!(volume(&[]), "volume 0x0000: reason 0, 0x00000000, was 0x00000000");
    }

    #[test]
    fn a_list_is_believed_as_far_as_it_reaches() {
        let mut data = vec![200, 0, 0, 0, 0, 0, 0, 0];
        data.extend([0, 0, 0x20, 0, 6, 0, 0, 0]);
        data.extend([1, 0, 0x20, 0, 4, 3, 9, 0]);
        data.extend([1, 0, 0x20]);
        assert_eq!(
            changes(&data),
            "volume 0x0020 created; disk 3, handle 0x0009, of volume 0x0020 hidden"
        );
        assert_eq!(changes(&[]), "nothing");
    }
}
