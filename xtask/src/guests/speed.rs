//! How fast our controller is in a guest, beside QEMU's own.
//!
//! Both guests run at once, but only one of them works at a time, in turns, so that whatever else
//! the machine does meets both alike; of each the best turn counts, as what disturbs one only ever
//! slows it down. What is compared is what fio counts in the guest: requests a second of 4 KiB
//! random reads at depth 32.

use std::time::Duration;

use crate::guests::rig::{Rig, fio_field};
use crate::guests::workshop::Workshop;

/// Turns of each guest.
const TURNS: u32 = 8;
/// Turns of each on a host that does more than this, while ours has not shown what it can.
const MOST_TURNS: u32 = 20;
/// How long a turn is, in seconds.
const SECONDS: u32 = 2;
/// One processor for the guest leaves another to the controller, where there are two.
const CPUS: u32 = 1;
const LIMIT: Duration = Duration::from_secs(40);

/// The controllers that are compared: ours, and the one that it has to be as fast as.
const OURS: &str = "our sas3008";
const PEER: &str = "QEMU's sas1068";

/// Requests a second, in the best turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speeds {
    /// Of `mpt3sas` on our SAS3008.
    pub(crate) ours: f64,
    /// Of `mptsas` on QEMU's SAS1068.
    pub(crate) peer: f64,
}

impl Speeds {
    /// Ours over the peer's.
    pub(crate) fn ratio(self) -> f64 {
        self.ours / self.peer
    }
}

/// Boots both guests and lets them take turns.
pub(crate) fn measure(workshop: &Workshop) -> Result<Speeds, String> {
    let mut ours = boot(workshop, OURS)?;
    let mut peer = boot(workshop, PEER)?;
    let mut best = [0.0_f64; 2];
    for number in 1..=MOST_TURNS {
        for (rig, best) in [&mut ours, &mut peer].into_iter().zip(&mut best) {
            *best = best.max(turn(rig)?);
        }
        if number >= TURNS && best[0] >= best[1] {
            break;
        }
    }
    let [ours, peer] = best;
    Ok(Speeds { ours, peer })
}

fn boot(workshop: &Workshop, name: &str) -> Result<Rig, String> {
    let mut rig = Rig::alone(workshop, name, "speed", CPUS)?;
    // Blocks that were never written would be answered without the file.
    let (_, device) = rig.disk(0)?;
    rig.machine
        .check(&format!("dd if=/dev/urandom of={device} bs=1M count=32 oflag=direct"), LIMIT)?;
    Ok(rig)
}

fn turn(rig: &mut Rig) -> Result<f64, String> {
    let (_, device) = rig.disk(0)?;
    let script = format!(
        "fio --name=speed --filename={device} --ioengine=libaio --direct=1 --iodepth=32 --bs=4k \
         --rw=randread --size=32m --time_based --runtime={SECONDS} --minimal"
    );
    let said = rig.machine.check(&script, LIMIT)?;
    // Reads a second.
    let speed = fio_field(&said, 8).and_then(|field| field.parse().ok());
    speed.ok_or_else(|| format!("fio names no speed:\n{said}"))
}
