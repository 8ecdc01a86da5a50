//! The doorbell handshake: how a message reaches an IOC that has no queues yet.
//!
//! Requests go over as 32-bit words, replies come back as 16-bit halves, and each of them is
//! acknowledged (controllers.md 2.3). Only facts, port facts, IOC init and, on MPI1, port enable
//! and task management travel this way.

use embedded_hal::delay::DelayNs;

use crate::error::{Error, Waited};
use crate::platform::Registers;
use crate::regs::{
    Bus, DOORBELL, Doorbell, HOST_INTERRUPT_STATUS, HostInterruptStatus, IocState, Patience,
};

/// How long the IOC has to take the handshake's first word (mpt3sas uses the same).
const START_LIMIT_MS: u32 = 5_000;
/// How long it has to take each further word or hand out each half-word of a reply once begun.
const WORD_LIMIT_MS: u32 = 5_000;
/// How often the doorbell is looked at in a long wait.
const LOOK_INTERVAL_MS: u32 = 1_000;
/// How often a request is sent that the IOC lets go of.
const SEND_ATTEMPTS: u32 = 100;
/// Half-words of the longest reply: its length is one byte that counts 32-bit words.
const MOST_HALVES: u32 = 2 * 255;
/// How long the IOC has for each half-word of a reply that somebody else asked for.
const LEFT_OVER_LIMIT_MS: u32 = 100;

/// Sends `request` (a multiple of 4 bytes, at most 255 words) and reads the reply into `reply`.
///
/// Returns how many bytes the IOC sent, which may be more than `reply` holds: the rest is read
/// from the register, as it must be, and dropped. `limit_ms` bounds the wait for the reply's
/// first half-word, that is, the time that the IOC takes to think.
///
/// # Errors
///
/// [`Error::DoorbellBusy`] if a handshake is under way already, so that nothing was sent;
/// [`Error::Timeout`] naming the step; [`Error::Gone`].
pub fn handshake<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    request: &[u8],
    reply: &mut [u8],
    limit_ms: u32,
) -> Result<usize, Error> {
    send(bus, delay, request, Meanwhile::Nothing)?;
    let mut received = 0usize;
    let mut total = 4usize;
    let mut buffer = reply.chunks_exact_mut(2);
    while received < total {
        let (what, limit) = if received == 0 {
            ("the IOC to reply through the doorbell", limit_ms)
        } else {
            ("the next half-word of the IOC's reply", WORD_LIMIT_MS)
        };
        wait_for_ioc(bus, delay, what, limit)?;
        let half = bus.status(DOORBELL)?.data();
        bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
        if let Some([low, high]) = buffer.next() {
            [*low, *high] = half.to_le_bytes();
        }
        received += 2;
        if received == 4 {
            // Byte 2 of every message is its length in 32-bit words. A length of less than the
            // header that was just read is a lie; the handshake then ends here.
            total = usize::from(half as u8) * 4;
        }
    }

    wait_for_ioc(bus, delay, "the IOC to end the handshake", WORD_LIMIT_MS)?;
    bus.wait_until(
        delay,
        DOORBELL,
        "the IOC to release the doorbell",
        WORD_LIMIT_MS,
        |doorbell| !doorbell.used(),
    )?;
    bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
    Ok(received)
}

/// Sends a request whose reply comes through the reply FIFO: task management on MPI1 controllers
/// without a high-priority FIFO.
///
/// # Errors
///
/// As [`handshake`].
pub fn send_only<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    request: &[u8],
) -> Result<(), Error> {
    send(bus, delay, request, Meanwhile::Completions)
}

/// Reads to its end a reply that an earlier driver left unread, and says whether the doorbell is
/// free then. It stays in use if what was cut off is a request.
///
/// # Errors
///
/// [`Error::Gone`].
pub(crate) fn read_out<R: Registers>(bus: &Bus<R>, delay: &mut dyn DelayNs) -> Result<bool, Error> {
    for _ in 0..=MOST_HALVES {
        let used = bus.status(DOORBELL)?.used();
        if used {
            let next = "the next half-word of a reply that was left unread";
            match wait_for_ioc(bus, delay, next, LEFT_OVER_LIMIT_MS) {
                Ok(()) => {}
                Err(Error::Gone) => return Err(Error::Gone),
                Err(_) => return Ok(false),
            }
        }
        bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
        if !used {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether commands may complete while a request goes through the doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    /// Bring-up: nothing is outstanding, and the doorbell is not read between the words, where
    /// some chips may answer zero.
    Nothing,
    /// QEMU's IOC takes a command's completion for the end of the handshake: look before each
    /// word, since the IOC would take the rest for functions of their own.
    Completions,
}

/// What a request that is being sent waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing: it has not begun.
    Begin,
    /// The IOC's answer to the handshake function.
    Answer,
    /// The IOC to take what was written last.
    Taken,
    /// The IOC to say that it has it all.
    End,
    /// Nothing: it is sent.
    Sent,
}

impl Stage {
    /// What is waited for, and for how long, in milliseconds.
    const fn wait(self) -> (&'static str, u32) {
        match self {
            Self::Begin | Self::Answer => ("the IOC to answer the doorbell", START_LIMIT_MS),
            Self::Taken => ("the IOC to take a word of the request", WORD_LIMIT_MS),
            Self::End | Self::Sent => {
                ("the IOC to take the request from the doorbell", WORD_LIMIT_MS)
            }
        }
    }
}

/// A request on its way through the doorbell, moved on by looks that do not wait.
#[derive(Debug)]
pub(crate) struct Sending {
    stage: Stage,
    /// Words that were written.
    written: usize,
    attempts: u32,
    meanwhile: Meanwhile,
}

impl Sending {
    /// A request that is answered through the reply FIFO, while commands come and go.
    pub(crate) const fn new() -> Self {
        Self::with(Meanwhile::Completions)
    }

    const fn with(meanwhile: Meanwhile) -> Self {
        Self { stage: Stage::Begin, written: 0, attempts: 0, meanwhile }
    }

    /// Moves on as far as the IOC is ready for; `true` when all is sent.
    ///
    /// # Errors
    ///
    /// [`Error::DoorbellBusy`] if a handshake of somebody else's is under way, or the IOC lets go
    /// of ours again and again; [`Error::Gone`].
    #[inline(never)]
    pub(crate) fn advance<R: Registers>(
        &mut self,
        bus: &Bus<R>,
        request: &[u8],
    ) -> Result<bool, Error> {
        // Each turn writes a word, waits or ends; a request has at most 255 words.
        for _ in 0..2 * SEND_ATTEMPTS + MOST_HALVES {
            if let Some(is_sent) = self.turn(bus, request)? {
                return Ok(is_sent);
            }
        }
        Ok(false)
    }

    /// One turn; whether all is sent, if there is no other at present.
    #[inline(never)]
    fn turn<R: Registers>(&mut self, bus: &Bus<R>, request: &[u8]) -> Result<Option<bool>, Error> {
        let status = match self.stage {
            Stage::Begin | Stage::Sent => HostInterruptStatus(0),
            Stage::Answer | Stage::Taken | Stage::End => bus.status(HOST_INTERRUPT_STATUS)?,
        };
        match self.stage {
            Stage::Begin => {
                if self.attempts == SEND_ATTEMPTS || bus.status(DOORBELL)?.used() {
                    return Err(Error::DoorbellBusy);
                }
                self.attempts += 1;
                self.written = 0;
                // A stale doorbell interrupt would be taken for the acknowledgement.
                bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
                let dwords = u8::try_from(request.len() / 4).map_err(|_| Error::DoorbellBusy)?;
                bus.put(DOORBELL, Doorbell::handshake(dwords));
                self.stage = Stage::Answer;
            }
            Stage::Answer if status.ioc_to_system() => {
                bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
                self.stage = Stage::Taken;
            }
            Stage::Taken if !status.system_to_ioc() => {
                let Some(word) = request.chunks_exact(4).nth(self.written) else {
                    // Who waits for a reply in the doorbell finds it there.
                    self.stage = match self.meanwhile {
                        Meanwhile::Nothing => Stage::Sent,
                        Meanwhile::Completions => Stage::End,
                    };
                    return Ok(None);
                };
                if self.meanwhile == Meanwhile::Completions && !bus.status(DOORBELL)?.used() {
                    self.stage = Stage::Begin;
                    return Ok(None);
                }
                let word =
                    word.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
                bus.put(DOORBELL, Doorbell(word));
                self.written += 1;
            }
            Stage::End if status.ioc_to_system() => {
                bus.put(HOST_INTERRUPT_STATUS, HostInterruptStatus(0));
                self.stage = Stage::Sent;
            }
            Stage::Sent => return Ok(Some(true)),
            _ => return Ok(Some(false)),
        }
        Ok(None)
    }
}

/// Sends a request and waits until it is sent.
#[inline(never)]
fn send<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    request: &[u8],
    meanwhile: Meanwhile,
) -> Result<(), Error> {
    let mut sending = Sending::with(meanwhile);
    let mut patience = Patience::new();
    let mut at = (sending.stage, 0);
    while !sending.advance(bus, request)? {
        let now = (sending.stage, sending.written);
        if at != now {
            (at, patience) = (now, Patience::new());
        }
        let (what, limit_ms) = sending.stage.wait();
        if !patience.wait(delay, limit_ms) {
            return explain(bus, Err(Error::Timeout(Waited { what, limit_ms, last: 0 })));
        }
    }
    Ok(())
}

/// Waits until the IOC wrote its doorbell, and says "fault" instead of "timeout" if that is why
/// it did not.
#[inline(never)]
fn wait_for_ioc<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    what: &'static str,
    limit_ms: u32,
) -> Result<(), Error> {
    let mut waited_ms = 0;
    loop {
        let slice_ms = (limit_ms - waited_ms).min(LOOK_INTERVAL_MS);
        let answer = bus.wait_until(delay, HOST_INTERRUPT_STATUS, what, slice_ms, |status| {
            status.ioc_to_system()
        });
        match explain(bus, answer) {
            Err(Error::Timeout(Waited { last, .. })) => {
                waited_ms += slice_ms;
                // Port enable may take minutes; an IOC that was reset meanwhile has let go of the
                // doorbell and never answers.
                if waited_ms >= limit_ms || !Doorbell(last).used() {
                    return Err(Error::Timeout(Waited { what, limit_ms: waited_ms, last }));
                }
            }
            answer => return answer,
        }
    }
}

#[inline(never)]
fn explain<R: Registers>(bus: &Bus<R>, waited: Result<(), Error>) -> Result<(), Error> {
    match waited {
        Ok(()) => Ok(()),
        Err(Error::Timeout(Waited { what, limit_ms, .. })) => {
            let doorbell = bus.status(DOORBELL)?;
            Err(match doorbell.state() {
                IocState::Fault | IocState::Coredump => Error::Fault(doorbell.data()),
                _ => Error::Timeout(Waited { what, limit_ms, last: doorbell.0 }),
            })
        }
        Err(other) => Err(other),
    }
}
