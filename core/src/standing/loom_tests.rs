//! Every interleaving of a controller that halts and queues that come and go.

use loom::sync::Arc;
use loom::thread::{self, yield_now};

use super::*;
use crate::sync::model::{Unguarded, explore};

/// The standing, and what it guards: a ring that a queue inside reads, and that the controller lays
/// out anew while none is. It holds the epoch.
#[derive(Debug)]
struct Guarded {
    standing: Standing,
    ring: Unguarded,
}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { standing: Standing::new(), ring: Unguarded::default() })
    }

    /// Comes in if it may, uses the ring, and goes.
    fn visit(&self) -> bool {
        let Stand::Works { epoch } = self.standing.read() else { return false };
        if !self.standing.enter(epoch) {
            return false;
        }
        assert_eq!(self.ring.get(), epoch, "what the controller wrote before it worked");
        self.standing.leave();
        true
    }

    fn wait_until_quiet(&self) {
        while !self.standing.is_quiet() {
            yield_now();
        }
    }

    fn reset(&self, epoch: u32) {
        self.standing.halt();
        self.wait_until_quiet();
        self.ring.set(epoch);
        self.standing.work(epoch % 2 == 0);
    }
}

#[test]
fn loom_once_it_is_quiet_no_queue_touches_the_ring_until_the_controller_works() {
    explore(3, || {
        let guarded = Guarded::new();
        let visitors = [guarded.clone(), guarded.clone()];
        let visitors = visitors.map(|guarded| {
            thread::spawn(move || {
                guarded.visit();
            })
        });
        guarded.reset(1);
        for visitor in visitors {
            visitor.join().expect("the visitor");
        }
        assert!(guarded.standing.is_quiet(), "everybody who came in has left");
        assert!(guarded.visit(), "it works");
    });
}

#[test]
fn loom_a_queue_may_come_and_go_while_the_controller_resets_twice() {
    loom::model(|| {
        let guarded = Guarded::new();
        let visitor = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                guarded.visit();
                guarded.visit();
            })
        };
        guarded.reset(1);
        guarded.reset(2);
        visitor.join().expect("the visitor");
        assert!(guarded.visit(), "it works");
    });
}

#[test]
fn loom_a_controller_that_is_lost_is_not_entered() {
    loom::model(|| {
        let guarded = Guarded::new();
        let visitor = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.visit())
        };
        guarded.standing.lose(Failure::ControllerGone);
        guarded.wait_until_quiet();
        // Its memory is used for something else.
        guarded.ring.set(7);
        visitor.join().expect("the visitor");
        assert!(!guarded.visit());
    });
}

#[test]
fn loom_what_a_reset_ended_is_told_before_it_works_again() {
    loom::model(|| {
        let guarded = Guarded::new();
        let queue = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                let stand = guarded.standing.read();
                if stand == (Stand::Works { epoch: 1 }) {
                    assert_eq!(guarded.standing.ended_as(), Failure::HandedBack);
                }
            })
        };
        guarded.standing.halt();
        guarded.standing.work(true);
        queue.join().expect("the queue");
    });
}

/// Two queues each report a command, at every tick as they do, until the controller has seen both.
#[test]
fn loom_no_report_is_lost_for_ever_and_none_is_invented() {
    const REPORTS: [(u16, u16); 2] = [(7, 0xffff), (0xfffe, 9)];
    loom::model(|| {
        let standing = Arc::new(Standing::new());
        let queues = REPORTS.map(|(smid, device)| {
            let standing = standing.clone();
            thread::spawn(move || standing.report_late(smid, device))
        });
        let take = || {
            let report = standing.has_late().then(|| standing.take_late()).flatten();
            assert!(report.is_none_or(|report| REPORTS.contains(&report)), "{report:?}");
            report
        };
        let meanwhile = take();
        for queue in queues {
            queue.join().expect("the queue");
        }
        let afterwards = take();
        assert!(meanwhile.is_some() || afterwards.is_some(), "both are lost");
        assert!(meanwhile != afterwards, "the same report twice");
        // Whichever found another waiting reports again at its next tick.
        let missing = REPORTS
            .into_iter()
            .find(|report| meanwhile != Some(*report) && afterwards != Some(*report));
        if let Some((smid, device)) = missing {
            standing.report_late(smid, device);
            assert_eq!(take(), missing);
        }
        assert_eq!(take(), None);
    });
}
