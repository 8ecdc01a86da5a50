//! Binding on a fake machine.

use super::*;
use crate::pci::fake::Machine;

const A: &str = "0000:03:00.0";
const B: &str = "0000:03:00.1";

fn address(text: &str) -> PciAddress {
    text.parse().expect("an address")
}

fn request() -> Request {
    Request::new(address(A))
}

/// A SAS3008 under mpt3sas with a free disk, in IOMMU group 7, on a kernel with vfio-pci.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.device(A, 0x97, Some("mpt3sas"));
    machine.group(7, &[A]);
    machine.disk(A, "sda", "8:0");
    machine.driver("vfio-pci");
    machine
}

fn refused(machine: &Machine, request: &Request, parts: &[&str]) {
    let before = (machine.driver_of(A), machine.override_of(A));
    let error = bind(&machine.system(), request).expect_err("a refusal").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert_eq!((machine.driver_of(A), machine.override_of(A)), before, "half-bound after: {error}");
}

fn writes(machine: &Machine) -> Vec<String> {
    machine
        .kernel(|kernel| kernel.log.iter().filter(|line| line.contains(" > ")).cloned().collect())
}

#[test]
fn a_free_controller_goes_to_vfio_and_back() {
    let machine = machine();
    let bound = bind(&machine.system(), &request()).expect("bound");
    assert_eq!((bound.driver, bound.former.as_deref()), (UserDriver::Vfio, Some("mpt3sas")));
    assert_eq!(bound.node, Some(machine.path("dev/vfio/7")));
    assert_eq!(bound.to_make_it_last(), "driverctl set-override 0000:03:00.0 vfio-pci");
    assert_eq!(machine.driver_of(A).as_deref(), Some("vfio-pci"));
    assert_eq!(
        writes(&machine),
        [
            "vfio-pci > sys/bus/pci/devices/0000:03:00.0/driver_override",
            "0000:03:00.0 > sys/bus/pci/drivers/mpt3sas/unbind",
            "0000:03:00.0 > sys/bus/pci/drivers_probe",
        ]
    );
    let unbound = unbind(&machine.system(), address(A), false).expect("given back");
    assert_eq!((unbound.driver.as_deref(), unbound.notes.len()), (Some("mpt3sas"), 0));
    assert_eq!(machine.override_of(A), "(null)");
    assert_eq!(machine.driver_of(A).as_deref(), Some("mpt3sas"));
}

#[test]
fn disks_are_flushed_before_the_first_write() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    machine.kernel(|kernel| assert_eq!(kernel.log.first().map(String::as_str), Some("flush sda")));
}

#[test]
fn a_disk_that_cannot_be_flushed_stays() {
    let machine = machine();
    machine.kernel(|kernel| kernel.unflushable.insert("sda".into()));
    refused(&machine, &request(), &["cannot flush sda", "Input/output error", "--force"]);
    bind(&machine.system(), &Request { force: true, ..request() }).expect("insisted");
}

#[test]
fn ten_rounds_leave_no_trace() {
    let machine = machine();
    for _ in 0..10 {
        bind(&machine.system(), &request()).expect("bound");
        unbind(&machine.system(), address(A), false).expect("given back");
    }
    assert_eq!(machine.driver_of(A).as_deref(), Some("mpt3sas"));
    assert_eq!(machine.override_of(A), "(null)");
}

#[test]
fn a_mounted_disk_is_refused_by_name_and_force_insists() {
    let machine = machine();
    machine.partition(A, "sda", "sda1", "8:1");
    machine.mount("8:1", "/dev/sda1", "/srv/data");
    refused(
        &machine,
        &request(),
        &["in use", "sda1 is mounted on /srv/data", "unmount", "--force"],
    );
    assert_eq!(writes(&machine), [""; 0], "refused before anything was touched");
    let bound = bind(&machine.system(), &Request { force: true, ..request() }).expect("insisted");
    assert_eq!(bound.driver, UserDriver::Vfio);
}

#[test]
fn a_process_with_the_disk_open_is_named() {
    let machine = machine();
    machine.process(4711, "dd", &["null", "sda"]);
    refused(&machine, &request(), &["sda is opened by dd (process 4711)", "end these programs"]);
}

#[test]
fn a_disk_that_is_mounted_after_the_look_at_it_is_not_taken() {
    let machine = machine();
    machine.kernel(|kernel| kernel.claimed_next.insert("sda".into()));
    refused(&machine, &request(), &["taken sda into use just now", "mptctl status", "--force"]);
    assert_eq!(writes(&machine), [""; 0], "refused before anything was touched");
    bind(&machine.system(), &Request { force: true, ..request() }).expect("insisted");
}

#[test]
fn uio_is_to_be_asked_for() {
    let machine = Machine::new();
    machine.device(A, 0x54, Some("mptsas"));
    machine.driver("uio_pci_generic");
    refused(&machine, &request(), &["no IOMMU", "--driver uio"]);
    let request = Request { driver: Some(UserDriver::Uio), ..request() };
    let bound = bind(&machine.system(), &request).expect("bound");
    assert_eq!(bound.driver, UserDriver::Uio);
    assert_eq!(bound.node, Some(machine.path("dev/uio0")));
}

#[test]
fn vfio_without_an_iommu_is_refused_with_the_remedies() {
    let machine = Machine::new();
    machine.device(A, 0x54, Some("mptsas"));
    let request = Request { driver: Some(UserDriver::Vfio), ..request() };
    refused(&machine, &request, &["no IOMMU", "intel_iommu=on", "--driver uio"]);
}

#[test]
fn uio_behind_a_translating_iommu_is_refused() {
    let machine = machine();
    machine.driver("uio_pci_generic");
    let request = Request { driver: Some(UserDriver::Uio), ..request() };
    refused(&machine, &request, &["translates addresses", "--driver vfio", "iommu=pt"]);
    machine.file("sys/kernel/iommu_groups/7/type", "identity\n");
    bind(&machine.system(), &request).expect("an IOMMU that lets through");
}

#[test]
fn a_missing_driver_is_loaded_or_asked_for() {
    let machine = Machine::new();
    machine.device(A, 0x97, Some("mpt3sas"));
    machine.group(7, &[A]);
    refused(&machine, &request(), &["no driver vfio-pci", "not found", "modprobe vfio-pci"]);
    machine.kernel(|kernel| kernel.modules.insert("vfio-pci".into(), "vfio-pci".into()));
    bind(&machine.system(), &request()).expect("bound");
    for module in ["vfio-pci", "vfio_iommu_type1"] {
        machine.kernel(|kernel| assert!(kernel.log.contains(&format!("modprobe {module}"))));
    }
}

#[test]
fn a_driver_that_does_not_take_it_is_undone() {
    let machine = machine();
    machine.kernel(|kernel| kernel.failing.insert("vfio-pci".into()));
    refused(
        &machine,
        &request(),
        &["vfio-pci did not take", "dmesg", "mpt3sas has 0000:03:00.0 as"],
    );
}

#[test]
fn every_write_that_fails_is_undone() {
    for denied in ["driver_override", "mpt3sas/unbind", "drivers_probe"] {
        let machine = machine();
        machine.kernel(|kernel| kernel.denied.insert(denied.into()));
        let error = bind(&machine.system(), &request()).expect_err(denied).to_string();
        assert!(error.contains("run as root"), "{error}");
        assert_eq!(machine.driver_of(A).as_deref(), Some("mpt3sas"), "{denied}: {error}");
        assert_eq!(machine.override_of(A), "(null)", "{denied}: {error}");
    }
}

#[test]
fn what_cannot_be_undone_is_said() {
    let machine = machine();
    machine.kernel(|kernel| {
        kernel.failing.insert("vfio-pci".into());
        kernel.failing.insert("mpt3sas".into());
    });
    let error = bind(&machine.system(), &request()).expect_err("failed").to_string();
    assert!(error.contains("nor could it be undone"), "{error}");
    assert!(error.contains("mptctl unbind 0000:03:00.0"), "{error}");
}

#[test]
fn an_override_of_before_comes_back() {
    let machine = machine();
    machine.file("sys/devices/pci0000:00/0000:03:00.0/driver_override", "mpt3sas\n");
    machine.kernel(|kernel| kernel.failing.insert("vfio-pci".into()));
    bind(&machine.system(), &request()).expect_err("failed");
    assert_eq!(machine.override_of(A), "mpt3sas");
    assert_eq!(machine.driver_of(A).as_deref(), Some("mpt3sas"));
}

#[test]
fn strangers_and_what_is_not_driven_are_refused() {
    let machine = machine();
    machine.device("0000:04:00.0", 0x0001, Some("sym53c8xx"));
    machine.device("0000:05:00.0", 0x005d, Some("megaraid_sas"));
    let error = |at: &str| {
        let request = Request::new(address(at));
        bind(&machine.system(), &request).expect_err("a refusal").to_string()
    };
    let stranger = error("0000:04:00.0");
    assert!(stranger.contains("no Fusion-MPT controller"), "{stranger}");
    assert!(stranger.contains("1000:0001") && stranger.contains("0000:03:00.0 (SAS3008)"));
    assert!(error("0000:05:00.0").contains("MegaRAID Fusion is not driven yet"));
    assert!(error("0000:06:00.0").contains("there is no PCI device 0000:06:00.0"));
}

#[test]
fn the_kernels_devices_of_its_group_are_in_the_way_unless_they_come_along() {
    let machine = machine();
    machine.device(B, 0x97, Some("mpt3sas"));
    machine.device("0000:00:1c.0", 0x0001, Some("pcieport"));
    machine.file("sys/devices/pci0000:00/0000:00:1c.0/class", "0x060400\n");
    machine.group(7, &[A, B, "0000:00:1c.0"]);
    let others =
        ["group 7 with 0000:03:00.1 (mpt3sas), which", "mptctl bind 0000:03:00.0 0000:03:00.1"];
    refused(&machine, &request(), &others);
    let both = Request { together: vec![address(B)], ..request() };
    bind(&machine.system(), &both).expect("bound");
    bind(&machine.system(), &Request::new(address(B))).expect("the first is no longer in the way");
}

#[test]
fn the_node_is_given_away_after_udev_has_settled() {
    let machine = machine();
    let owner = Some(Owner { user: Some(1000), group: None });
    bind(&machine.system(), &Request { owner, ..request() }).expect("bound");
    let log = machine.kernel(|kernel| kernel.log.clone());
    let at = |line: &str| log.iter().position(|entry| entry == line);
    let given = at("chown Some(1000):None dev/vfio/7").expect("given away");
    assert_eq!(at("settle"), Some(given - 1), "{log:?}");
}

#[test]
fn a_node_that_cannot_be_given_away_undoes_it() {
    let machine = machine();
    machine.kernel(|kernel| kernel.denied.insert("dev/vfio/7".into()));
    let owner = Some(Owner { user: Some(1000), group: None });
    refused(&machine, &Request { owner, ..request() }, &["change the owner", "as before"]);
}

#[test]
fn uio_has_no_owner_but_root() {
    let machine = Machine::new();
    machine.device(A, 0x54, Some("mptsas"));
    machine.driver("uio_pci_generic");
    let owner = Some(Owner { user: Some(1000), group: None });
    let driver = Some(UserDriver::Uio);
    refused(&machine, &Request { owner, driver, ..request() }, &["--owner is for VFIO"]);
}

#[test]
fn binding_twice_changes_nothing() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    machine.kernel(|kernel| kernel.log.clear());
    let again = bind(&machine.system(), &request()).expect("bound already");
    assert_eq!(again.former.as_deref(), Some("vfio-pci"));
    assert_eq!(writes(&machine), [""; 0]);
}

#[test]
fn what_a_process_drives_is_not_taken_from_it() {
    let machine = machine();
    let bound = bind(&machine.system(), &request()).expect("bound");
    machine.process(99, "qemu-system-x86", &["vfio/vfio", "vfio/7"]);
    let error = unbind(&machine.system(), address(A), false).expect_err("in use").to_string();
    assert!(error.contains("open in qemu-system-x86 (process 99)"), "{error}");
    assert!(bound.restore().is_err());
    assert_eq!(machine.driver_of(A).as_deref(), Some("vfio-pci"));
    unbind(&machine.system(), address(A), true).expect("insisted");
}

#[test]
fn this_process_too_has_to_let_go_before_it_restores() {
    let machine = machine();
    let bound = bind(&machine.system(), &request()).expect("bound");
    machine.process(std::process::id(), "mptctl", &["vfio/devices/vfio0"]);
    machine.file("sys/devices/pci0000:00/0000:03:00.0/vfio-dev/vfio0/dev", "511:0\n");
    let error = bound.restore().expect_err("the kernel would wait for ever").to_string();
    assert!(error.contains("in use") && error.contains("mptctl (process"), "{error}");
}

#[test]
fn udevs_look_at_new_disks_is_waited_for() {
    let machine = machine();
    machine.process(300, "(udev-worker)", &["sda"]);
    let gone = machine.path("proc/300");
    machine.kernel(|kernel| kernel.ends_on_settle.push(gone));
    bind(&machine.system(), &request()).expect("bound");
}

#[test]
fn a_bound_controller_is_restored_to_what_it_was() {
    let machine = machine();
    let bound = bind(&machine.system(), &request()).expect("bound");
    assert_eq!(bound.restore(), Ok(Some("mpt3sas".into())));
    assert_eq!(machine.override_of(A), "(null)");
    assert_eq!(bound.restore(), Ok(Some("mpt3sas".into())), "and a second time nothing happens");
}

#[test]
fn one_that_was_lent_before_is_restored_to_the_kernels_own_driver() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    let bound = already(&machine.system(), address(A)).expect("there").expect("lent");
    assert_eq!(bound.restore(), Ok(Some("mpt3sas".into())));
    assert!(already(&machine.system(), address(A)).expect("there").is_none());
}

#[test]
fn a_driver_that_was_never_loaded_is_loaded_for_the_way_back() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    std::fs::remove_dir_all(machine.path("sys/bus/pci/drivers/mpt3sas")).expect("gone");
    machine.kernel(|kernel| {
        kernel.modules.insert("pci:v00001000d00000097".into(), "mpt3sas".into());
    });
    let unbound = unbind(&machine.system(), address(A), false).expect("given back");
    assert_eq!(unbound.driver.as_deref(), Some("mpt3sas"));
}

#[test]
fn a_kernel_without_a_driver_leaves_it_free_and_says_so() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    machine.kernel(|kernel| kernel.native.clear());
    machine.file("etc/driverctl.d/0000:03:00.0", "vfio-pci\n");
    let unbound = unbind(&machine.system(), address(A), false).expect("given back");
    assert_eq!((unbound.driver, machine.driver_of(A)), (None, None));
    assert!(unbound.notes[0].contains("has no driver that takes it"), "{:?}", unbound.notes);
    assert!(unbound.notes[1].contains("driverctl unset-override 0000:03:00.0"));
}

#[test]
fn unbinding_what_the_kernel_has_does_nothing() {
    let machine = machine();
    let unbound = unbind(&machine.system(), address(A), false).expect("nothing to do");
    assert_eq!(unbound.driver.as_deref(), Some("mpt3sas"));
    assert_eq!(writes(&machine), [""; 0]);
}

#[test]
fn a_failed_unbind_leaves_it_with_user_space() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    machine.kernel(|kernel| kernel.denied.insert("vfio-pci/unbind".into()));
    let error = unbind(&machine.system(), address(A), false).expect_err("denied").to_string();
    assert!(error.contains("vfio-pci has 0000:03:00.0 as before"), "{error}");
    assert_eq!(machine.override_of(A), "vfio-pci");
}

#[test]
fn a_normal_user_is_told_to_be_root() {
    let machine = machine();
    machine.kernel(|kernel| kernel.not_root = true);
    refused(&machine, &request(), &["only root may take 0000:03:00.0", "sudo mptctl bind"]);
    std::fs::remove_file(machine.path("sys/block/sda")).expect("a controller without disks");
    let told = "set 0000:03:00.0 apart for vfio-pci: permission denied; run as root (mpt3sas has";
    refused(&machine, &request(), &[told]);
    machine.kernel(|kernel| assert_eq!(kernel.log.len(), 2, "nothing to undo: {:?}", kernel.log));
}

#[test]
fn two_at_once_take_turns() {
    let machine = machine();
    let path = machine.path("sys/bus/pci/devices/0000:03:00.0/driver_override");
    let other = std::fs::File::options().write(true).open(path).expect("driver_override");
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&other, exclusive).expect("nobody has it");
    refused(&machine, &request(), &["another mptctl", "mptctl status", "try again"]);
    assert!(unbind(&machine.system(), address(A), false).is_err());
    assert_eq!(writes(&machine), [""; 0], "not touched while it is another's turn");
    drop(other);
    let bound = bind(&machine.system(), &request()).expect("its turn");
    bound.restore().expect("its turn again: none is kept");
}

#[test]
fn what_a_killed_bind_left_set_apart_is_cleared() {
    let machine = machine();
    machine.file("sys/devices/pci0000:00/0000:03:00.0/driver_override", "vfio-pci\n");
    let unbound = unbind(&machine.system(), address(A), false).expect("cleared");
    assert_eq!(unbound.driver.as_deref(), Some("mpt3sas"));
    assert!(unbound.notes[0].contains("set apart for vfio-pci is undone"), "{:?}", unbound.notes);
    assert_eq!(machine.override_of(A), "(null)");
    assert_eq!(machine.driver_of(A).as_deref(), Some("mpt3sas"));
}

#[test]
fn vfio_without_an_iommu_is_refused_in_its_unsafe_mode_too() {
    let machine = Machine::new();
    machine.device(A, 0x54, Some("mptsas"));
    machine.driver("vfio-pci");
    machine.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    refused(&machine, &request(), &["no IOMMU", "unsafe mode", "--driver uio", "--force"]);
    bind(&machine.system(), &Request { force: true, ..request() }).expect("insisted");
}

#[test]
fn what_maps_memory_is_loaded_for_one_that_was_lent_at_boot() {
    let machine = machine();
    bind(&machine.system(), &request()).expect("bound");
    machine.kernel(|kernel| kernel.log.clear());
    bind(&machine.system(), &request()).expect("bound already");
    machine.kernel(|kernel| assert_eq!(kernel.log, ["modprobe vfio_iommu_type1"]));
}

#[test]
fn undone_is_as_it_was_and_restored_is_the_kernels() {
    let machine = machine();
    std::fs::remove_file(machine.path("sys/devices/pci0000:00/0000:03:00.0/driver")).expect("free");
    let bound = bind(&machine.system(), &request()).expect("bound");
    assert_eq!(bound.undo(), Ok(None));
    assert_eq!((machine.driver_of(A), machine.override_of(A)), (None, "(null)".into()));
    let bound = bind(&machine.system(), &request()).expect("bound");
    assert_eq!(bound.restore(), Ok(Some("mpt3sas".into())));
}
