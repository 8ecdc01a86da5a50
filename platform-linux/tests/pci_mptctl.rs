//! `mptctl bind`, `unbind` and `status` as a person types them, on whatever machine this is: nothing
//! here needs a controller or touches one.
#![cfg(target_os = "linux")]

mod common;

use common::mptctl;

/// An address that is nobody's: the last function of the last bus of a domain that no firmware uses.
const NOBODY: &str = "fffe:ff:1f.7";

#[test]
fn the_status_of_this_machine_is_a_document() {
    let status = mptctl(&["status", "--json"]);
    if !std::path::Path::new("/sys/bus/pci/devices").exists() {
        assert!(status.stderr.contains("cannot list PCI devices"), "{}", status.stderr);
        return;
    }
    let document = status.good().json();
    assert_eq!(document["command"], "status");
    assert!(document["controllers"].is_array(), "{document}");
}

#[test]
fn a_controller_that_is_not_there_is_neither_bound_nor_unbound() {
    for command in ["bind", "unbind"] {
        let ran = mptctl(&[command, NOBODY]);
        assert_eq!(ran.code, Some(1), "{command}");
        assert!(ran.stderr.contains("there is no PCI device fffe:ff:1f.7"), "{}", ran.stderr);
        assert!(ran.stderr.contains("mptctl status"), "{}", ran.stderr);
    }
}

#[test]
fn a_bus_that_is_no_controller_is_not_said_to_lack_a_driver() {
    let ran = mptctl(&["list", "--bus", NOBODY]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("there is no PCI device fffe:ff:1f.7"), "{}", ran.stderr);
    assert!(ran.stderr.contains("mptctl status"), "{}", ran.stderr);
    // And one of this machine's that is another vendor's, if there is one.
    let others = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    for other in others {
        let vendor = std::fs::read_to_string(other.path().join("vendor")).unwrap_or_default();
        if vendor.trim() != "0x1000" {
            let ran = mptctl(&["list", "--bus", &other.file_name().to_string_lossy()]);
            assert!(ran.stderr.contains("is no Fusion-MPT controller"), "{}", ran.stderr);
            return;
        }
    }
}

#[test]
fn wrong_words_are_usage() {
    for (arguments, told) in [
        (&["bind"][..], "<ADDRESS>"),
        (&["bind", "sda"], "no PCI address"),
        (&["bind", NOBODY, "--driver", "nvme"], "neither vfio nor uio"),
        (&["bind", NOBODY, "--owner", "nobody-of-that-name"], "no user \"nobody-of-that-name\""),
        (&["bind", NOBODY, "--bus", "qtest"], "bind takes no --bus"),
        (&["unbind", NOBODY, "--trace"], "unbind takes no --trace"),
        (&["status", "--disk", "d.img"], "status takes no --disk"),
    ] {
        let ran = mptctl(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_controller_is_not_taken_from_its_driver_for_block_devices_that_there_cannot_be() {
    let ran = mptctl(&["export", "--bus", NOBODY, "--bind", "vfio"]);
    assert_eq!(ran.code, Some(1));
    // The address is looked at only where there can be block devices.
    let told = match std::path::Path::new("/dev/ublk-control").exists() {
        true => "",
        false => "modprobe ublk_drv",
    };
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
}
