//! What a session lends out: a running controller, and a trace of it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fusion_mpt::controller::Health;
use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::{Command, Generation, TaskAttribute};
use fusion_mpt::io_queue::Completion;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::recovery::RecoveryCounters;
use fusion_mpt::scsi::{Cdb, Lun, Sense};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::targets::Target;
use fusion_mpt::trace::{Counters, TraceEntry};
use fusion_mpt_mock::faults::{FaultEvent, Plan};

use super::Session;
use crate::cdb;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{BringUp, Buffer, CommandQueue, Host, Request};
use crate::image::Image;
use crate::link::Link;
use crate::recovery::Happening;
use crate::waiting::{Interrupt, Next};

/// The longest configuration page that is read.
const PAGE_BYTES: usize = 4096;

impl<G: Generation, B: Link> Session<'_, G, B> {
    pub(super) fn show_trace(&mut self) {
        let (Some(sink), Some(trace)) = (self.sink.as_mut(), self.controller.trace()) else {
            return;
        };
        for entry in trace.since(self.traced) {
            if entry.sequence > self.traced {
                sink(&format!("({} entries were not kept)", entry.sequence - self.traced));
            }
            self.traced = entry.sequence + 1;
            let at_ms = entry.at_ms.saturating_sub(self.started_ms);
            if let Some(line) = self.decoder.entry(&TraceEntry { at_ms, ..*entry }) {
                sink(&line);
            }
        }
    }
}

impl<G: Generation, B: Link> Session<'_, G, B> {
    fn let_interrupts_pass(&mut self) {
        if self.interrupt.is_some() && !self.waiter.is_armed() {
            if !self.always {
                self.controller.interrupts(true);
            }
            self.waiter.arm(true);
        }
    }

    fn sleep(&mut self) {
        if let Some(interrupt) = &self.interrupt {
            self.waiter.sleep(interrupt);
        }
        // Held back by the controller first: a line that it still asserts comes again as soon as it
        // is taken.
        self.wake();
    }
}

/// The CDB of a request, and where its data is.
///
/// # Errors
///
/// A sentence when there is no such CDB, or the data lies outside the buffer.
pub(super) fn parts_of(request: &Request<'_>) -> Result<(Cdb, Option<Segment>), Error> {
    let Some(cdb) = Cdb::from_bytes(request.cdb) else {
        return Err(Error::usage(format!(
            "a CDB of {} bytes cannot be sent; it has 1 to 32",
            request.cdb.len()
        )));
    };
    let segment = match request.buffer {
        Some(buffer) if request.bytes > 0 => {
            let end = request.offset.checked_add(request.bytes as usize);
            if end.is_none_or(|end| end > buffer.bytes()) {
                return Err(Error::failed("the command's data lies outside its buffer"));
            }
            let address = buffer.address().offset(request.offset as u64);
            Some(Segment { address, length: request.bytes })
        }
        _ => None,
    };
    Ok((cdb, segment))
}

/// The command that a request is.
pub(super) fn command<'c>(
    request: &Request<'_>,
    cdb: &'c Cdb,
    segment: &'c Option<Segment>,
    timeout_ms: u32,
) -> Command<'c> {
    Command {
        lun: Lun::peripheral(request.lun),
        cdb,
        direction: if segment.is_some() { request.direction } else { Direction::None },
        data_length: segment.map_or(0, |segment| segment.length),
        segments: segment.as_slice(),
        attribute: TaskAttribute::Simple,
        tag: None,
        timeout_ms,
        cookie: request.cookie,
    }
}

impl<G: Generation, B: Link> CommandQueue for Session<'_, G, B> {
    fn submit(&mut self, request: &Request<'_>) -> Result<bool, Error> {
        let (cdb, segment) = parts_of(request)?;
        let command = command(request, &cdb, &segment, self.timeout_ms);
        match self.controller.submit(request.target, &command) {
            Ok(_) => self.refused_since = None,
            // There is always an end to these: something completes.
            Err(SubmitError::Full) => return Ok(false),
            Err(SubmitError::Held | SubmitError::Throttled) => {
                return self.was_refused(request.target.0).map(|()| false);
            }
            Err(error) => {
                return Err(
                    self.explain(format!("a command for target {}: {error}", request.target.0))
                );
            }
        }
        let unit = (request.target, request.lun);
        if cdb::is_write(request.cdb) {
            self.has_written.store(true, Ordering::Relaxed);
            if !self.unflushed.contains(&unit) {
                self.unflushed.push(unit);
            }
        } else if cdb::is_whole_flush(request.cdb) {
            self.unflushed.retain(|other| *other != unit);
        }
        if self.sink.is_some() {
            self.show_trace();
        }
        Ok(true)
    }

    fn poll(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<u32, Error> {
        let tracing = self.sink.is_some();
        self.left_out += 1;
        let look = tracing || self.left_out >= B::POLLS_BETWEEN_LOOKS;
        // What a tick finds counts too.
        let (mut ended, mut lines) = (0, Vec::new());
        let mut complete = |completion: Completion<'_>| {
            ended += 1;
            // Sense lies beside the reply frame, so it is shown where it comes out.
            if tracing && let Some(sense) = Sense::parse(completion.sense) {
                lines.push(format!("         sense: {sense}"));
            }
            complete(completion);
        };
        let mut ticked = Ok(());
        let mut found = 0;
        if look {
            self.left_out = 0;
            ticked = self.tick(&mut complete);
        }
        if ticked.is_ok() && (look || (self.waiter.is_due() && self.link.may_have_replied())) {
            found = self.controller.poll(&mut complete);
            let early = found > 0 && self.controller.outstanding() == 0;
            self.waiter.looked(found > 0, early, || self.link.now());
        }
        let found = found.max(ended);
        if found > 0 {
            self.idle = 0;
            if self.waiter.is_armed() {
                self.wake();
            }
            self.refused_since = None;
        }
        if tracing {
            self.show_trace();
            if let Some(sink) = self.sink.as_mut() {
                lines.iter().for_each(|line| sink(line));
            }
        }
        ticked.map(|()| found)
    }

    fn pause(&mut self) {
        self.idle = self.idle.saturating_add(1);
        let outstanding = self.controller.outstanding();
        match (self.waiter.next(outstanding, || self.link.now()), &self.interrupt) {
            (Next::Look, _) | (_, None) => self.link.pause(self.idle),
            (Next::Arm, Some(_)) => {
                self.let_interrupts_pass();
                if self.waiter.wakes_for_what_waits() {
                    self.sleep();
                }
            }
            (Next::Sleep, Some(_)) => self.sleep(),
        }
    }

    fn keep(&mut self, cookie: u64, ended: Ended) {
        self.kept.push((cookie, ended));
    }

    fn take_kept(&mut self) -> Vec<(u64, Ended)> {
        std::mem::take(&mut self.kept)
    }

    fn sleep_on(&mut self) -> Option<BorrowedFd<'_>> {
        self.waiter.is_left_alone();
        self.let_interrupts_pass();
        self.interrupt.as_ref().map(Interrupt::fd)
    }

    fn wake(&mut self) {
        if self.waiter.is_armed() {
            self.waiter.arm(false);
            if !self.always {
                self.controller.interrupts(false);
            }
        }
        if let Some(interrupt) = &self.interrupt {
            interrupt.take();
        }
    }

    fn outstanding(&self) -> u16 {
        self.controller.outstanding()
    }

    fn depth(&self) -> u16 {
        self.controller.depth()
    }

    fn counters(&self) -> Counters {
        self.controller.counters()
    }

    fn register_accesses(&self) -> (u64, u64) {
        self.controller.register_accesses()
    }

    fn now(&self) -> Duration {
        self.link.now()
    }

    fn happened(&self) -> usize {
        self.record.all().len()
    }
}

impl<G: Generation, B: Link> Host for Session<'_, G, B> {
    fn bring_up(&self) -> &BringUp {
        &self.bring_up
    }

    fn images(&self) -> &[Image] {
        self.images.all()
    }

    fn targets(&self) -> Vec<Target> {
        let expected = self.is_looking_for_targets();
        let is_there =
            |target: &Target| target.present || (expected && self.present.contains(&target.id));
        self.controller.targets().filter(is_there).collect()
    }

    fn known_targets(&self) -> Vec<Target> {
        self.controller.targets().collect()
    }

    fn allocate(&mut self, bytes: usize) -> Result<Buffer, Error> {
        let buffer = Buffer::new(self.link.allocate(bytes.max(1), 4096)?);
        self.buffers.push(buffer.clone());
        Ok(buffer)
    }

    fn read_page(&mut self, request: PageRequest) -> Result<Vec<u8>, Error> {
        let mut page = vec![0u8; PAGE_BYTES];
        let length = self
            .controller
            .read_page(&mut self.link.delay(), request, &mut page, |_| {})
            .map_err(|error| self.explain(error))?;
        page.truncate(length);
        Ok(page)
    }

    fn health(&self) -> Health {
        self.controller.health()
    }

    fn recovery(&self) -> RecoveryCounters {
        self.controller.recovery_counters()
    }

    fn happenings(&self) -> &[Happening] {
        self.record.all()
    }

    fn ioc_events(&self, since: u64) -> Vec<TraceEntry> {
        let log = self.controller.event_log();
        log.into_iter().flat_map(|log| log.since(since)).copied().collect()
    }

    fn time_of_day_ms(&self, at: Duration) -> u64 {
        self.started_ms + at.saturating_sub(self.started).as_millis() as u64
    }

    fn note_sent_again(&mut self, commands: u64) {
        self.sent_again += commands;
    }

    fn sent_again(&self) -> u64 {
        self.sent_again
    }

    fn forgive_unflushed(&mut self) {
        self.unflushed.clear();
        self.has_written.store(false, Ordering::Relaxed);
    }

    fn set_faults(&mut self, plan: Option<&Plan>) -> Result<(), Error> {
        if self.link.set_faults(plan) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{} has no faults to offer: only a software controller does, opened for it",
            self.bring_up.bus
        )))
    }

    fn fault_log(&self) -> Vec<FaultEvent> {
        self.link.fault_log()
    }
}
