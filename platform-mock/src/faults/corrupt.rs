//! Answers that are wrong: bits flipped, frames and sense data of garbage, for nobody's command.

use crate::memory::DeviceMemory;
use crate::model::tap::{Answer, Reply, Request};

use super::replies::with_frame;
use super::{Decorator, Hand, Passing};

const STATUS_CHECK_CONDITION: u8 = 0x02;
const STATE_AUTOSENSE_VALID: u8 = 0x01;

/// `corrupt-reply-word`.
#[derive(Debug)]
pub(super) struct Word;

impl Decorator for Word {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if hand.fires() {
            let bits = if hand.model.chip().is_mpi1() { 32 } else { 64 };
            for _ in 0..hand.random.between(1, 4) {
                reply.flips |= 1 << hand.random.below(bits);
            }
            hand.note(format!(
                "bits {:#x} of {}'s word were flipped",
                reply.flips,
                reply.in_words()
            ));
        }
        out.push(reply);
    }
}

/// `corrupt-reply-frame`.
#[derive(Debug)]
pub(super) struct Frame;

impl Decorator for Frame {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        let framed = with_frame(&reply, hand);
        let Some(mut framed) = framed.filter(|_| hand.fires()) else {
            out.push(reply);
            return;
        };
        if let Answer::Frame(message) = &mut framed.reply.answer {
            let length = message.bytes().len() as u64;
            let mut changed = Vec::new();
            for _ in 0..hand.random.between(1, 8) {
                let at = hand.random.below(length) as usize;
                message.put(at, &[hand.random.bits() as u8]);
                changed.push(format!("{at:#x}"));
            }
            hand.note(format!("bytes {} of {} are garbage", changed.join(", "), reply.in_words()));
        }
        out.push(framed);
    }
}

/// `corrupt-sense`.
#[derive(Debug)]
pub(super) struct Sense;

impl Decorator for Sense {
    fn reply(
        &mut self,
        reply: Passing,
        memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        let framed = if reply.is_command() { with_frame(&reply, hand) } else { None };
        let Some((mut framed, request)) = framed.zip(reply.request).filter(|_| hand.fires()) else {
            out.push(reply);
            return;
        };
        let (at, room) = hand.model.parse(&request).sense();
        let garbage: Vec<u8> = (0..room).map(|_| hand.random.bits() as u8).collect();
        // A buffer that is not the host's is the host's mistake, and nothing is written then.
        let _ = memory.write(at, &garbage);
        let told = match hand.random.below(3) {
            0 => u32::from(room),
            1 => hand.random.below(u64::from(room) + 1) as u32,
            _ => hand.random.bits() as u32,
        };
        if let Answer::Frame(message) = &mut framed.reply.answer {
            message.put(0x0c, &[STATUS_CHECK_CONDITION, STATE_AUTOSENSE_VALID]);
            message.put(0x18, &told.to_le_bytes());
        }
        hand.note(format!(
            "{} says CHECK CONDITION, with {told} bytes of garbage for sense data where there is room for {room}",
            reply.in_words()
        ));
        out.push(framed);
    }
}

/// `reply-for-free-slot`.
#[derive(Debug)]
pub(super) struct FreeSlot;

impl Decorator for FreeSlot {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        // Once this has been answered, its slot is free.
        let answers = reply.is_command() && reply.request.is_some();
        let reply_too = (answers && hand.fires()).then(|| {
            let answer = Answer::Success { fast_path: false };
            hand.note(format!(
                "a success came after {}, for a slot that is free",
                reply.in_words()
            ));
            Passing::new(Reply { answer, ..reply.reply }, None)
        });
        out.push(reply);
        out.extend(reply_too);
    }
}

/// `reply-for-foreign-smid`.
#[derive(Debug, Default)]
pub(super) struct ForeignSmid {
    /// The SMID or context of the last message that was no SCSI command.
    own: Option<u32>,
}

impl Decorator for ForeignSmid {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if !reply.is_command() && reply.request.is_some() {
            self.own = Some(reply.reply.key);
        }
        let queue = reply.reply.queue;
        out.push(reply);
        if !hand.fires() {
            return;
        }
        let outstanding = hand.outstanding.values().find(|request| !is_command(request));
        let own = outstanding.map(|request| request.key).or(self.own);
        let (key, whose) = match own.filter(|_| hand.random.coin()) {
            Some(key) => (key, "of another function's message"),
            None => (0xfff0 | hand.random.below(15) as u32, "beyond all there are"),
        };
        hand.note(format!("a command's success came for {key:#x}, {whose}"));
        let answer = Answer::Success { fast_path: hand.random.coin() };
        out.push(Passing::new(Reply { key, queue, answer }, None));
    }
}

fn is_command(request: &Request) -> bool {
    matches!(request.frame[3], 0x00 | 0x16)
}
