//! What is tried on every controller, under every kernel.

mod blocks;
mod data;
mod discovery;
mod driver;
mod errors;
mod hot_plug;

use crate::guests::group::{Case, On, Rig};
use crate::guests::kernel_log::Allowed;

/// A case without a word against the controller.
const ON_ALL: Case = Case { name: "", run: nothing, on: On::All, spoils: false, allowed: &[] };

/// Likewise, on ours only.
const ON_OURS: Case = Case { on: On::Ours, ..ON_ALL };

fn nothing(_: &mut Rig) -> Result<(), String> {
    Err("a case that does nothing".to_owned())
}

/// What drivers and SCSI say while they recover from an error that a case has made.
const ERROR_HANDLING: &[Allowed] = &[Allowed { text: "", reason: "the case provokes errors" }];

/// What drivers say when they are unloaded, whatever the card.
const UNLOADING: &[Allowed] = &[
    Allowed { text: "message unit reset", reason: "mpt3sas leaves the IOC in READY by one" },
    Allowed {
        text: "Synchronize Cache(10) failed: Result: hostbyte=DID_NO_CONNECT",
        reason: "for MPI 2.0 mpt3sas lets no command through once it is being removed",
    },
];

/// What they say when a disk goes.
const HOT_PLUG: &[Allowed] = &[Allowed { text: "", reason: "the case pulls a disk" }];

/// Every case, in the order in which they run.
pub(crate) const ALL: &[Case] = &[
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
        allowed: ERROR_HANDLING,
        ..ON_OURS
    },
    Case {
        name: "resets of device, bus and host leave the data alone",
        run: errors::resets_leave_the_data_alone,
        allowed: ERROR_HANDLING,
        ..ON_ALL
    },
    Case {
        name: "a lost reply is recovered by the driver's own abort",
        run: errors::a_lost_reply_is_recovered,
        allowed: ERROR_HANDLING,
        ..ON_OURS
    },
    Case {
        name: "a fault under load is recovered by the driver's own reset",
        run: errors::a_fault_is_recovered,
        allowed: ERROR_HANDLING,
        ..ON_OURS
    },
    Case {
        name: "a disk can be plugged in, swapped and pulled out",
        run: hot_plug::a_disk_comes_and_goes,
        allowed: HOT_PLUG,
        ..ON_OURS
    },
    Case {
        name: "the driver can be unloaded and loaded again",
        run: driver::unloads_and_loads_again,
        allowed: UNLOADING,
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
        allowed: ERROR_HANDLING,
        spoils: true,
        ..ON_OURS
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cases_have_one_name() {
        let mut names: Vec<&str> = ALL.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
