//! The driver on QEMU's own controller.

use std::fs::File;
use std::time::Duration;

use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::generation::Mpi1;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::shared::{HostIndex, ReplyRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::TargetRecord;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestOptions};

struct Sleep;
impl embedded_hal::delay::DelayNs for Sleep {
    fn delay_ns(&mut self, ns: u32) {
        std::thread::sleep(Duration::from_nanos(u64::from(ns)));
    }
}

#[test]
fn the_driver_finds_every_disk_of_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = QtestOptions::default();
    for id in 0..8 {
        let path = folder.path().join(format!("disk{id}"));
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
        let mut disk = QtestDisk::new(id, Backend::File(path));
        disk.wwn = 0x5000_c500_0000_0100 + u64::from(id);
        options.disks.push(disk);
    }
    let qemu = Qtest::start(&options).unwrap();
    let chip = Chip::find(qemu.pci_id().0, qemu.pci_id().1).unwrap();
    let ready = Reset::<Mpi1, _>::new(qemu.registers(), chip).make_ready(&mut Sleep).unwrap();
    println!("{:?}", ready.facts());
    let plan = ready.plan(&Wants::default()).unwrap();
    println!("{plan:?}");
    let region = qemu.allocate(plan.bytes, plan.alignment).unwrap();
    let mut slots = vec![SlotRecord::NEW; usize::from(plan.slots)];
    let replies: Vec<_> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    let host_index = HostIndex::new();
    let mut targets = vec![TargetRecord::default(); 16];
    let tables = Tables {
        slots: &mut slots,
        replies: &replies,
        host_index: &host_index,
        targets: &mut targets,
    };
    let mut controller = ready.start(&plan, region, tables, 0, &mut Sleep).unwrap();
    let found: Vec<_> = controller.targets().collect();
    println!("{found:#?}");
    assert_eq!(found.len(), 8);
    while let Some(action) = controller.next_action() {
        println!("{action:?}");
    }
    println!("{:?} {:?}", controller.counters(), controller.register_accesses());
}
