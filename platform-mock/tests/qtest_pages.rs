//! Configuration pages of QEMU's controller.

mod common;

use common::Rig;
use common::qemu::Machine;
use fusion_mpt::error::Error;
use fusion_mpt::generation::Mpi1;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::wire::config::pages::mpi1::{SasDevice0, SasIoUnit0, SasIoUnit0Phy, SasPhy0};
use fusion_mpt::wire::config::pages::{self, Ioc0, LinkRate, Manufacturing0};
use fusion_mpt::wire::config::{ExtPageType, PageId, PageType, page_address};
use fusion_mpt::wire::{Function, IocStatus};
use fusion_mpt_mock::qtest::Qtest;
use zerocopy::FromBytes;

const SAS_ADDRESS: u64 = 0x5000_62b0_0011_2230;

type QemuRig = Rig<Qtest, Mpi1>;

/// Disks at targets 0 and 5.
fn rig() -> QemuRig {
    let mut machine = Machine::new();
    machine.options.sas_address = SAS_ADDRESS;
    for id in [0, 5] {
        machine.add_disk(id, 1 << 20);
    }
    Rig::new(machine.start())
}

fn plain(page_type: PageType, number: u8) -> PageRequest {
    PageRequest::new(PageId::plain(page_type, number), 0)
}

fn extended(page_type: ExtPageType, number: u8, address: u32) -> PageRequest {
    PageRequest::new(PageId::extended(page_type, number), address)
}

fn read<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_prefix(bytes).expect("the whole page").0
}

#[track_caller]
fn assert_refused(result: Result<Vec<u8>, Error>, expected: IocStatus) {
    match result {
        Err(Error::Ioc { function: Function::CONFIG, status, .. }) => assert_eq!(status, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_plain_page_has_the_length_that_its_header_says() {
    let mut rig = rig();
    for (page_type, last) in
        [(PageType::MANUFACTURING, 10), (PageType::IO_UNIT, 4), (PageType::IOC, 6)]
    {
        for number in 0..=last {
            let page = rig
                .page(plain(page_type, number))
                .unwrap_or_else(|error| panic!("{page_type} page {number}: {error}"));
            let [_, length, found, kind] = *page.first_chunk().unwrap();
            assert_eq!(page.len(), usize::from(length) * 4, "{page_type} page {number}");
            assert_eq!((found, kind & 0xf), (number, page_type.0));
        }
        assert_refused(rig.page(plain(page_type, last + 1)), IocStatus::CONFIG_INVALID_PAGE);
    }
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn every_extended_page_has_the_length_that_its_header_says() {
    let mut rig = rig();
    for (page_type, last, address) in [
        (ExtPageType::SAS_IO_UNIT, 3, 0),
        (ExtPageType::SAS_PHY, 1, page_address::sas_phy(5)),
        (ExtPageType::SAS_DEVICE, 2, page_address::sas_device_at(0, 5)),
    ] {
        for number in 0..=last {
            let page = rig
                .page(extended(page_type, number, address))
                .unwrap_or_else(|error| panic!("{page_type} page {number}: {error}"));
            let length = usize::from(u16::from_le_bytes([page[4], page[5]])) * 4;
            assert_eq!(page.len(), length, "{page_type} page {number}");
            assert_eq!((page[2], page[3] & 0xf, page[6]), (number, 0xf, page_type.0));
        }
        let beyond = extended(page_type, last + 1, address);
        assert_refused(rig.page(beyond), IocStatus::CONFIG_INVALID_PAGE);
    }
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn pages_say_what_qemu_is() {
    let mut rig = rig();
    let page: Manufacturing0 = read(&rig.page(plain(PageType::MANUFACTURING, 0)).unwrap());
    assert_eq!(pages::text(&page.chip_name), "QEMU MPT Fusion");
    assert_eq!(pages::text(&page.chip_revision), "2.5");
    assert_eq!(pages::text(&page.board_assembly), "QEMU");
    assert_eq!(pages::text(&page.board_tracer_number), "0000111122223333");
    let page = rig.page(plain(PageType::MANUFACTURING, 5)).unwrap();
    assert_eq!(page[4..12], SAS_ADDRESS.to_le_bytes());
    let page: Ioc0 = read(&rig.page(plain(PageType::IOC, 0)).unwrap());
    assert_eq!((page.vendor_id.get(), page.device_id.get()), (0x1000, 0x0054));
    assert_eq!((page.subsystem_vendor_id.get(), page.subsystem_id.get()), (0x1000, 0x8000));
}

#[test]
fn phys_and_devices_agree() {
    let mut rig = rig();
    let bytes = rig.page(extended(ExtPageType::SAS_IO_UNIT, 0, 0)).unwrap();
    let unit: SasIoUnit0 = read(&bytes);
    assert_eq!(unit.num_phys, 8);
    let phys: Vec<SasIoUnit0Phy> =
        pages::entries(&bytes, size_of::<SasIoUnit0>(), unit.num_phys).collect();
    assert_eq!(phys.len(), 8);
    for (number, phy) in (0u8..).zip(&phys) {
        let expected = matches!(number, 0 | 5);
        assert_eq!(phy.negotiated_link_rate == LinkRate::RATE_3_0.0, expected, "phy {number}");
        let handle = phy.attached_dev_handle.get();
        assert_eq!(handle, if expected { 9 + u16::from(number) } else { 0 });
        let address = page_address::sas_phy(number);
        let page: SasPhy0 = read(&rig.page(extended(ExtPageType::SAS_PHY, 0, address)).unwrap());
        assert_eq!(page.attached_dev_handle.get(), handle);
        if !expected {
            continue;
        }
        for address in [page_address::sas_device(handle), page_address::sas_device_at(0, number)] {
            let request = extended(ExtPageType::SAS_DEVICE, 0, address);
            let device: SasDevice0 = read(&rig.page(request).unwrap());
            assert_eq!(device.dev_handle.get(), handle);
            assert_eq!((device.bus, device.target_id), (0, number));
            assert_eq!(device.sas_address.get(), 0x5000_c500_0000_0100 + u64::from(number));
            assert_eq!(device.phy_num, number);
        }
    }
}

#[test]
fn the_walk_over_the_devices_ends_by_itself() {
    let mut rig = rig();
    let mut handle = page_address::FIRST;
    let mut found = Vec::new();
    let end = loop {
        match rig.page(PageRequest::next_sas_device(handle)) {
            Ok(page) => handle = read::<SasDevice0>(&page).dev_handle.get(),
            end => break end,
        }
        found.push(handle);
    };
    assert_eq!(found, [9, 14]);
    assert_refused(end, IocStatus::CONFIG_INVALID_PAGE);
}

#[test]
fn pages_that_there_are_not_are_refused_with_the_iocs_own_word() {
    let mut rig = rig();
    for page_type in [PageType::RAID_VOLUME, PageType::RAID_PHYS_DISK, PageType::FC_PORT] {
        assert_refused(rig.page(plain(page_type, 0)), IocStatus::CONFIG_INVALID_TYPE);
    }
    for page_type in [ExtPageType::ENCLOSURE, ExtPageType::SAS_EXPANDER, ExtPageType(0xff)] {
        assert_refused(rig.page(extended(page_type, 0, 0)), IocStatus::CONFIG_INVALID_TYPE);
    }
    for (page_type, address) in [
        (ExtPageType::SAS_PHY, page_address::sas_phy(8)),
        (ExtPageType::SAS_DEVICE, page_address::sas_device(0)),
        (ExtPageType::SAS_DEVICE, page_address::sas_device(10)),
        (ExtPageType::SAS_DEVICE, page_address::sas_device(17)),
        (ExtPageType::SAS_DEVICE, page_address::sas_device_at(0, 8)),
        (ExtPageType::SAS_DEVICE, page_address::sas_device_at(1, 0)),
    ] {
        let request = extended(page_type, 0, address);
        assert_refused(rig.page(request), IocStatus::CONFIG_INVALID_PAGE);
    }
    // And the next one is read as if nothing had been.
    assert_eq!(rig.page(plain(PageType::IOC, 0)).unwrap().len(), 0x1c);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_page_that_does_not_fit_is_not_cut() {
    let mut rig = rig();
    let mut small = [0xee; 0x1b];
    let result =
        rig.controller.read_page(&mut common::Sleep, plain(PageType::IOC, 0), &mut small, |_| ());
    assert_eq!(result, Err(Error::PageTooLong { bytes: 0x1c, room: 0x1b }));
    assert_eq!(rig.page(plain(PageType::IOC, 0)).unwrap().len(), 0x1c);
}

#[test]
fn one_page_at_a_time() {
    let mut rig = rig();
    rig.controller.request_page(plain(PageType::IOC, 0)).unwrap();
    assert_eq!(rig.controller.request_page(plain(PageType::IOC, 1)), Err(Error::Busy));
    let mut page = [0; 64];
    let length = loop {
        rig.poll();
        if let Some(result) = rig.controller.take_page(&mut page) {
            break result.unwrap();
        }
        std::thread::yield_now();
    };
    assert_eq!(length, 0x1c);
    assert_eq!(rig.page(plain(PageType::IOC, 1)).unwrap().len(), 0x10);
}

#[test]
fn a_scan_finds_the_same_disks_and_reports_none_twice() {
    let mut rig = rig();
    rig.actions.clear();
    rig.controller.scan();
    rig.controller.wait_until_settled(&mut common::Sleep, |_| {}).unwrap();
    rig.watch();
    assert_eq!(rig.actions, []);
    assert_eq!(rig.controller.targets().filter(|target| target.present).count(), 2);
}
