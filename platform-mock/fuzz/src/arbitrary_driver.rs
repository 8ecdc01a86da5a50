//! The software controllers against a driver that does whatever the input says.
//!
//! What is checked: nothing panics, the firmware comes to rest once its driver does nothing any
//! more, and what it touches is memory that the driver has set aside. The input's operations are a
//! driver's: register accesses, writes to DMA memory, time; `seeds.rs` records them from the real
//! driver, whose memory lies where this one's does.

use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use fusion_mpt::platform::Registers;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::in_process::{MockBus, MockDma, Mode, Options};
use fusion_mpt_mock::model::{
    Chip, DeviceStatus, LogEntry, MemberState, Model, RaidLevel, disk, disks,
};
use fusion_mpt_mock::target::{SenseData, SenseKey, Target, TargetConfig};

use crate::input::Input;

/// Where the driver's memory begins on the bus, by the input's choice.
const BASES: [u64; 4] = [0x1_2340_0000, 0x10_0000, 0xffff_f000_0000, 0xfff8_0000];
/// Bytes of the bus's memory, of which the last part belongs to nobody.
const ARENA: usize = 320 << 10;
/// Bytes that the driver has set aside.
pub(crate) const MEMORY: usize = 256 << 10;
/// Bytes of each disk.
const DISK: u64 = 1 << 20;
/// Operations, at most.
const MOST_OPERATIONS: usize = 2_000;
/// Pieces of work after which a firmware whose driver does nothing any more must have come to rest.
const MOST_STEPS: usize = 200_000;

/// The operations, as an input has them.
pub(crate) mod operation {
    /// Register number (offset / 4).
    pub(crate) const READ: u8 = 0;
    /// Register number, 32 bits.
    pub(crate) const WRITE: u8 = 1;
    /// Register number, 64 bits.
    pub(crate) const WRITE_WIDE: u8 = 2;
    /// Offset in words of 4 bytes (16 bits), length in bytes (8 bits), the bytes.
    pub(crate) const STORE: u8 = 3;
    /// Pieces of work (a count).
    pub(crate) const STEP: u8 = 4;
    /// Microseconds (32 bits).
    pub(crate) const WAIT: u8 = 5;
    /// Operations that are no driver's come from here on.
    pub(crate) const OTHERS: u8 = 6;
}

/// The bus that an input begins with.
pub(crate) fn bus(chip: Chip, shape: u8) -> (MockBus, MockDma) {
    let mut targets = disks(u16::from(shape & 3), DISK);
    match shape >> 2 & 3 {
        0 => {}
        1 => targets.push(file_disk()),
        2 => targets.push(other_disk(4096, false)),
        _ => targets.push(other_disk(512, true)),
    }
    let options = Options {
        chip,
        disks: targets,
        mode: Mode::Stepped,
        bouncing: shape & 0x10 != 0,
        base: BASES[usize::from(shape >> 6)],
        bytes: ARENA,
    };
    let bus = MockBus::new(options);
    if shape & 0x20 != 0 {
        // Where a disk is in its way, there is none.
        let _ = bus.with_model(|model| model.attach_expander(4));
    }
    let dma = bus.allocate(MEMORY, 4096).expect("the arena is larger");
    (bus, dma)
}

fn other_disk(block_size: u32, sata: bool) -> Target {
    let config = TargetConfig { block_size, sata, ..TargetConfig::default() };
    Target::new(config, Disk::memory(DISK))
}

/// A disk in a file, with nothing on it.
fn file_disk() -> Target {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let name = format!("fusion-mpt-fuzz-{}.disk", std::process::id());
        std::env::temp_dir().join(name)
    });
    let file = File::create(path).expect("a file in the folder for temporary files");
    file.set_len(DISK).expect("an empty file of that size takes no room");
    let disk = Disk::open(path).expect("it was just made");
    // Open, it lives on without its name, and nothing is left behind whatever happens.
    let _ = std::fs::remove_file(path);
    Target::new(TargetConfig::default(), disk)
}

/// Does what `data` says.
pub fn run(data: &[u8]) {
    let input = Input::new(data);
    let chip = Chip::ALL[usize::from(input.u8()) % Chip::ALL.len()];
    let (bus, dma) = bus(chip, input.u8());
    let registers = bus.registers();
    for _ in 0..MOST_OPERATIONS {
        if input.is_empty() {
            break;
        }
        match input.u8() {
            operation::READ => _ = registers.read32(u16::from(input.u8()) * 4),
            operation::WRITE => {
                let offset = u16::from(input.u8()) * 4;
                registers.write32(offset, input.u32());
            }
            operation::WRITE_WIDE => {
                let offset = u16::from(input.u8()) * 4;
                registers.write64(offset, input.u64());
            }
            operation::STORE => {
                let (word, length) = (input.u16(), input.u8());
                store(&dma, usize::from(word) * 4, input.bytes(length.into()));
            }
            operation::STEP => _ = bus.step(input.count().into()),
            operation::WAIT => bus.advance(Duration::from_micros(u64::from(input.u32()))),
            other => bus.with_model(|model| turn(model, &input, other - operation::OTHERS)),
        }
    }
    for _ in 0..8 {
        assert!(bus.step(MOST_STEPS) < MOST_STEPS, "the firmware never comes to rest");
        bus.advance(Duration::from_secs(1));
    }
}

fn store(dma: &MockDma, offset: usize, bytes: &[u8]) {
    let room = MEMORY.saturating_sub(offset);
    dma.write(offset.min(MEMORY), &bytes[..bytes.len().min(room)]);
}

/// Turns a knob, or does something to a disk.
pub(crate) fn turn(model: &mut Model, input: &Input<'_>, which: u8) {
    match which % 22 {
        0 => model.bus_reset(),
        1 => {
            let (code, flags) = (input.u16(), input.u8());
            model.raise_event(code, input.bytes((flags >> 1).into()).to_vec(), flags & 1 != 0);
        }
        2 => model.post_descriptor(input.u8(), input.u64()),
        3 => {
            let (queue, smid, length) = (input.u8(), input.u16(), input.u8());
            model.post_frame(queue, smid, input.bytes(length.into()));
        }
        4 => model.fault(input.u16()),
        // MPI1 knows no such state.
        5 => _ = model.core_dump(input.u16(), input.u32().into()),
        6 => model.hold_commands(input.u8() & 1 != 0),
        7 => {
            let slot = input.u8();
            model.slow_down((slot < 0xf0).then_some(slot), input.u32().into());
        }
        8 => model.lose_scsi_replies(input.u8().into()),
        9 => model.drop_replies(input.u8().into()),
        10 => model.zero_reads(input.u8().into()),
        11 => model.stop_answering(input.u8() & 1 != 0),
        12 => model.all_ones(input.u8() & 1 != 0),
        13 => drop(model.remove_disk(input.u8())),
        // The disk comes back where the slot is taken, or there is none.
        14 => _ = model.add_disk(input.u8(), disk(input.u8().into(), DISK)),
        15 => drop(model.swap_disk(input.u8(), disk(input.u8().into(), DISK))),
        16 => {
            let keep = input.u8();
            // Disks in memory do not fail.
            let _ = model.power_cut(&mut |slot, _| slot & 7 == keep & 7);
        }
        17 => _ = model.grow_disk(input.u8(), DISK + u64::from(input.u32())),
        18 => volume(model, input),
        19 => {
            let (slot, state) = (input.u8(), input.u8());
            let state = [MemberState::Optimal, MemberState::Rebuilding, MemberState::Failed]
                [usize::from(state) % 3];
            model.set_member_state(slot, state);
        }
        20 => trouble(model, input),
        _ => {
            let entry = LogEntry { data: [input.u8(); 28], ..LogEntry::default() };
            model.fill_log(input.count(), &entry, input.u8() & 1 != 0);
        }
    }
}

fn volume(model: &mut Model, input: &Input<'_>) {
    let (level, first, count) = (input.u8(), input.u8(), input.u8() & 7);
    let slots: Vec<u8> = (0..count).map(|index| first.wrapping_add(index)).collect();
    let level = match level & 3 {
        0 => RaidLevel::Raid0,
        1 => RaidLevel::Raid1,
        2 => RaidLevel::Raid1E,
        _ => RaidLevel::Raid10,
    };
    // Such disks may make no volume.
    let _ = model.create_volume(level, &slots, disk(200, DISK));
}

fn trouble(model: &mut Model, input: &Input<'_>) {
    let (slot, which) = (input.u8(), input.u8());
    match which & 7 {
        0 => model.raise_broadcast(slot, input.u8()),
        1 => _ = model.raise_device_status(slot, DeviceStatus::InternalResetBegun),
        _ => {
            let Some(device) = model.device(slot) else { return };
            let target = &mut device.target;
            match which & 7 {
                2 => target.set_ready(input.u8() & 1 != 0),
                3 => target.set_status(input.u8(), (input.u8() & 15).into()),
                4 => target.inject_sense(
                    SenseData::new(SenseKey::HardwareError, 0x44, 0),
                    (input.u8() & 15).into(),
                ),
                5 => target.inject_medium_error(input.u8().into(), input.u16().into()),
                6 => target.disk_mut().set_write_protected(input.u8() & 1 != 0),
                // A disk in memory does not fail.
                _ => _ = target.reset(),
            }
        }
    }
}
