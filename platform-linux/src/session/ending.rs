//! How a session ends: drained, flushed, stopped, with what could not be done said.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fusion_mpt::controller::{Health, Stopped};
use fusion_mpt::error::Error as CoreError;
use fusion_mpt::generation::Generation;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::TargetId;

use super::Session;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{CommandQueue, Host, OWN_COOKIE, Request};
use crate::link::Link;
use crate::recovery::left_undone;
use crate::tries::Tries;

/// How long commands may take to come back when a session ends. Recovery of one that is late takes
/// longer; then [`Controller::stop`](fusion_mpt::controller::Controller::stop) waits once more.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a disk may take to flush (SBC puts no bound; drives promise less than this).
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

impl<G: Generation, B: Link> Session<'_, G, B> {
    /// Polls until nothing is outstanding, for at most `limit`.
    fn drain(&mut self, limit: Duration) -> Result<(), Error> {
        let deadline = self.now() + limit;
        while self.controller.outstanding() > 0 {
            if self.now() > deadline {
                return Err(Error::failed(format!(
                    "{} commands did not come back within {} s; the controller was reset, and what they wrote may be lost",
                    self.controller.outstanding(),
                    limit.as_secs()
                )));
            }
            if self.poll(&mut |_| {})? == 0 {
                self.pause();
            }
        }
        Ok(())
    }

    /// Flushes every disk that was written.
    fn flush(&mut self) -> Result<(), Error> {
        for (target, lun) in std::mem::take(&mut self.unflushed) {
            let lost = |why: &dyn std::fmt::Display| {
                Error::failed(format!(
                    "target {} did not flush its cache ({why}): what was written last may be lost, compare it when the disk is back",
                    target.0
                ))
            };
            match self.flush_unit(target, lun) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Err(lost(&"it refused to")),
                Ok(None) => return Err(lost(&"it did not answer")),
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(())
    }

    /// Flushes one logical unit: whether it did, or `None` if it has not answered.
    fn flush_unit(&mut self, target: TargetId, lun: u8) -> Result<Option<bool>, Error> {
        let cdb = Cdb::synchronize_cache_10(0, 0);
        let request =
            Request { cookie: OWN_COOKIE, ..Request::without_data((target, lun), cdb.as_bytes()) };
        let deadline = self.now() + FLUSH_LIMIT;
        let mut tries = Tries::new();
        loop {
            while !self.submit(&request)? {
                if self.now() > deadline {
                    return Ok(None);
                }
                if self.poll(&mut |_| {})? == 0 {
                    self.pause();
                }
            }
            let mut ended = None;
            while ended.is_none() && self.now() < deadline {
                let found = self.poll(&mut |completion| {
                    if completion.cookie == OWN_COOKIE {
                        let sense = completion.sense.to_vec();
                        ended = Some(Ended { outcome: completion.outcome, sense });
                    }
                })?;
                if found == 0 {
                    self.pause();
                }
            }
            let Some(ended) = ended else { return Ok(None) };
            if ended.outcome.is_good() || !tries.again(&ended) {
                return Ok(Some(ended.outcome.is_good()));
            }
        }
    }

    /// Leaves everything in order: drained and flushed, which is the first result; the IOC back in
    /// READY, which is the second.
    pub(super) fn end(mut self) -> (Result<(), Error>, Result<(), Error>) {
        let lives = !matches!(self.health(), Health::Gone | Health::Offline);
        let drained = match lives {
            true => self.drain(DRAIN_LIMIT).and_then(|()| self.flush()),
            // There is nothing to drain or to flush; what that means the failure has said.
            false => self.lost_writes(),
        };
        self.show_trace();
        let bus = self.bring_up.bus;
        let failure = self.link.failure();
        let now_ms = self.now_ms();
        let undone =
            |stopped: &Stopped| left_undone(stopped).map(|undone| format!("on {bus}: {undone}"));
        let Self { controller, buffers, mut report, has_written, link, .. } = self;
        let has_written = has_written.load(Ordering::Relaxed);
        let (parts, stopped, reset) = controller.stop(now_ms, &mut link.delay(), |_| {});
        // Only now may memory be freed that the controller could have written to.
        drop(buffers);
        drop(parts);
        let drained = match (drained, undone(&stopped)) {
            (Ok(()), Some(sentence)) if has_written || stopped.undrained > 0 => {
                Err(Error::failed(sentence))
            }
            (drained, Some(sentence)) => {
                if let Some(report) = report.as_mut() {
                    report(&sentence);
                }
                drained
            }
            (drained, None) => drained,
        };
        let reset = match (reset, failure) {
            (Ok(()), _) => Ok(()),
            // It was gone before, which has been said.
            (Err(CoreError::Gone), _) if !lives => Ok(()),
            (Err(_), Some(sentence)) => Err(Error::failed(sentence)),
            (Err(error), None) if drained.is_ok() => Err(Error::failed(format!(
                "the data is safe, but resetting the controller on {bus} at the end failed: {error}"
            ))),
            (Err(error), None) => Err(Error::failed(format!(
                "resetting the controller on {bus} at the end failed: {error}"
            ))),
        };
        (drained, reset)
    }

    /// The controller has gone with what was not flushed.
    fn lost_writes(&self) -> Result<(), Error> {
        match self.unflushed.first() {
            None => Ok(()),
            Some((target, _)) => Err(Error::failed(format!(
                "target {} was not flushed: what was written last may be lost, compare it when the disk is back",
                target.0
            ))),
        }
    }
}
