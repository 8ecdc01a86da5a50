//! Which faults a seed stands for.

use fusion_mpt_mock::faults::{Fault, Plan, When};

/// Faults of a run.
const FAULTS: usize = 5;
/// After so many milliseconds a disk that was pulled is back.
const BACK_MS: u32 = 400;

/// The faults of a demonstration, always the same of a seed, on a bus with so many disks.
pub(crate) fn of_seed(seed: u64, disks: usize) -> Plan {
    let kinds: Vec<Fault> = Fault::all().iter().copied().filter(is_survivable).collect();
    let mut plan = Plan::seeded_among(seed, FAULTS, &kinds);
    if plan.faults.iter().all(|planned| planned.fault.needs_another()) {
        // Something must go wrong first.
        plan = plan.with(Fault::DropReply, When::message(1 + seed % 400));
    }
    let mut others = seed;
    for planned in &mut plan.faults {
        if let Fault::DevicePulled { slot, back_ms } = &mut planned.fault {
            *slot = (others % disks.max(1) as u64) as u8;
            others /= 2;
            // Its data is to be verified: it comes back.
            *back_ms = if *back_ms == 0 { BACK_MS } else { *back_ms };
            planned.when.times = 1;
        }
    }
    plan
}

/// Whether a driver can bring all data through. Not where another disk has taken the place of one,
/// and not where a reply's bits are flipped: it may then say of another command than its own that
/// it has ended well, which nobody can see.
fn is_survivable(fault: &Fault) -> bool {
    !matches!(fault, Fault::HandleReuse { .. } | Fault::CorruptReplyWord | Fault::CorruptReplyFrame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_the_same_faults_whenever_it_is_asked() {
        for seed in 0..200 {
            let plan = of_seed(seed, 2);
            assert_eq!(plan, of_seed(seed, 2));
            assert!(plan.faults.len() >= FAULTS);
            assert!(plan.faults.iter().any(|planned| !planned.fault.needs_another()));
        }
        assert_ne!(of_seed(1, 2), of_seed(2, 2));
    }

    #[test]
    fn a_disk_that_is_pulled_comes_back_and_none_is_exchanged() {
        for planned in (0..500).flat_map(|seed| of_seed(seed, 2).faults) {
            assert!(is_survivable(&planned.fault));
            if let Fault::DevicePulled { slot, back_ms } = planned.fault {
                assert!(slot < 2 && back_ms > 0, "{planned}");
            }
        }
    }
}
