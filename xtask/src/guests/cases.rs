//! What is tried on every controller, under every kernel.

mod data;
mod discovery;
mod driver;

use crate::guests::group::Case;

/// Every case, in the order in which they run.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "each disk has its name, size, cache and place",
        run: discovery::each_disk_is_what_it_is,
        allowed: &[],
    },
    Case {
        name: "random writes of every size at depth 32 read back as written",
        run: data::depth_32_verifies,
        allowed: &[],
    },
    Case {
        name: "random writes of every size at depth 64 read back as written",
        run: data::depth_64_verifies,
        allowed: &[],
    },
    Case {
        name: "blocks beyond 2 TiB are written where they belong",
        run: data::high_addresses_reach_the_file,
        allowed: &[],
    },
    Case {
        name: "what was written is in the file after SYNCHRONIZE CACHE",
        run: data::synchronised_data_is_in_the_file,
        allowed: &[],
    },
    Case {
        name: "a file system is made, filled, checked and found again",
        run: data::a_file_system_holds,
        allowed: &[],
    },
    Case {
        name: "the driver can be unloaded and loaded again",
        run: driver::unloads_and_loads_again,
        allowed: &[],
    },
    Case {
        name: "the guest can be rebooted and finds its disks again",
        run: driver::survives_a_reboot,
        allowed: &[],
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
