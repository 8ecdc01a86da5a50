//! Clients that behave: a whole driver over a real socket, without a virtual machine.

mod chips;
mod common;
mod vfio;

use std::time::Duration;

use chips::on_every_chip;
use common::{Random, Rig, command};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_mock::model::{Chip, disks};
use vfio::guest::{CONFIG, Guest, INTX, Interrupt, MSI, MSIX};
use vfio::{LIMIT, Served};

const DISK: u64 = 16 << 20;

on_every_chip! {
    the_driver_comes_up_and_finds_every_disk = discovery;
    what_is_written_is_read_back_with_a_line_for_interrupts = line;
    what_is_written_is_read_back_with_one_message = one_message;
    what_is_written_is_read_back_with_a_table_of_messages = table_of_messages;
    a_reset_by_the_client_makes_a_card_as_after_power_on = client_reset;
}

fn discovery<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(chip.phys.into(), DISK));
    let rig = Rig::<_, G>::new(Guest::connect(&served));
    let slots: Vec<_> = rig.controller.targets().map(|target| target.page.slot).collect();
    assert_eq!(slots, (0..chip.phys).map(u16::from).collect::<Vec<_>>());
    assert_eq!(served.complaints(), [""; 0]);
    drop(rig);
    assert_eq!(served.farewell(), None);
}

#[test]
fn registers_and_configuration_answer_to_every_width() {
    for chip in Chip::ALL {
        widths(chip);
    }
}

fn widths(chip: Chip) {
    let served = Served::new(chip, disks(1, DISK));
    let guest = Guest::connect(&served);
    let read = |region: u32, offset: u64, bytes: usize| {
        let mut word = [0; 8];
        guest.client().region_read(region, offset, &mut word[..bytes]).expect("read");
        u64::from_le_bytes(word)
    };
    // The doorbell: in READY, and its bytes and halves are parts of it, at every place.
    let doorbell = read(guest.region(), 0, 4);
    assert_eq!(doorbell >> 28, 1);
    for (bytes, places) in [(1, 4), (2, 2), (4, 1)] {
        let mask = (1u64 << (bytes * 8)) - 1;
        for place in 0..places {
            let at = place * bytes as u64;
            assert_eq!(read(guest.region(), at, bytes), doorbell >> (at * 8) & mask);
        }
    }
    assert_eq!(read(guest.region(), 0, 8) as u32, doorbell as u32);
    // A mask register takes words and eight bytes, and no less.
    const MASK: u64 = 0x34;
    let write = |offset: u64, bytes: &[u8]| {
        guest.client().region_write(guest.region(), offset, bytes).expect("written");
    };
    let before = read(guest.region(), MASK, 4);
    write(MASK, &[0]);
    write(MASK, &[0, 0]);
    assert_eq!(read(guest.region(), MASK, 4), before);
    write(MASK, &[0; 4]);
    assert_eq!(read(guest.region(), MASK, 4) & 8, 0);
    write(MASK - 4, &[0, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(read(guest.region(), MASK, 4) & 8, 8);
    // Every register region in full, and everything else of the chip's.
    for region in 0..9 {
        let size = guest.client().region(region).map_or(0, |region| region.size);
        for offset in (0..size.min(0x2000)).step_by(8) {
            read(region, offset, 8);
        }
    }
    assert_eq!(read(CONFIG, 0, 4), u64::from(chip.device_id) << 16 | 0x1000);
    assert_eq!(read(CONFIG, 1, 1), 0x10);
    assert_eq!(read(CONFIG, 2, 2), u64::from(chip.device_id));
    assert_eq!(guest.client().get_irq_info(INTX).expect("told").count, 1);
    assert_eq!(guest.client().get_irq_info(MSI).expect("told").count, 1);
    assert!(guest.client().get_irq_info(MSIX).expect("told").count >= chip.vectors.into());
}

/// How a guest's interrupt handler ends: with the line, it lets it through again.
type Unmask = fn(&Guest);

fn round_trip<G: Generation>(served: &Served, guest: Guest, interrupt: &Interrupt, unmask: Unmask) {
    let mut rig = Rig::<_, G>::with(guest, &Wants::default());
    let device = rig.device(0);
    rig.clear_attention(device);
    let mut random = Random::new(7);
    const BYTES: usize = 64 << 10;
    let data = rig.data(BYTES);
    rig.controller.interrupts(true);
    while interrupt.came_within(Duration::ZERO) {}
    unmask(&rig.bus);
    let before = served.card.interrupts();
    for round in 0..8u64 {
        let bytes = random.bytes(BYTES);
        let segments: Vec<_> =
            (0..BYTES / 4096).map(|page| data.segment(page * 4096, 4096)).collect();
        let lba = random.below((DISK - BYTES as u64) / 512);
        for (cdb, direction) in [
            (Cdb::write(lba, BYTES as u32 / 512), Direction::Write),
            (Cdb::read(lba, BYTES as u32 / 512), Direction::Read),
        ] {
            if direction == Direction::Write {
                data.write(0, &bytes);
            } else {
                data.fill(0xee);
            }
            let cookie = rig.submit(device, &command(&cdb, direction, &segments));
            // Nobody polls until the interrupt says so: it alone completes the command.
            while !rig.is_done(cookie) {
                assert!(interrupt.came_within(LIMIT), "round {round}: no interrupt");
                while rig.poll() > 0 {}
                unmask(&rig.bus);
            }
            rig.take(cookie).assert_good(BYTES as u32);
        }
        assert!(data.read(0, BYTES) == bytes, "round {round}: not what was written");
    }
    assert!(served.card.interrupts() >= before + 16);
    assert_eq!(served.complaints(), [""; 0]);
    assert_eq!(rig.controller.counters().lies(), 0);
}

fn line<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(1, DISK));
    let guest = Guest::connect(&served);
    let interrupt = guest.interrupt(INTX, 0);
    round_trip::<G>(&served, guest, &interrupt, Guest::unmask);
}

fn one_message<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(1, DISK));
    let guest = Guest::connect(&served);
    let interrupt = guest.interrupt(MSI, 0);
    round_trip::<G>(&served, guest, &interrupt, |_| ());
}

fn table_of_messages<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(1, DISK));
    let guest = Guest::connect(&served);
    let vectors = guest.client().get_irq_info(MSIX).expect("told").count;
    let interrupts: Vec<_> = (0..vectors).map(|vector| guest.interrupt(MSIX, vector)).collect();
    round_trip::<G>(&served, guest, &interrupts[0], |_| ());
    assert!(!interrupts.iter().skip(1).any(|interrupt| interrupt.came_within(Duration::ZERO)));
}

fn client_reset<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(1, DISK));
    let mut rig = Rig::<_, G>::new(Guest::connect(&served));
    let device = rig.device(0);
    rig.clear_attention(device);
    let Rig { controller, bus, .. } = rig;
    drop(controller);
    bus.client().reset().expect("reset");
    let mut command = [0; 2];
    bus.client().region_read(CONFIG, 4, &mut command).expect("read");
    assert_eq!(command, [0, 0], "bus mastering is off");
    bus.bus_master(true);
    let rig = Rig::<_, G>::new(bus);
    assert_eq!(rig.controller.targets().count(), 1);
    assert_eq!(served.complaints(), [""; 0]);
}
