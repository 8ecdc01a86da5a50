//! What is tried on every controller, under every kernel.

mod allowed;
mod blocks;
mod data;
mod discovery;
mod driver;
mod errors;
mod expander;
mod firmware;
mod hot_plug;
mod raid;

use crate::guests::rig::{Case, On, Rig};
use allowed::{
    ABORT, COREDUMP, DIAG_RESET, FAULT, HOT_PLUG, MEDIUM_ERROR, RAID, RESETS, UNLOADING, YANKED,
};

/// A case without a word against the controller.
const ON_ALL: Case = Case { name: "", run: nothing, on: On::All, spoils: false, allowed: &[] };

/// Likewise, on ours only.
const ON_OURS: Case = Case { on: On::Ours, ..ON_ALL };

/// Likewise, on ours of MPI 2 and later.
const ON_MPI2: Case = Case { on: On::OursMpi2, ..ON_ALL };

fn nothing(_: &mut Rig) -> Result<(), String> {
    Err("a case that does nothing".to_owned())
}

/// What every controller has to do, in the order in which cases run.
pub(crate) const BASIC: &[Case] = &[
    Case {
        name: "each disk has its name, size, cache and place",
        run: discovery::each_disk_is_what_it_is,
        ..ON_ALL
    },
    Case {
        name: "random writes of every size at depth 32 read back as written",
        run: data::depth_32_verifies,
        ..ON_ALL
    },
    Case {
        name: "random writes of every size at depth 64 read back as written",
        run: data::depth_64_verifies,
        ..ON_ALL
    },
    Case {
        name: "blocks beyond 2 TiB are written where they belong",
        run: data::high_addresses_reach_the_file,
        ..ON_ALL
    },
    Case {
        name: "what was written is in the file after SYNCHRONIZE CACHE",
        run: data::synchronised_data_is_in_the_file,
        ..ON_ALL
    },
    Case {
        name: "a file system is made, filled, checked and found again",
        run: data::a_file_system_holds,
        ..ON_ALL
    },
    Case {
        name: "UNMAP and WRITE SAME leave zeros",
        run: blocks::unmapped_blocks_are_zeros,
        ..ON_ALL
    },
    Case {
        name: "sg3-utils read what the disk claims",
        run: blocks::every_tool_reads_what_is_claimed,
        ..ON_OURS
    },
    Case {
        name: "a sense of the disk is the error that a program gets",
        run: errors::a_sense_reaches_the_program,
        allowed: &[MEDIUM_ERROR],
        ..ON_OURS
    },
    Case {
        name: "resets of device, bus and host leave the data alone",
        run: errors::resets_leave_the_data_alone,
        allowed: &[RESETS, DIAG_RESET],
        ..ON_ALL
    },
    Case {
        name: "a lost reply is recovered by the driver's own abort",
        run: errors::a_lost_reply_is_recovered,
        allowed: &[ABORT],
        ..ON_OURS
    },
    Case {
        name: "a fault under load is recovered by the driver's own reset",
        run: errors::a_fault_is_recovered,
        allowed: &[FAULT, DIAG_RESET],
        ..ON_OURS
    },
    Case {
        name: "a disk can be plugged in, swapped and pulled out",
        run: hot_plug::a_disk_comes_and_goes,
        allowed: &[HOT_PLUG],
        ..ON_OURS
    },
    Case {
        name: "the driver can be unloaded and loaded again",
        run: driver::unloads_and_loads_again,
        allowed: &[UNLOADING],
        ..ON_ALL
    },
    Case {
        name: "the guest can be rebooted and finds its disks again",
        run: driver::survives_a_reboot,
        ..ON_ALL
    },
    Case {
        name: "after SYNCHRONIZE CACHE a power cut loses nothing",
        run: data::a_power_cut_loses_only_what_was_not_flushed,
        allowed: &[allowed::DIAG_RESET, allowed::POWER_CUT],
        spoils: true,
        ..ON_OURS
    },
];

/// What needs an expander and disks of several kinds, and what takes long.
pub(crate) const EXTENDED: &[Case] = &[
    Case {
        name: "the expander is found with its phys and its maker's name",
        run: expander::it_is_found,
        ..ON_OURS
    },
    Case {
        name: "disks hang where they are plugged in, and are what they are",
        run: expander::disks_hang_where_they_are,
        ..ON_OURS
    },
    Case { name: "a SATA disk is translated", run: expander::a_sata_disk_is_translated, ..ON_OURS },
    Case {
        name: "every kind of disk reads back what was written",
        run: expander::every_kind_holds_data,
        ..ON_OURS
    },
    Case {
        name: "a disk can be plugged into a bay, swapped and pulled out",
        run: hot_plug::a_disk_comes_and_goes_in_a_bay,
        allowed: &[HOT_PLUG],
        ..ON_OURS
    },
    Case { name: "slow answers trip nobody", run: firmware::slow_answers_trip_nobody, ..ON_OURS },
    Case {
        name: "a storm of log entries leaves the driver at work",
        run: firmware::a_storm_of_log_entries,
        ..ON_OURS
    },
    Case {
        name: "a core dump under load is recovered by the driver's own reset",
        run: firmware::a_core_dump_is_recovered,
        allowed: &[COREDUMP, DIAG_RESET],
        ..ON_MPI2
    },
    Case {
        name: "a RAID volume is a disk whose members are hidden, and its loss is noticed",
        run: raid::a_volume_is_one_disk,
        allowed: &[HOT_PLUG, RAID],
        ..ON_MPI2
    },
    Case {
        name: "the driver shuts a RAID volume down and finds it again",
        run: raid::a_volume_survives_the_driver,
        allowed: &[HOT_PLUG, UNLOADING, RAID],
        ..ON_MPI2
    },
    Case {
        name: "firmware that stops for a while costs an abort and no data",
        run: firmware::stopped_firmware_is_waited_for,
        allowed: &[ABORT],
        ..ON_OURS
    },
    Case {
        name: "a card that is pulled is noticed, and works when it is back",
        run: firmware::a_card_comes_and_goes,
        allowed: &[YANKED, HOT_PLUG, UNLOADING],
        spoils: true,
        ..ON_OURS
    },
    Case {
        name: "a guest that dies under load leaves card and data to the next",
        run: driver::a_second_guest_takes_over,
        spoils: true,
        ..ON_OURS
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cases_have_one_name() {
        for suite in [BASIC, EXTENDED] {
            let mut names: Vec<&str> = suite.iter().map(|case| case.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), suite.len());
        }
    }
}
