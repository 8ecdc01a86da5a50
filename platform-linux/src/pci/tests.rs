//! Controllers and their holders on a fake machine.

use super::fake::Machine;
use super::*;

const A: &str = "0000:03:00.0";

/// A SAS2308 under mpt3sas with the disk sda.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.device(A, 0x87, Some("mpt3sas"));
    machine.disk(A, "sda", "8:0");
    machine
}

fn controller(machine: &Machine) -> Controller {
    machine.system().controller(A.parse().expect("an address")).expect("the controller")
}

fn holders(machine: &Machine) -> Holders {
    machine.system().holders(&controller(machine))
}

/// What holds it, in words.
fn held(machine: &Machine) -> Vec<String> {
    holders(machine).known.iter().map(ToString::to_string).collect()
}

#[test]
fn a_controller_is_told_in_full() {
    let machine = machine();
    machine.group(7, &[A]);
    let found = controller(&machine);
    assert_eq!((found.vendor, found.device, found.chip), (0x1000, 0x87, "SAS2308"));
    assert_eq!((found.subsystem, found.class, found.revision), ((0x1028, 0x1f1c), 0x01_0700, 3));
    assert_eq!((found.generation, found.not_driven), (chips::Generation::Mpi20, None));
    assert_eq!((found.driver.as_deref(), found.driver_override), (Some("mpt3sas"), None));
    assert_eq!((found.iommu_group, found.irq, found.numa_node), (Some(7), Some(11), None));
    assert_eq!(found.hosts, ["host0"]);
    let [ports, memory] = found.bars.as_slice() else { panic!("{:?}", found.bars) };
    assert_eq!((ports.index, ports.bytes, ports.ports), (0, 0x100, true));
    assert_eq!((memory.index, memory.address, memory.bytes), (1, 0xfea0_0000, 0x1_0000));
    let [disk] = found.disks.as_slice() else { panic!("{:?}", found.disks) };
    assert_eq!((disk.name.as_str(), disk.bytes), ("sda", 1 << 30));
    assert_eq!(disk.model, "SEAGATE ST1000NM0001");
}

#[test]
fn disks_of_other_controllers_are_not_its() {
    let machine = machine();
    machine.device("0000:04:00.0", 0x72, Some("mpt3sas"));
    machine.disk("0000:04:00.0", "sdb", "8:16");
    machine.stacked("dm-0", "253:0", "sda");
    let disks: Vec<String> = controller(&machine).disks.into_iter().map(|disk| disk.name).collect();
    assert_eq!(disks, ["sda"]);
    machine.mount("8:16", "/dev/sdb", "/elsewhere");
    assert_eq!(held(&machine).len(), 1, "the volume, not the other's mount");
}

#[test]
fn other_vendors_and_broken_ids_are_passed_over() {
    let machine = machine();
    machine.device("0000:05:00.0", 0x97, None);
    machine.file("sys/devices/pci0000:00/0000:05:00.0/vendor", "0x8086\n");
    machine.file("sys/bus/pci/devices/0000:06:00.0/vendor", "what?\n");
    let found = machine.system().controllers().expect("a list");
    assert_eq!(found.len(), 1);
}

#[test]
fn a_machine_without_pci_is_a_sentence() {
    let machine = Machine::new();
    let error = machine.system().controllers().expect_err("no PCI").to_string();
    assert!(error.contains("cannot list PCI devices") && error.contains("sysfs"), "{error}");
}

#[test]
fn a_free_disk_is_held_by_nobody() {
    assert_eq!(holders(&machine()), Holders::default());
}

#[test]
fn a_mount_is_found_through_dm_on_md_on_a_partition() {
    let machine = machine();
    machine.partition(A, "sda", "sda2", "8:2");
    machine.stacked("md127", "9:127", "sda2");
    machine.stacked("dm-3", "253:3", "md127");
    machine.file("sys/devices/virtual/block/dm-3/dm/name", "vg0-my--data\n");
    machine.file("sys/devices/virtual/block/dm-3/dm/uuid", "LVM-abcdef\n");
    machine.mount("253:3", "/dev/mapper/vg0-my--data", "/srv");
    assert_eq!(
        held(&machine),
        ["sda2 is part of MD array md127 below LVM volume vg0/my-data, which is mounted on /srv"]
    );
    let found = holders(&machine);
    assert_eq!(found.known[0].disk, "sda");
    assert_eq!(found.known[0].by, By::Mounted(vec!["/srv".into()]));
}

#[test]
fn a_partition_of_an_array_is_found() {
    let machine = machine();
    machine.stacked("md0", "9:0", "sda");
    machine.file("sys/devices/virtual/block/md0/md0p1/partition", "1\n");
    machine.file("sys/devices/virtual/block/md0/md0p1/dev", "259:0\n");
    machine.link("sys/class/block/md0p1", "sys/devices/virtual/block/md0/md0p1");
    machine.mount("259:0", "/dev/md0p1", "/home");
    assert_eq!(held(&machine), ["sda is part of md0p1, which is mounted on /home"]);
}

#[test]
fn an_active_volume_holds_though_nobody_uses_it() {
    let machine = machine();
    machine.stacked("dm-0", "253:0", "sda");
    machine.file("sys/devices/virtual/block/dm-0/dm/name", "backup\n");
    machine.file("sys/devices/virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-0-backup\n");
    assert_eq!(held(&machine), ["sda is part of encrypted volume backup, which is active"]);
}

#[test]
fn swap_is_found_on_a_partition_and_on_a_volume() {
    let machine = machine();
    machine.partition(A, "sda", "sda3", "8:3");
    machine.stacked("dm-1", "253:1", "sda");
    machine.file(
        "proc/swaps",
        "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 8 0 -2\n/dev/dm-1 partition 8 0 -3\n",
    );
    assert_eq!(held(&machine), ["sda is part of dm-1, which is swap", "sda3 is swap"]);
}

#[test]
fn a_loop_device_on_a_disk_is_followed() {
    let machine = machine();
    machine.block("sys/devices/virtual/block/loop4", "loop4", "7:4");
    machine.file("sys/devices/virtual/block/loop4/loop/backing_file", "/dev/sda\n");
    machine.mount("7:4", "/dev/loop4", "/mnt");
    assert_eq!(held(&machine), ["sda is part of loop device loop4, which is mounted on /mnt"]);
}

#[test]
fn pools_that_tell_no_holders_are_found() {
    let machine = machine();
    machine.partition(A, "sda", "sda1", "8:1");
    machine.file("sys/fs/btrfs/1234-5678/label", "tank\n");
    machine.file("sys/fs/btrfs/1234-5678/devices/sda1/size", "1\n");
    assert_eq!(held(&machine), ["sda1 is part of Btrfs file system tank"]);
    machine.disk(A, "sdb", "8:16");
    machine.file("run/udev/data/b8:16", "E:ID_FS_LABEL=pond\nE:ID_FS_TYPE=zfs_member\n");
    assert_eq!(held(&machine).len(), 1, "a pool that is not imported holds nothing");
    machine.file("proc/spl/kstat/zfs/pond/io", "");
    assert_eq!(held(&machine)[1], "sdb is part of ZFS pool pond");
}

#[test]
fn a_mount_that_only_a_container_sees_is_found() {
    let machine = machine();
    machine.link("proc/self/ns/mnt", "mnt:[1]");
    machine.process(50, "init", &[]);
    machine.link("proc/50/ns/mnt", "mnt:[1]");
    machine.process(60, "podman", &[]);
    machine.link("proc/60/ns/mnt", "mnt:[2]");
    machine.file("proc/60/mountinfo", "9 1 8:0 / /data rw - xfs /dev/sda rw\n");
    assert_eq!(held(&machine), ["sda is mounted on /data as podman (process 60) sees it"]);
}

#[test]
fn processes_are_found_on_disks_and_on_generic_nodes() {
    let machine = machine();
    let generic = "host0/target0:0:0/0:0:0:0/scsi_generic/sg1";
    machine.file(&format!("sys/devices/pci0000:00/{A}/{generic}/dev"), "21:1\n");
    machine.link("sys/class/scsi_generic/sg1", &format!("sys/devices/pci0000:00/{A}/{generic}"));
    machine.process(8, "fio", &["sda", "sda", "null"]);
    machine.process(9, "sg_logs", &["sg1"]);
    assert_eq!(
        held(&machine),
        ["sda is opened by fio (process 8)", "sg1 is opened by sg_logs (process 9)"]
    );
    assert!(holders(&machine).known.iter().all(Holder::is_process));
}

#[test]
fn whoever_is_not_found_is_still_seen_by_the_claim() {
    let machine = machine();
    machine.kernel(|kernel| kernel.claimed.insert("sda".into()));
    let held = held(&machine);
    assert!(held[0].starts_with("sda is claimed by the kernel"), "{held:?}");
}

#[test]
fn what_a_normal_user_cannot_know_is_said() {
    let machine = machine();
    machine.kernel(|kernel| kernel.not_root = true);
    let unknown = holders(&machine).unknown.expect("something unknown");
    assert!(unknown.contains("claimed") && unknown.contains("run as root"), "{unknown}");
}

#[test]
fn holders_in_a_ring_end() {
    let machine = machine();
    machine.stacked("dm-0", "253:0", "sda");
    machine.stacked("dm-0", "253:0", "dm-0");
    assert_eq!(held(&machine).len(), 1);
}

#[test]
fn many_mount_points_are_counted() {
    let machine = machine();
    for point in ["/a", "/b", "/c", "/d", "/e", "/f"] {
        machine.mount("8:0", "/dev/sda", point);
    }
    assert_eq!(held(&machine), ["sda is mounted on /a, /b, /c, /d and 2 more"]);
}

#[test]
fn the_state_follows_the_driver() {
    let machine = machine();
    machine.group(7, &[A]);
    machine.driver("vfio-pci");
    let state = || machine.system().status().expect("a status").remove(0).1;
    assert_eq!(state(), State::Kernel(Holders::default()));
    let address = A.parse().expect("an address");
    bind::bind(&machine.system(), &bind::Request::new(address)).expect("bound");
    machine.process(5, "mptctl", &["vfio/7"]);
    let State::UserSpace(lent) = state() else { panic!("{:?}", state()) };
    assert_eq!(lent.node, machine.path("dev/vfio/7"));
    assert!(lent.accessible);
    assert_eq!(lent.users.len(), 1);
    machine.kernel(|kernel| kernel.native.clear());
    bind::unbind(&machine.system(), address, true).expect("free");
    assert_eq!(state(), State::Free);
}

#[test]
fn a_group_made_without_an_iommu_has_a_node_of_its_own() {
    let machine = machine();
    machine.driver("vfio-pci");
    machine.group(3, &[A]);
    machine.file("sys/kernel/iommu_groups/3/name", "vfio-noiommu\n");
    let address = A.parse().expect("an address");
    let bound = bind::bind(&machine.system(), &bind::Request::new(address)).expect("bound");
    assert_eq!(bound.node, Some(machine.path("dev/vfio/noiommu-3")));
}
