//! Which faults a run has, and when: data, so that a person can read it and a seed repeat it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kinds::Fault;
use super::random::Random;

/// A moment of a run, counted from when the faults were installed: the first is number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The firmware fetches its Nth message, through the doorbell or a queue.
    Message(u64),
    /// The host accesses a register for the Nth time.
    Access(u64),
    /// The firmware is about to post its Nth reply or event.
    Reply(u64),
    /// The Nth command that writes to a disk, or flushes one, has been carried out and not been
    /// answered yet.
    DiskWrite(u64),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Message(count) => write!(f, "message {count}"),
            Moment::Access(count) => write!(f, "register access {count}"),
            Moment::Reply(count) => write!(f, "reply {count}"),
            Moment::DiskWrite(count) => write!(f, "disk write {count}"),
        }
    }
}

/// How far a run has got, from when its faults were installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that the firmware has fetched, through the doorbell or a queue.
    pub messages: u64,
    /// Register accesses.
    pub accesses: u64,
    /// Replies and events that the firmware was about to post.
    pub replies: u64,
    /// Commands carried out that write to a disk or flush one.
    pub disk_writes: u64,
}

/// From which moment on, and how many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct When {
    /// From this moment on, it included.
    pub from: Moment,
    /// So many times; what once is, [`Fault`] says.
    pub times: u32,
}

impl When {
    /// `times` of what does not end.
    pub const FOREVER: u32 = u32::MAX;

    /// The first time that it can be, once.
    pub const AT_ONCE: When = When { from: Moment::Message(0), times: 1 };

    /// Once, from the `count`-th message on.
    #[must_use]
    pub fn message(count: u64) -> Self {
        Self { from: Moment::Message(count), times: 1 }
    }

    /// Once, from the `count`-th register access on.
    #[must_use]
    pub fn access(count: u64) -> Self {
        Self { from: Moment::Access(count), times: 1 }
    }

    /// Once, from the `count`-th reply on.
    #[must_use]
    pub fn reply(count: u64) -> Self {
        Self { from: Moment::Reply(count), times: 1 }
    }

    /// Once, from the `count`-th disk write on.
    #[must_use]
    pub fn disk_write(count: u64) -> Self {
        Self { from: Moment::DiskWrite(count), times: 1 }
    }

    /// The same moment, `times` times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// The same moment, without end.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(Self::FOREVER)
    }

    /// Whether the moment has come.
    pub(crate) fn has_come(&self, counts: &Counts) -> bool {
        match self.from {
            Moment::Message(count) => counts.messages >= count,
            Moment::Access(count) => counts.accesses >= count,
            Moment::Reply(count) => counts.replies >= count,
            Moment::DiskWrite(count) => counts.disk_writes >= count,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} on, ", self.from)?;
        match self.times {
            1 => f.write_str("once"),
            2 => f.write_str("twice"),
            Self::FOREVER => f.write_str("for ever"),
            times => write!(f, "{times} times"),
        }
    }
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Planned {
    /// What happens.
    pub fault: Fault,
    /// When.
    pub when: When,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.when, self.fault.name(), self.fault)
    }
}

/// The faults of a run. They are laid around the controller in this order, the first next to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// What all that is left to chance comes from: which bits flip, which blocks survive.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<Planned>,
}

/// The last message that [`Plan::seeded`] begins a fault at.
const LAST_MESSAGE: u64 = 400;

impl Plan {
    /// A plan without faults, to be given some by [`Plan::with`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, faults: Vec::new() }
    }

    /// One fault.
    #[must_use]
    pub fn of(seed: u64, fault: Fault, when: When) -> Self {
        Self::new(seed).with(fault, when)
    }

    /// The same with one more fault, around the others.
    #[must_use]
    pub fn with(mut self, fault: Fault, when: When) -> Self {
        self.faults.push(Planned { fault, when });
        self
    }

    /// `count` faults of any kind that the seed chooses, at moments that it chooses. What the
    /// controller does not survive ([`Fault::loses_controller`]) comes at most once, and last. All
    /// begin within the first 600 messages, 800 register accesses or 100 disk writes.
    #[must_use]
    pub fn seeded(seed: u64, count: usize) -> Self {
        Self::seeded_among(seed, count, Fault::all())
    }

    /// As [`Plan::seeded`], of these kinds only.
    #[must_use]
    pub fn seeded_among(seed: u64, count: usize, kinds: &[Fault]) -> Self {
        let mut random = Random::new(seed);
        let mut plan = Self::new(seed);
        let (last, others): (Vec<Fault>, Vec<Fault>) =
            kinds.iter().copied().partition(Fault::loses_controller);
        for index in 0..count {
            let ends = index + 1 == count && (others.is_empty() || random.below(4) == 0);
            let among = if ends && !last.is_empty() { &last } else { &others };
            let Some(fault) = random.pick(among).copied() else { break };
            let fault = vary(fault, &mut random);
            plan.faults.push(Planned { fault, when: moment(fault, ends, &mut random) });
        }
        plan
    }
}

/// The kind with parameters that the seed chooses.
fn vary(fault: Fault, random: &mut Random) -> Fault {
    let mut draw = |low: u64, high: u64| random.between(low, high) as u32;
    match fault {
        Fault::DelayReply { .. } => Fault::DelayReply { ms: draw(1, 100) },
        Fault::ReorderReplies { .. } => Fault::ReorderReplies { window: draw(2, 32) as u8 },
        Fault::TornDescriptor { .. } => Fault::TornDescriptor { us: draw(1, 2_000) },
        Fault::ZeroReadsBurst { .. } => Fault::ZeroReadsBurst { reads: draw(2, 40) },
        Fault::AllOnesForAWhile { .. } => Fault::AllOnesForAWhile { ms: draw(1, 50) },
        Fault::FaultState { .. } => Fault::FaultState { code: draw(1, 0xffff) as u16 },
        Fault::ResetFails { .. } => Fault::ResetFails { code: draw(1, 0xffff) as u16 },
        Fault::CoreDump { .. } => {
            Fault::CoreDump { code: draw(1, 0xffff) as u16, ms: draw(1, 2_000) }
        }
        Fault::ReplyFramesExhausted { .. } => Fault::ReplyFramesExhausted { ms: draw(1, 500) },
        Fault::SlowFirmware { .. } => Fault::SlowFirmware { us: draw(1, 1_000) },
        Fault::EventStorm { .. } => Fault::EventStorm { events: draw(10, 1_000) as u16 },
        Fault::DevicePulled { slot, .. } => {
            Fault::DevicePulled { slot, back_ms: if draw(0, 1) == 0 { 0 } else { draw(1, 3_000) } }
        }
        Fault::TaskManagementReplyEarly { .. } => {
            Fault::TaskManagementReplyEarly { us: draw(1, 2_000) }
        }
        other => other,
    }
}

fn moment(fault: Fault, late: bool, random: &mut Random) -> When {
    let from = match fault {
        Fault::PowerCut => Moment::DiskWrite(random.between(1, LAST_MESSAGE / 4)),
        // An access of a run at full speed is a message or two.
        Fault::SpuriousZero
        | Fault::ZeroReadsBurst { .. }
        | Fault::WrongEndianness
        | Fault::AllOnesForAWhile { .. } => Moment::Access(random.between(1, LAST_MESSAGE * 2)),
        _ if late => Moment::Message(random.between(LAST_MESSAGE, LAST_MESSAGE + 200)),
        _ if fault.needs_another() => Moment::Message(0),
        _ => Moment::Message(random.between(1, LAST_MESSAGE)),
    };
    let times = match fault {
        Fault::SlowFirmware { .. } => random.between(10, 200),
        Fault::TaskSetFull | Fault::BusyStatus => random.between(1, 20),
        Fault::LostInterrupt | Fault::DelayReply { .. } => random.between(1, 10),
        _ if random.below(4) == 0 => 2,
        _ => 1,
    };
    When { from, times: times as u32 }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, planned) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{planned}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plan_reads_as_one_line_for_each_fault() {
        let plan = Plan::of(1, Fault::DropReply, When::message(12).times(3))
            .with(Fault::AllOnes, When::access(900))
            .with(Fault::PowerCut, When::disk_write(2).times(2))
            .with(Fault::NeverReady, When::reply(7).forever());
        assert_eq!(
            plan.to_string(),
            "from message 12 on, 3 times: drop-reply: a reply is lost\n\
             from register access 900 on, once: all-ones: the card is gone and reads as all ones\n\
             from disk write 2 on, twice: power-cut: the power of controller and disks is cut\n\
             from reply 7 on, for ever: never-ready: the IOC does not become READY after a reset"
        );
    }

    proptest! {
        #[test]
        fn a_seed_gives_the_same_plan_again_in_json_too(seed: u64, count in 0..20_usize) {
            let plan = Plan::seeded(seed, count);
            prop_assert_eq!(plan.faults.len(), count);
            prop_assert_eq!(&plan, &Plan::seeded(seed, count));
            let json = serde_json::to_string(&plan).expect("plain data");
            prop_assert_eq!(&serde_json::from_str::<Plan>(&json).expect("as written"), &plan);
            let lost = plan.faults.iter().position(|planned| planned.fault.loses_controller());
            prop_assert!(lost.is_none_or(|index| index + 1 == count));
        }
    }

    #[test]
    fn seeds_reach_every_kind() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            seen.extend(Plan::seeded(seed, 5).faults.iter().map(|planned| planned.fault.name()));
        }
        assert_eq!(seen.len(), Fault::all().len());
    }
}
