//! Whole inventories of software controllers.

use fusion_mpt_mock::disk::Disk as Medium;
use fusion_mpt_mock::model::{Chip, MemberState, Model, RaidLevel};
use fusion_mpt_mock::target::{Target, TargetConfig};

use super::*;
use crate::rig::{CHIPS, disk, on};

fn plug(model: &mut Model, slot: u8, target: Target) {
    model.add_disk(slot, target).expect("a free slot");
}

fn take_one(chip: Chip, build: impl FnOnce(&mut Model)) -> Inventory {
    on(chip, build, |host, _| take(host))
}

#[test]
fn a_controller_tells_who_it_is_on_every_generation() {
    for chip in CHIPS {
        let inventory = take_one(chip, |_| {});
        let board = &inventory.board;
        assert_eq!(board.board.as_deref(), Some(chip.board_name));
        assert_eq!(board.tracer.as_deref(), Some("SP21012345"));
        assert_eq!(board.sas_address.as_deref(), Some("500605b001234560"), "{}", chip.name);
        assert_eq!(board.pci_id, Some(format!("1000:{:04x}", chip.device_id)));
        assert!(board.protocols.contains(&"initiator"), "{}", chip.name);
        assert!(board.bios.is_some() && board.exceptions.is_empty());
        assert_eq!(inventory.phys.as_ref().map(Vec::len), Some(chip.phys.into()));
        assert!(inventory.devices.is_empty() && inventory.expanders.is_empty());
        let credits = if chip.name == "sas1068" { "GlobalCredits" } else { "RequestCredit" };
        let told = inventory.facts.iter().find(|fact| fact.name == credits);
        assert_eq!(told.map(|fact| fact.value.clone()), Some(chip.request_credit.to_string()));
    }
}

#[test]
fn disks_are_told_with_their_place_link_and_names() {
    for chip in CHIPS {
        let inventory = take_one(chip, |model| {
            plug(model, 0, disk(0, false));
            plug(model, 2, disk(1, true));
        });
        let [sas, sata] = inventory.devices.as_slice() else { panic!("{:?}", inventory.devices) };
        assert_eq!((sas.protocol, sata.protocol), ("SAS", "SATA"));
        assert_eq!((sas.slot, sata.slot), (0, 2));
        assert_eq!(sas.wwn.as_deref(), Some("5000c50000002000"));
        assert_eq!(sas.sas_address.as_deref(), Some("5000c50000002100"));
        assert_eq!((sata.vendor.as_str(), sata.serial.as_str()), ("ATA", "TESTDISK1"));
        assert_eq!((sas.bytes, sas.state), (4 << 20, State::Ready));
        assert_eq!(sas.enclosure.as_deref(), Some("500605b001234560"));
        let phys = inventory.phys.as_deref().expect("told");
        let linked: Vec<u8> = phys.iter().filter(|phy| phy.up).map(|phy| phy.phy).collect();
        assert_eq!(linked, [0, 2], "{}", chip.name);
        assert_eq!(sas.link, Some(phys[0].link));
        assert_eq!(phys[0].attached, Some("SAS target"));
        assert_eq!(phys[2].attached, Some("SATA device"), "{}", chip.name);
        assert_eq!(phys[0].errors, Some(PhyErrors::default()));
        assert_eq!(sas.bus_and_id.is_some(), chip.name == "sas1068");
    }
}

#[test]
fn an_expander_is_told_with_its_phys_and_what_hangs_from_them() {
    for chip in CHIPS {
        let inventory = take_one(chip, |model| {
            model.attach_expander(4).expect("room");
            plug(model, chip.phys + 1, disk(0, false));
        });
        let [expander] = inventory.expanders.as_slice() else { panic!("{}", chip.name) };
        assert_eq!((expander.phy_count, expander.phys.len()), (8, 8));
        let [device] = inventory.devices.as_slice() else { panic!("{}", chip.name) };
        assert_eq!(device.parent_handle, expander.handle);
        assert_eq!(expander.phys[1].attached_handle, Some(device.handle));
        assert_eq!(device.link, Some(expander.phys[1].link), "{}", chip.name);
        assert!(device.megabits.is_some());
        assert_eq!(inventory.enclosures.len(), 2);
        assert_eq!(device.enclosure_handle, expander.enclosure_handle);
    }
}

#[test]
fn a_disk_that_is_not_ready_says_why_and_the_others_are_told_all_the_same() {
    for chip in CHIPS {
        let inventory = take_one(chip, |model| {
            let mut stopped = disk(0, false);
            stopped.set_ready(false);
            plug(model, 0, stopped);
            plug(model, 1, disk(1, false));
        });
        let [stopped, ready] = inventory.devices.as_slice() else { panic!("{}", chip.name) };
        assert_eq!(stopped.state, State::NotReady);
        assert!(stopped.trouble.contains("NOT READY"), "{}", stopped.trouble);
        assert_eq!((ready.state, ready.trouble.as_str()), (State::Ready, ""));
    }
}

#[test]
fn a_disk_that_was_pulled_is_missing() {
    let devices = on(
        Chip::SAS3008,
        |model| {
            plug(model, 0, disk(0, false));
            plug(model, 1, disk(1, false));
        },
        |host, bus| {
            bus.with_model(|model| model.remove_disk(0));
            while host.targets().len() > 1 {
                host.poll(&mut |_| {})?;
                host.pause();
            }
            Ok(take(host)?.devices)
        },
    );
    let states: Vec<State> = devices.iter().map(|device| device.state).collect();
    assert_eq!(states, [State::Missing, State::Ready]);
    assert_eq!(devices[0].link, None);
}

#[test]
fn a_mirror_is_told_with_its_members_and_how_they_are() {
    let inventory = take_one(Chip::SAS2008, |model| {
        plug(model, 0, disk(0, false));
        plug(model, 1, disk(1, false));
        let config = TargetConfig { wwn: 0x6000_1234_0000_0001, ..TargetConfig::default() };
        let volume = Target::new(config, Medium::memory(2 << 20));
        model.create_volume(RaidLevel::Raid1, &[0, 1], volume).expect("a mirror");
        model.set_member_state(1, MemberState::Failed);
    });
    let [volume] = inventory.volumes.as_slice() else { panic!("{:?}", inventory.volumes) };
    assert_eq!((volume.level, volume.state), ("RAID 1", "degraded"));
    assert_eq!(volume.bytes, Some(2 << 20));
    assert_eq!(volume.wwid.as_deref(), Some("6000123400000001"));
    let states: Vec<&str> = inventory.members.iter().map(|member| member.state).collect();
    assert_eq!(volume.members.len(), 2);
    assert_eq!(states.iter().filter(|state| **state == "optimal").count(), 1, "{states:?}");
    assert_eq!(inventory.members[0].serial.as_deref(), Some("TESTDISK0"));
}

#[test]
fn pages_that_are_refused_leave_their_fields_empty_and_nothing_else() {
    for chip in CHIPS {
        let inventory = take_one(chip, |model| {
            plug(model, 0, disk(0, false));
            // SAS device pages are what finds the disks at all.
            model.lie_in_pages(Some(|kind, _, page| page.filter(|_| kind == 0x12)));
        });
        assert!(inventory.phys.is_none() && inventory.enclosures.is_empty());
        assert_eq!((inventory.board.board, inventory.board.pci_id), (None, None));
        assert_eq!(inventory.devices.len(), 1, "{}", chip.name);
        assert_eq!(inventory.devices[0].state, State::Ready);
    }
}

#[test]
fn lists_of_handles_that_do_not_rise_end() {
    let inventory = take_one(Chip::SAS3008, |model| {
        plug(model, 0, disk(0, false));
        model.lie_in_pages(Some(|kind, _, page| match kind {
            // Whatever is asked: enclosure 1.
            0x15 => {
                let mut page = vec![0; 0x28];
                page[..8].copy_from_slice(&[0, 0, 0, 0x0f, 10, 0, 0x15, 0]);
                page[0x16] = 1;
                Some(page)
            }
            _ => page,
        }));
    });
    assert_eq!(inventory.enclosures.len(), 1);
}

#[test]
fn pages_full_of_ones_are_shown_and_end() {
    for chip in CHIPS {
        let inventory = take_one(chip, |model| {
            plug(model, 0, disk(0, false));
            model.attach_expander(3).expect("room");
            model.lie_in_pages(Some(|kind, _, page| match kind {
                // SAS device pages are what finds the disks at all.
                0x12 => page,
                _ => page.map(|mut page| {
                    page.iter_mut().skip(8).for_each(|byte| *byte = 0xff);
                    page
                }),
            }));
        });
        assert_eq!(inventory.devices.len(), 1, "{}", chip.name);
        assert!(inventory.expanders.is_empty() && inventory.enclosures.is_empty());
        // As many phys as the page has room for, whatever it says.
        assert!(inventory.phys.is_some_and(|phys| phys.len() <= usize::from(chip.phys)));
    }
}
