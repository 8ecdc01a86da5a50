//! Bytes of DMA memory and of state for each slot, for three sizes of a controller.
//!
//! Everything that grows with the commands is counted: request frames, chains, sense buffers, reply
//! frames and rings; slot and reply records. The plan is the one a platform would get, from facts,
//! with the default wants but for the number of commands.

#[path = "common/null_device.rs"]
#[allow(dead_code, reason = "only the facts are needed here")]
mod null_device;

use fusion_mpt::generation::Mpi2;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::shared::ReplyRecord;
use fusion_mpt::slots::SlotRecord;
use null_device::{Kind, ready};

fn main() {
    if std::env::args().any(|argument| argument == "--scenario") {
        return;
    }
    let (_, ready) = ready::<Mpi2>(Kind::Mpi2);
    let mut last: Option<(f64, f64)> = None;
    for commands in [64, 1024, 8192] {
        let plan = ready.plan(&Wants { commands, ..Wants::default() }).expect("a plan");
        assert_eq!(plan.commands, commands, "the null device takes them all");
        let state = usize::from(plan.slots) * size_of::<SlotRecord>()
            + usize::from(plan.reply_frames) * size_of::<ReplyRecord>();
        let dma = plan.bytes as f64 / f64::from(commands);
        let state = state as f64 / f64::from(commands);
        println!("figure size.dma_bytes_per_slot.{commands} {dma:.3}");
        println!("figure size.state_bytes_per_slot.{commands} {state:.3}");
        if let Some((last_dma, last_state)) = last {
            assert!(dma <= last_dma && state <= last_state, "something grows faster than slots");
        }
        last = Some((dma, state));
    }
}
