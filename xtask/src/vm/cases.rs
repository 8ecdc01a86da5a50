//! What is tried in the guests of this tier.

mod claims;
mod data;
mod export;
mod hands;
mod held;
mod holes;
mod missing;
mod mistakes;
mod ours;
mod restart;
mod volumes;

use crate::vm::group::{Case, case, spoiling};

/// Who has the controller, and that it works for each.
pub(crate) const HANDS: &[Case] = &[
    case("bring-up finds both disks with their names and sizes", hands::bring_up_finds_both_disks),
    case(
        "status names the controller and who has it, and bind how to make that last",
        hands::status_and_bind_say_what_is,
    ),
    case(
        "a controller that a killed driver left at work is reset and answers",
        hands::a_killed_driver_leaves_no_trace,
    ),
    case(
        "reads and writes of 4 KiB to 1 MiB, up to a disk's end past 2 TiB, are what is in its file",
        data::every_size_reaches_the_file,
    ),
    case(
        "ten times to the kernel's driver and back, the disks answer with the same data",
        hands::ten_times_there_and_back,
    ),
];

/// Data that one driver writes and another one reads.
pub(crate) const ACROSS: &[Case] = &[
    case("what we wrote raw the kernel's driver reads, and the reverse", data::raw_across),
    case(
        "what programs wrote through the export the kernel's driver reads, and the reverse",
        data::buffered_across,
    ),
    case("what was flushed before kill -9 the kernel's driver reads", data::flushed_before_a_kill),
];

/// Disks as block devices.
pub(crate) const EXPORT: &[Case] = &[
    case(
        "the block device claims what the kernel's driver claims of the disk",
        claims::claims_are_the_kernels,
    ),
    case("ext4 is made, mounted, filled, checked and found again", export::a_file_system_holds),
    case("fio verifies random writes and reads at depth 32", export::fio_verifies),
    case(
        "sgdisk, wipefs and blkdiscard -z work on a thin disk past 2 TiB",
        volumes::tools_reach_every_end,
    ),
    case(
        "SIGTERM under load drains and flushes, and --restore gives the controller back",
        restart::an_end_under_load,
    ),
];

/// What only ublk can.
pub(crate) const UBLK: &[Case] = &[case(
    "after kill -9 a new export takes over, and the file system on it goes on",
    restart::a_mounted_file_system_survives_a_kill,
)];

/// What a controller has to be of ours for: its knobs are turned.
pub(crate) const OURS: &[Case] = &[
    case("bring-up finds both disks with their names and sizes", hands::bring_up_finds_both_disks),
    case(
        "reads and writes of 4 KiB to 1 MiB, up to a disk's end past 2 TiB, are what is in its file",
        data::every_size_reaches_the_file,
    ),
    case("what we wrote raw the kernel's driver reads, and the reverse", data::raw_across),
    case(
        "what programs wrote through the export the kernel's driver reads, and the reverse",
        data::buffered_across,
    ),
    case("several queues answer, each by its own MSI-X vector", ours::queues_have_their_vectors),
    case("ext4 is made, mounted, filled, checked and found again", export::a_file_system_holds),
    case("fio verifies random writes and reads at depth 32", export::fio_verifies),
    case(
        "a disk that is plugged in becomes a block device, until it is pulled",
        ours::a_disk_comes,
    ),
    case(
        "a disk that is pulled out while it is mounted ends in clean errors",
        ours::a_mounted_disk_goes,
    ),
    case(
        "a fault under a mounted file system is recovered by a reset, and no byte is lost",
        ours::a_fault_under_a_file_system,
    ),
    case("a disk that vanishes in the middle of a copy is named", ours::a_disk_vanishes_in_a_copy),
    spoiling(
        "all ones under a mounted file system end in clean errors, and a card put back works",
        ours::a_card_is_yanked,
    ),
];

/// What needs a kernel whose ublk can tell a disk's new size.
pub(crate) const GROWS: &[Case] = &[
    case("a disk that grows does so under the file system on it", ours::a_disk_grows),
    case(
        "a mounted file system survives a kill -9 of its export",
        restart::a_mounted_file_system_survives_a_kill,
    ),
];

/// What people get wrong, where everything is there.
pub(crate) const MISTAKES: &[Case] = &[
    case(
        "a controller whose disk is mounted, swapped to or held is refused, and the holder named",
        held::the_holder_is_named,
    ),
    case(
        "an address that is no controller's is refused, and nothing is bound",
        mistakes::no_controller_there,
    ),
    case(
        "a controller that the kernel's driver has is refused, with the command that takes it",
        mistakes::bound_elsewhere,
    ),
    case("a second program on one controller is refused", mistakes::in_use),
    case(
        "a user without rights is told what to change, and works once it is changed",
        mistakes::no_permission,
    ),
    case("a full queue loses nothing", mistakes::a_full_queue),
    case("an export to a path that is taken is refused", mistakes::the_path_is_taken),
];

/// What a kernel without ublk is told.
pub(crate) const NO_UBLK: &[Case] =
    &[case("a kernel without ublk is named, and NBD offered instead", missing::no_ublk)];

/// What a machine without an IOMMU and without hugepages is told.
pub(crate) const NOTHING_THERE: &[Case] = &[
    case("without an IOMMU VFIO is refused, and what to do instead is said", missing::no_iommu),
    case(
        "without hugepages UIO is refused, with the command that makes some",
        missing::no_hugepages,
    ),
];

/// Memory above the hole below 4 GiB.
pub(crate) const HOLE: &[Case] = &[case(
    "with hugepages on either side of 4 GiB every read and write is right",
    holes::memory_beyond_4_gib,
)];
