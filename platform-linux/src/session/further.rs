//! A further queue, in a thread of its own.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::{Device, Generation};
use fusion_mpt::io_queue::{Completion, Queue};
use fusion_mpt::outcome::Failure;
use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};
use fusion_mpt::targets::TargetId;
use fusion_mpt::trace::Counters;

use super::Options;
use super::lending::{command, parts_of};
use crate::cdb;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{CommandQueue, Request};
use crate::link::{Link, real_time};
use crate::waiting::{Interrupt, Look, Next, Waiter, Waiting};

/// The controller's memory, which every queue has a handle to.
pub(super) struct SharedRegion<D>(Arc<D>);

impl<D> SharedRegion<D> {
    pub(super) fn new(region: D) -> Self {
        Self(Arc::new(region))
    }
}

impl<D> Clone for SharedRegion<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

// SAFETY: it forwards to a region that lives as long as the last handle, whose promises are kept.
unsafe impl<D: DmaRegion> DmaRegion for SharedRegion<D> {
    fn cpu(&self) -> NonNull<[u8]> {
        self.0.cpu()
    }
    fn bus(&self) -> BusAddr {
        self.0.bus()
    }
    fn to_device(&self, range: Range<usize>) {
        self.0.to_device(range);
    }
    fn to_cpu(&self, range: Range<usize>) {
        self.0.to_cpu(range);
    }
}

/// Where commands for each present target go. It changes with hot-plug and with resets.
#[derive(Debug)]
pub(super) struct Devices<T = Device> {
    /// Counts changes, so that a queue need not lock to see that there was none.
    version: AtomicU64,
    /// `None` from the beginning of a reset until the disks are known again: handles change.
    devices: RwLock<Option<Vec<Option<T>>>>,
}

impl<T> Default for Devices<T> {
    /// Nothing is known.
    fn default() -> Self {
        Self { version: AtomicU64::new(0), devices: RwLock::new(None) }
    }
}

impl<T: Clone> Devices<T> {
    /// Says what is so from now on.
    pub(super) fn publish(&self, present: impl Iterator<Item = (TargetId, T)>) {
        let mut devices = Vec::new();
        for (target, device) in present {
            let index = usize::from(target.0);
            if devices.len() <= index {
                devices.resize(index + 1, None);
            }
            if let Some(place) = devices.get_mut(index) {
                *place = Some(device);
            }
        }
        self.say(Some(devices));
    }

    /// Says that nothing is known until the next [`Devices::publish`]. To be called before a reset, in
    /// which every queue leaves: the controller lets them in again before its new handles are
    /// published, and one that was quick would write to what the old handle is by then.
    pub(super) fn forget(&self) {
        self.say(None);
    }

    fn say(&self, what: Option<Vec<Option<T>>>) {
        *self.devices.write().unwrap_or_else(PoisonError::into_inner) = what;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Brings `known` up to date if something has changed since the version `seen`.
    fn follow(&self, seen: &mut u64, known: &mut Option<Vec<Option<T>>>) {
        let version = self.version.load(Ordering::Acquire);
        if version != *seen {
            let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
            known.clone_from(&devices);
            *seen = version;
        }
    }
}

/// Polls between looks at the clock.
const POLLS_BETWEEN_TICKS: u32 = 64;

/// A further queue of a session's controller.
pub(super) struct Further<'a, G: Generation, R, D> {
    queue: Queue<'a, G, R, D>,
    devices: &'a Devices,
    /// What of them this queue has seen.
    seen: u64,
    known: Option<Vec<Option<Device>>>,
    has_written: &'a AtomicBool,
    kept: Vec<(u64, Ended)>,
    interrupt: Option<Interrupt>,
    waiter: Waiter,
    timeout_ms: u32,
    /// The controller's time at the start of this process's.
    epoch_ms: u64,
    left_out: u32,
    idle: u32,
}

impl<'a, G: Generation, R: Registers, D: DmaRegion> Further<'a, G, R, D> {
    pub(super) fn new<B: Link>(
        queue: Queue<'a, G, R, D>,
        devices: &'a Devices,
        has_written: &'a AtomicBool,
        interrupt: Option<Interrupt>,
        options: &Options,
        epoch_ms: u64,
    ) -> Self {
        let waiting = if interrupt.is_some() { options.waiting } else { Waiting::Poll };
        Self {
            queue,
            devices,
            seen: 0,
            known: None,
            has_written,
            kept: Vec::new(),
            interrupt,
            waiter: Waiter::new(waiting, Look::Memory),
            timeout_ms: options.timeout_ms,
            epoch_ms,
            left_out: 0,
            idle: 0,
        }
    }

    /// Where commands for `target` go; `None` while nobody knows, because of a reset.
    fn device(&mut self, target: TargetId) -> Result<Option<Device>, Error> {
        self.devices.follow(&mut self.seen, &mut self.known);
        let Some(known) = &self.known else {
            return match self.queue.halted() {
                None | Some(Failure::ControllerReset) => Ok(None),
                Some(_) => Err(Error::failed(format!(
                    "a command for target {}: its controller is gone or was given up",
                    target.0
                ))),
            };
        };
        match known.get(usize::from(target.0)).copied().flatten() {
            Some(device) => Ok(Some(device)),
            None => Err(Error::failed(format!("target {} is gone", target.0))),
        }
    }
}

impl<G: Generation, R: Registers, D: DmaRegion> CommandQueue for Further<'_, G, R, D> {
    fn submit(&mut self, request: &Request<'_>) -> Result<bool, Error> {
        let Some(device) = self.device(request.target)? else { return Ok(false) };
        let (cdb, segment) = parts_of(request)?;
        match self.queue.submit(device, &command(request, &cdb, &segment, self.timeout_ms)) {
            Ok(_) => {
                if cdb::is_write(request.cdb) && !self.has_written.load(Ordering::Relaxed) {
                    self.has_written.store(true, Ordering::Relaxed);
                }
                Ok(true)
            }
            Err(SubmitError::Full | SubmitError::Held | SubmitError::Throttled) => Ok(false),
            Err(error) => {
                Err(Error::failed(format!("a command for target {}: {error}", request.target.0)))
            }
        }
    }

    fn poll(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<u32, Error> {
        self.left_out += 1;
        let mut ended = 0;
        let mut complete = |completion: Completion<'_>| {
            ended += 1;
            complete(completion);
        };
        if self.left_out >= POLLS_BETWEEN_TICKS || self.idle > 0 {
            self.left_out = 0;
            let now_ms = self.epoch_ms + real_time().as_millis() as u64;
            self.queue.tick(now_ms, &mut complete);
        }
        let found = self.queue.poll(&mut complete).max(ended);
        self.waiter.looked(found > 0, false, real_time);
        if found > 0 {
            self.idle = 0;
            if self.waiter.is_armed() {
                self.wake();
            }
        }
        Ok(found)
    }

    fn keep(&mut self, cookie: u64, ended: Ended) {
        self.kept.push((cookie, ended));
    }

    fn take_kept(&mut self) -> Vec<(u64, Ended)> {
        std::mem::take(&mut self.kept)
    }

    fn pause(&mut self) {
        self.idle = self.idle.saturating_add(1);
        match (self.waiter.next(self.queue.outstanding(), real_time), &self.interrupt) {
            (Next::Arm, Some(_)) => self.waiter.arm(true),
            (Next::Sleep, Some(interrupt)) => {
                self.waiter.sleep(interrupt);
                self.wake();
            }
            _ => std::thread::yield_now(),
        }
    }

    fn sleep_on(&mut self) -> Option<BorrowedFd<'_>> {
        self.waiter.arm(self.interrupt.is_some());
        self.interrupt.as_ref().map(Interrupt::fd)
    }

    fn wake(&mut self) {
        self.waiter.arm(false);
        if let Some(interrupt) = &self.interrupt {
            interrupt.take();
        }
    }

    fn outstanding(&self) -> u16 {
        self.queue.outstanding()
    }

    fn depth(&self) -> u16 {
        self.queue.depth()
    }

    fn counters(&self) -> Counters {
        self.queue.counters()
    }

    fn register_accesses(&self) -> (u64, u64) {
        self.queue.register_accesses()
    }

    fn now(&self) -> Duration {
        real_time()
    }

    fn happened(&self) -> usize {
        self.queue.counters().completed as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use fusion_mpt::controller::Health;
    use fusion_mpt::scsi::Cdb;
    use fusion_mpt::sgl::Direction;
    use fusion_mpt_mock::model::Chip;

    use super::*;
    use crate::host::Buffer;
    use crate::rig;

    /// Reads of a block, as many as the queue takes, until told to stop; whatever recovery ends is
    /// sent again. Returns how many ended well.
    fn read_until(
        queue: &mut dyn CommandQueue,
        buffer: &Buffer,
        stop: &AtomicBool,
        done: &AtomicU32,
    ) -> Result<u32, Error> {
        let (mut out, mut good) = (0u32, 0);
        let mut failed = None;
        while out > 0 || !stop.load(Ordering::Relaxed) {
            let cdb = Cdb::read(u64::from(good % 64), 1);
            let request = Request {
                target: TargetId(0),
                lun: 0,
                cdb: cdb.as_bytes(),
                direction: Direction::Read,
                buffer: Some(buffer),
                offset: 0,
                bytes: 512,
                cookie: 1,
            };
            while out < 8 && !stop.load(Ordering::Relaxed) && queue.submit(&request)? {
                out += 1;
            }
            let found = queue.poll(&mut |completion| {
                out -= 1;
                let ended = Ended { outcome: completion.outcome, sense: completion.sense.into() };
                if ended.outcome.is_good() {
                    good += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                } else if !ended.wants_another_try() && !ended.was_ended_by_recovery() {
                    failed = Some(Error::failed(ended.describe()));
                }
            })?;
            if let Some(error) = failed.take() {
                return Err(error);
            }
            if found == 0 {
                queue.pause();
            }
        }
        Ok(good)
    }

    #[test]
    fn nobody_takes_a_disk_for_gone_while_a_reset_looks_for_it() {
        let build = |model: &mut fusion_mpt_mock::model::Model| {
            model.add_disk(0, rig::disk(0, false)).expect("free");
            model.add_disk(1, rig::disk(1, false)).expect("free");
        };
        for chip in rig::CHIPS {
            rig::on(chip, build, |host, bus| {
                bus.with_model(|model| model.fault(0x2622));
                let mut polls_after = 0;
                while polls_after < 200 {
                    host.poll(&mut |_| {})?;
                    assert_eq!(host.targets().len(), 2, "{chip:?} {:?}", host.health());
                    let is_over = host.recovery().resets > 0 && host.health() == Health::Running;
                    polls_after += u32::from(is_over);
                }
                bus.with_model(|model| model.remove_disk(1));
                while host.targets().len() > 1 {
                    host.poll(&mut |_| {})?;
                }
                Ok(())
            });
        }
    }

    #[test]
    fn no_queue_takes_a_disk_for_gone_while_a_reset_looks_for_it() {
        let build = |model: &mut fusion_mpt_mock::model::Model| {
            model.add_disk(0, rig::disk(0, false)).expect("free");
        };
        rig::with_queues(Chip::SAS3816, 4, build, |host, further, bus| {
            let stop = AtomicBool::new(false);
            let done = AtomicU32::new(0);
            let mut buffers = Vec::new();
            for _ in 0..further.len() {
                buffers.push(host.allocate(512)?);
            }
            std::thread::scope(|scope| {
                let (stop, done) = (&stop, &done);
                let threads: Vec<_> = further
                    .into_iter()
                    .zip(&buffers)
                    .map(|(mut queue, buffer)| {
                        scope.spawn(move || read_until(&mut *queue, buffer, stop, done))
                    })
                    .collect();
                assert_eq!(threads.len(), 3);
                let mut faults = || {
                    for resets in 1..=4 {
                        bus.with_model(|model| model.fault(0x2622));
                        let before = |host: &dyn crate::host::Host| host.recovery().resets < resets;
                        while before(host) {
                            if host.poll(&mut |_| {})? == 0 {
                                host.pause();
                            }
                        }
                        let so_far = done.load(Ordering::Relaxed);
                        while done.load(Ordering::Relaxed) < so_far + 100
                            && !threads.iter().any(|thread| thread.is_finished())
                        {
                            if host.poll(&mut |_| {})? == 0 {
                                host.pause();
                            }
                        }
                    }
                    Ok(())
                };
                let recovered: Result<(), Error> = faults();
                stop.store(true, Ordering::Relaxed);
                while !threads.iter().all(|thread| thread.is_finished()) {
                    let _ = host.poll(&mut |_| {});
                }
                recovered?;
                for thread in threads {
                    thread.join().expect("no panic").map(drop)?;
                }
                Ok(())
            })
        });
    }

    #[test]
    fn from_a_reset_on_no_queue_knows_a_device_until_all_are_told_anew() {
        let devices = Devices::default();
        let (mut seen, mut known) = (0, None);
        devices.publish([(TargetId(0), 'a'), (TargetId(2), 'c')].into_iter());
        devices.follow(&mut seen, &mut known);
        assert_eq!(known, Some(vec![Some('a'), None, Some('c')]));
        devices.forget();
        devices.follow(&mut seen, &mut known);
        assert_eq!(known, None);
        devices.publish([(TargetId(2), 'a')].into_iter());
        devices.follow(&mut seen, &mut known);
        assert_eq!(known, Some(vec![None, None, Some('a')]));
    }
}
