//! Memory around the hole that PCs have below 4 GiB.

use crate::vm::cases::data;
use crate::vm::subject::Subject;

/// Hugepages are taken from high memory first; enough of them reach below the hole too.
const ALL: &str = "sysctl -w vm.nr_hugepages=1024 >/dev/null; grep HugePages_Total /proc/meminfo";

pub(super) fn memory_beyond_4_gib(subject: &mut Subject) -> Result<(), String> {
    let high = "[ $(awk '/^Node|spanned/ {if ($1 == \"spanned\") s += $2} END {print s}' /proc/zoneinfo) -gt 1048576 ]";
    subject.check(high)?;
    // The few that there are from the start are above 4 GiB.
    data::every_size_reaches_the_file(subject)?;
    // And now of both kinds.
    subject.check(ALL)?;
    data::every_size_reaches_the_file(subject)
}
