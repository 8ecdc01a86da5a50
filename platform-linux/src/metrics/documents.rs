//! The core's counters as documents: the core itself serialises nothing.

use fusion_mpt::recovery::RecoveryCounters;
use fusion_mpt::trace::Counters;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

fn map<S: Serializer>(to: S, counts: &[(&str, u64)]) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(counts.len()))?;
    for (name, count) in counts {
        map.serialize_entry(name, count)?;
    }
    map.end()
}

/// What a queue has counted.
pub(super) fn counters<S: Serializer>(of: &Counters, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Document<'c> {
        submitted: u64,
        completed: u64,
        with_reply_frame: u64,
        polls: u64,
        idle_polls: u64,
        outstanding_peak: u16,
        batches: &'c [u64; 8],
        events: u64,
        stray_replies: u64,
        bad_frame_addresses: u64,
        bad_replies: u64,
        throttled: u64,
    }
    let document = Document {
        submitted: of.submitted,
        completed: of.completed,
        with_reply_frame: of.with_reply_frame,
        polls: of.polls,
        idle_polls: of.idle_polls,
        outstanding_peak: of.outstanding_peak,
        batches: &of.batches,
        events: of.events,
        stray_replies: of.stray_replies,
        bad_frame_addresses: of.bad_frame_addresses,
        bad_replies: of.bad_replies,
        throttled: of.throttled,
    };
    document.serialize(to)
}

/// What recovery has done.
pub(super) fn recovery<S: Serializer>(of: &RecoveryCounters, to: S) -> Result<S::Ok, S::Error> {
    map(
        to,
        &[
            ("late", of.late),
            ("aborts", of.aborts),
            ("unit_resets", of.unit_resets),
            ("target_resets", of.target_resets),
            ("lost_tasks", of.lost_tasks),
            ("removals", of.removals),
            ("resets", of.resets),
            ("failed_resets", of.failed_resets),
            ("ended_by_reset", of.ended_by_reset),
        ],
    )
}
