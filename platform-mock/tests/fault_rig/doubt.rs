//! What nobody can know while a fault is about, because the wire does not tell.

use fusion_mpt_mock::faults::Fault;

use super::books::Trust;

const ONCE_ONLY: &str = "on the wire a success of one command looks like that of another: checked \
                         is that each command ends once, the slots and the memory; not the data";
const MADE_UP: &str = "made-up sense data looks like the disk's own: it is not compared";
const EXCHANGED: &str = "commands under way reach the new disk before anybody can know of it: its \
                         data is not compared, the other disk's is";
const CUT: &str = "what was not flushed may be lost: any version since the flush is right";

/// How far the controller's word goes with this fault about, and why no further.
pub const fn doubt(fault: Fault) -> (Trust, Option<&'static str>) {
    match fault {
        Fault::CorruptReplyWord | Fault::CorruptReplyFrame => (Trust::Nothing, Some(ONCE_ONLY)),
        Fault::CorruptSense => (Trust::NotSense, Some(MADE_UP)),
        Fault::HandleReuse { .. } => (Trust::All, Some(EXCHANGED)),
        Fault::PowerCut => (Trust::All, Some(CUT)),
        _ => (Trust::All, None),
    }
}
