//! Lies in what the driver asks for itself, and in the news of disks: each ends, and the disks that
//! are there are found all the same.

mod chips;
mod hostile;

use std::time::Duration;

use chips::on_every_chip;
use fusion_mpt::controller::Action;
use fusion_mpt::error::Error;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::pages::PageRequest;
use fusion_mpt::recovery::TaskRequest;
use fusion_mpt::scsi::Lun;
use fusion_mpt::targets::TargetId;
use fusion_mpt::wire::config::{ExtPageType, PageId};
use fusion_mpt::wire::task::TaskType;
use fusion_mpt_mock::model::{Chip, Model, disk};
use hostile::{DISK, Rig, frame, rig_with_reads, smid_of};

/// Within this time every chip has told of a disk that was plugged in: a SAS1068 tells of its link,
/// and a second later of the disk.
const NEWS: Duration = Duration::from_secs(3);

on_every_chip! {
    a_reply_to_a_page_that_answers_something_else_fails_the_page = lying_answers_to_own_requests;
    task_management_answered_with_something_else_fails = lying_task_reply;
    a_page_longer_than_the_buffer_is_refused = long_pages;
    a_list_of_devices_without_end_ends = endless_list;
    a_list_of_devices_that_turns_back_ends = circular_list;
    an_event_cut_short_leads_to_a_scan = cut_event;
    a_storm_of_events_loses_no_disk = event_storm;
    a_page_that_others_leave_no_room_for_is_made_up_for = crowded_out;
}

/// Replies of the wrong function to the request of the driver's own that is under way.
fn lying_answers_to_own_requests<G: Generation>(chip: Chip) {
    for function in [0x00, 0x01, 0x06, 0x07, 0x08, 0xff] {
        let mut rig = Rig::<G>::coherent(chip, 2);
        rig.actions();
        rig.driver.request_page(PageRequest::sas_device(0xffff)).expect("none under way");
        // It is in one of two internal slots, used in turn; the other is free.
        rig.bus.with_model(|model| {
            for smid in [1, 4] {
                model.post_frame(0, smid, &frame(smid, 5, function));
            }
        });
        rig.bus.step(2);
        rig.poll();
        assert_eq!(rig.driver.counters().bad_replies, 1, "function {function:#x}");
        let mut page = [0; 4096];
        match rig.driver.take_page(&mut page) {
            Some(Err(error @ Error::BadReply { .. })) => hostile::assert_sentence(&error),
            other => panic!("function {function:#x}: {other:?}"),
        }
        rig.settle();
        // Discovery goes on after it.
        rig.bus.with_model(|model| model.remove_disk(1)).expect("there is one");
        rig.bus.with_model(|model| model.add_disk(2, disk(9, DISK))).expect("room");
        rig.bus.advance(NEWS);
        rig.settle();
        assert_eq!(
            rig.actions(),
            [Action::TargetGone(TargetId(1)), Action::TargetAppeared(TargetId(2))],
            "function {function:#x}"
        );
    }
}

fn lying_task_reply<G: Generation>(chip: Chip) {
    for function in [0x00, 0x04, 0x06, 0x07] {
        let (mut rig, out) = rig_with_reads::<G>(chip, 2);
        let device = rig.driver.device(TargetId(0)).expect("present");
        let request = TaskRequest {
            kind: TaskType::ABORT_TASK,
            device,
            lun: Lun::default(),
            smid: smid_of(&rig, out[0]),
        };
        let before = rig.driver.counters().bad_replies;
        let mut delay = rig.bus.delay();
        let route = fusion_mpt::controller::TaskRoute::Queue;
        rig.driver.request_task_management(&request, route, &mut delay).expect("posted");
        rig.bus.with_model(|model| model.post_frame(0, 5, &frame(5, 7, function)));
        rig.bus.step(1);
        rig.poll();
        match rig.driver.take_task_reply() {
            Some(Err(Error::BadReply { .. })) => {}
            other => panic!("function {function:#x}: {other:?}"),
        }
        assert_eq!(rig.driver.counters().bad_replies, before + 1);
        rig.settle();
        // Another one is possible.
        assert!(rig.driver.request_task_management(&request, route, &mut delay).is_ok());
    }
}

fn long_pages<G: Generation>(chip: Chip) {
    let mut rig = Rig::<G>::coherent(chip, 1);
    rig.bus.with_model(|model| {
        model.lie_in_pages(Some(|_, _, page| {
            page.map(|mut page| {
                page.resize(8192, 0xee);
                page[4..6].copy_from_slice(&2048u16.to_le_bytes());
                page
            })
        }));
    });
    let handle = rig.driver.target(TargetId(0)).expect("known").page.handle;
    let mut page = [0; 4096];
    let mut delay = rig.bus.delay();
    let error = rig
        .driver
        .read_page(&mut delay, PageRequest::sas_device(handle), &mut page, |_| {})
        .expect_err("8,192 bytes into 4,096");
    assert_eq!(error, Error::PageTooLong { bytes: 8192, room: 4096 });
    hostile::assert_sentence(&error);
    // A scan that meets one ends, and takes nothing away.
    rig.driver.scan();
    rig.settle();
    assert!(rig.driver.settled());
    assert!(rig.driver.target(TargetId(0)).is_some_and(|target| target.present));
    // And of a caller with a small buffer.
    rig.bus.with_model(|model| model.lie_in_pages(None));
    let mut small = [0; 8];
    let error = rig
        .driver
        .read_page(&mut delay, PageRequest::sas_device(handle), &mut small, |_| {})
        .expect_err("a page into 8 bytes");
    assert!(matches!(error, Error::PageTooLong { room: 8, .. }), "{error:?}");
    // An extended page of a type that there is not.
    let none = PageRequest::new(PageId::extended(ExtPageType(0x7e), 0), 0);
    let error =
        rig.driver.read_page(&mut delay, none, &mut page, |_| {}).expect_err("no such page");
    assert!(matches!(error, Error::Ioc { .. }), "{error:?}");
}

/// A SAS device page 0 of a disk with this handle.
fn device_page(handle: u16) -> Vec<u8> {
    let mut page = vec![0; 0x38];
    page[3] = 0x0f;
    page[4] = 14;
    page[6] = 0x12;
    page[0x0c..0x0e].copy_from_slice(&handle.to_le_bytes());
    page[0x13] = 0x50;
    page[0x18..0x1a].copy_from_slice(&handle.to_le_bytes());
    page[0x1c..0x1e].copy_from_slice(&0x0401u16.to_le_bytes());
    page
}

#[track_caller]
fn assert_scan_ends<G: Generation>(rig: &mut Rig<G>) {
    rig.driver.scan();
    rig.settle();
    assert!(rig.driver.settled(), "the scan goes on and on");
}

fn endless_list<G: Generation>(chip: Chip) {
    let mut rig = Rig::<G>::coherent(chip, 1);
    rig.bus.with_model(|model| {
        model.lie_in_pages(Some(|_, address, _| {
            let after = address as u16;
            // From the start on, every handle there is.
            Some(device_page(if after == 0xffff { 0xf800 } else { after.wrapping_add(1) }))
        }));
    });
    assert_scan_ends(&mut rig);
    assert_eq!(rig.driver.targets().count(), 32, "as many as the table holds");
}

fn circular_list<G: Generation>(chip: Chip) {
    // Every one is the same, two that take turns, and the one that means "from the start".
    for lie in [
        (|_, _, _| Some(device_page(9))) as fusion_mpt_mock::model::PageLie,
        |_, address, _| Some(device_page(if address as u16 == 12 { 11 } else { 12 })),
        |_, _, _| Some(device_page(0xffff)),
        |_, _, _| Some(device_page(0)),
    ] {
        let mut rig = Rig::<G>::coherent(chip, 1);
        rig.bus.with_model(|model| model.lie_in_pages(Some(lie)));
        assert_scan_ends(&mut rig);
        // The truth is found again.
        rig.bus.with_model(|model| model.lie_in_pages(None));
        assert_scan_ends(&mut rig);
        let present: Vec<_> = rig.driver.targets().filter(|target| target.present).collect();
        assert_eq!(present.len(), 1);
        assert_eq!(present[0].id, TargetId(0));
    }
}

fn cut_event<G: Generation>(chip: Chip) {
    let mut rig = Rig::<G>::coherent(chip, 1);
    rig.actions();
    // The event that tells of the new disk is lost.
    rig.bus.with_model(|model| {
        model.drop_replies(u32::MAX);
        model.add_disk(1, disk(1, DISK)).expect("room");
    });
    rig.bus.advance(NEWS);
    rig.bus.with_model(|model| model.drop_replies(0));
    rig.settle();
    assert_eq!(rig.actions(), []);
    rig.bus.with_model(|model| {
        if model.chip().is_mpi1() {
            model.raise_event(0x0f, vec![1, 0, 3, 0], false);
        } else {
            // Nine entries, of which one is there.
            model.raise_event(0x1c, vec![1, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 4], false);
        }
    });
    rig.settle();
    assert_eq!(rig.actions(), [Action::TargetAppeared(TargetId(1))]);
    assert_eq!(rig.driver.counters().lies(), 0);
}

/// Tells of devices with these handles as if they had just come.
fn raise_news(model: &mut Model, handles: &[u16]) {
    let mut entries = Vec::new();
    for handle in handles {
        let [low, high] = handle.to_le_bytes();
        if model.chip().is_mpi1() {
            let data = vec![0, 0, 3, 0, 0, 0, low, high, 1, 4, 0, 0, 0, 0, 0, 0];
            model.raise_event(0x0f, data, false);
        } else {
            entries.extend([low, high, 0xa0, 1]);
        }
    }
    if !model.chip().is_mpi1() {
        let count = handles.len() as u8;
        let head = vec![1, 0, 0, 0, count, 0, 0, 0, count, 0, 0, 0];
        model.raise_event(0x1c, [head, entries].concat(), false);
    }
}

/// The handles of all disks.
fn handles(model: &mut Model) -> Vec<u16> {
    let phys = model.chip().phys;
    (0..phys).filter_map(|slot| model.device(slot).map(|device| device.handle)).collect()
}

/// A rig with disks in all slots, of which the driver knows the first.
fn rig_with_untold_disks<G: Generation>(chip: Chip) -> Rig<G> {
    let mut rig = Rig::<G>::coherent(chip, 1);
    rig.actions();
    rig.bus.with_model(|model| {
        model.drop_replies(u32::MAX);
        for slot in 1..chip.phys {
            model.add_disk(slot, disk(slot.into(), DISK)).expect("room");
        }
    });
    rig.bus.advance(NEWS * chip.phys.into());
    rig.bus.with_model(|model| model.drop_replies(0));
    rig.settle();
    assert_eq!(rig.actions(), []);
    rig
}

#[track_caller]
fn assert_all_present<G: Generation>(rig: &mut Rig<G>, chip: Chip) {
    rig.settle();
    assert!(rig.driver.settled());
    let present = rig.driver.targets().filter(|target| target.present).count();
    assert_eq!(present, usize::from(chip.phys));
    assert_eq!(rig.bus.with_model(|model| model.unacknowledged()), 0);
    assert_eq!(rig.driver.counters().lies(), 0);
}

/// There is room for 16 pages to be asked for. Others come while the first is under way, so that
/// there is none for its second half.
fn crowded_out<G: Generation>(chip: Chip) {
    for extra in 0..4 {
        let mut rig = rig_with_untold_disks::<G>(chip);
        rig.bus.with_model(|model| {
            let mut all = handles(model);
            all.rotate_left(1);
            // Handles of nobody.
            all.extend((0..16 - all.len()).map(|index| 0x700 + index as u16));
            raise_news(model, &all);
        });
        rig.bus.step(16);
        rig.poll();
        rig.bus.with_model(|model| {
            for index in 0..extra {
                raise_news(model, &[0x800 + index]);
            }
        });
        assert_all_present(&mut rig, chip);
    }
}

/// More events than there is room to remember, at the worst of times.
fn event_storm<G: Generation>(chip: Chip) {
    for delay in 0..8 {
        let mut rig = rig_with_untold_disks::<G>(chip);
        let all = rig.bus.with_model(handles);
        for _ in 0..3 {
            rig.bus.with_model(|model| raise_news(model, &all));
        }
        for round in 0..40u8 {
            rig.bus.with_model(|model| model.raise_event(0x21, vec![round; 4], true));
            if round % 8 == delay {
                rig.bus.step(1);
                rig.poll();
                rig.bus.with_model(|model| raise_news(model, &all));
            }
        }
        assert_all_present(&mut rig, chip);
    }
}
