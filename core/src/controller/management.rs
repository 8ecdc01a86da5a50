//! Waiting, and what a platform waits for: configuration pages and task management.
//!
//! Each comes as a pair, a request and a look whether its answer has come, for platforms that must
//! not wait; and as one call that does both and polls meanwhile.

use core::ops::Range;

use embedded_hal::delay::DelayNs;

use super::Controller;
use crate::doorbell::send_only;
use crate::error::{Error, Waited};
use crate::generation::{Generation, Message, Post};
use crate::io_queue::Completion;
use crate::memory_plan::{INTERNAL_SLOTS, TASK_SLOTS};
use crate::pages::PageRequest;
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{ResetReason, TaskReply, TaskRequest};
use crate::regs::{DOORBELL, Doorbell, Patience};
use crate::wire::Function;

/// How long a configuration page may take (Linux: 15 s).
const PAGE_LIMIT_MS: u32 = 15_000;
/// How long task management may take (Linux: 30 s).
const TASK_LIMIT_MS: u32 = 30_000;

/// The slots for task management.
const TASKS: Range<u16> = INTERNAL_SLOTS..INTERNAL_SLOTS + TASK_SLOTS;

/// Which way task management takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskRoute {
    /// The way that the generation and the facts prescribe.
    Preferred,
    /// The request queue: high priority where there is such a thing.
    Queue,
    /// The doorbell (MPI1 only).
    Doorbell,
}

/// A task management request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) smid: u16,
    /// The reply, once it has come, or why it is none.
    pub(super) reply: Option<Result<TaskReply, Error>>,
}

impl<G: Generation, R: Registers, D: DmaRegion> Controller<'_, G, R, D> {
    /// Polls until it is done, at most as long as `waited` says.
    #[inline(never)]
    pub(super) fn wait(
        &mut self,
        delay: &mut dyn DelayNs,
        waited: Waited,
        is_done: &dyn Fn(&Self) -> bool,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        let mut patience = Patience::new();
        let mut polls = 0u32;
        loop {
            self.look(complete);
            if is_done(self) {
                return Ok(());
            }
            // A dead controller answers nothing: look whether it is alive, at first often.
            if polls % 64 == 63 {
                self.watch_state(complete);
            }
            if let Some(error) = self.state.error() {
                return Err(error);
            }
            if !patience.wait(delay, waited.limit_ms) {
                let last = self.queue.bus.status::<_, Doorbell>(DOORBELL)?.0;
                return Err(Error::Timeout(Waited { last, ..waited }));
            }
            polls = polls.saturating_add(1);
        }
    }

    /// Asks for a configuration page; [`Controller::take_page`] has it after some polls.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another is on its way.
    #[inline(never)]
    pub fn request_page(&mut self, request: PageRequest) -> Result<(), Error> {
        if let Some(error) = self.state.error() {
            return Err(error);
        }
        self.desk.admin.ask_for_page(request)?;
        self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
        Ok(())
    }

    /// Copies the page that was asked for into `page` and returns its length in bytes, header
    /// included; `None` while it has not come.
    #[inline(never)]
    pub fn take_page(&mut self, page: &mut [u8]) -> Option<Result<usize, Error>> {
        let taken = self.desk.admin.take_page(&self.queue, page);
        if taken.is_some() {
            self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
        }
        taken
    }

    /// Reads a configuration page: its header first, then as much as the header says, with retries.
    /// Completions that come meanwhile go to `complete`.
    ///
    /// # Errors
    ///
    /// [`Error::Ioc`] with IOCStatus 0x22 if there is no such page (for a page with a handle in
    /// its address: the end of the list); [`Error::Busy`], [`Error::Timeout`].
    pub fn read_page(
        &mut self,
        delay: &mut impl DelayNs,
        request: PageRequest,
        page: &mut [u8],
        mut complete: impl FnMut(Completion<'_>),
    ) -> Result<usize, Error> {
        self.read_page_into(delay, request, page, &mut complete)
    }

    #[inline(never)]
    fn read_page_into(
        &mut self,
        delay: &mut dyn DelayNs,
        request: PageRequest,
        page: &mut [u8],
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<usize, Error> {
        self.request_page(request)?;
        let waited = Waited { what: "a configuration page", limit_ms: PAGE_LIMIT_MS, last: 0 };
        let is_here = |controller: &Self| controller.desk.admin.has_page();
        if let Err(error) = self.wait(delay, waited, &is_here, complete) {
            self.desk.admin.abandon_page();
            return Err(error);
        }
        // It came, or the wait would have ended in an error.
        self.take_page(page).unwrap_or(Err(Error::NotOperational))
    }

    /// Asks for a task management function; [`Controller::take_task_reply`] has the answer after
    /// some polls. Commands that it ends complete on their own, before or after (controllers.md
    /// 2.6: the reply may overtake them).
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another is on its way; on the doorbell's route what the handshake met.
    pub fn request_task_management(
        &mut self,
        request: &TaskRequest,
        route: TaskRoute,
        delay: &mut impl DelayNs,
    ) -> Result<(), Error> {
        self.ask_for_task(request, route, delay)
    }

    fn ask_for_task(
        &mut self,
        request: &TaskRequest,
        route: TaskRoute,
        delay: &mut dyn DelayNs,
    ) -> Result<(), Error> {
        if let Some(error) = self.state.error() {
            return Err(error);
        }
        if self.desk.task.is_some() {
            return Err(Error::Busy);
        }
        let by_doorbell = match route {
            TaskRoute::Queue => false,
            TaskRoute::Doorbell => true,
            TaskRoute::Preferred => self.prefers_doorbell(),
        };
        if by_doorbell && !G::TASKS_BY_DOORBELL {
            return Err(Error::Unsupported("task management through the doorbell"));
        }
        let smid = if by_doorbell {
            let (smid, message) = self.doorbell_task(request).ok_or(Error::Busy)?;
            if let Err(error) = send_only(&self.queue.bus, delay, message.bytes()) {
                self.queue.give_up_own(smid);
                return Err(error);
            }
            smid
        } else {
            match self.post_task(request) {
                Some(smid) => smid,
                None if self.desk.own_task.is_some() => return Err(Error::Busy),
                None => {
                    // Each slot waits for an answer that does not come.
                    let function = Function::SCSI_TASK_MANAGEMENT;
                    self.need_reset(ResetReason::OwnRequestLost(function));
                    return Err(Error::NotOperational);
                }
            }
        };
        self.desk.task = Some(Task { smid, reply: None });
        Ok(())
    }

    /// Posts task management through the queue, in any free slot for it.
    pub(super) fn post_task(&mut self, request: &TaskRequest) -> Option<u16> {
        TASKS.clone().find_map(|slot| self.post_task_in(slot, request))
    }

    #[inline(never)]
    fn post_task_in(&mut self, slot: u16, request: &TaskRequest) -> Option<u16> {
        let context = self.queue.own_context(slot);
        let message = G::task_management(&self.queue.port, context, request);
        self.queue.post_own(slot, Post::HighPriority, &message)
    }

    /// Takes a slot for task management through the doorbell, and the message to be sent there.
    pub(super) fn doorbell_task(&mut self, request: &TaskRequest) -> Option<(u16, Message)> {
        let function = Function::SCSI_TASK_MANAGEMENT;
        let smid = TASKS.clone().find_map(|slot| self.queue.take_own(slot, function))?;
        let context = G::context(&self.queue.port, smid);
        Some((smid, G::task_management(&self.queue.port, context, request)))
    }

    /// Whether task management takes the doorbell by itself.
    pub(super) fn prefers_doorbell(&self) -> bool {
        G::TASKS_BY_DOORBELL && !self.facts.high_priority_queue
    }

    /// What came of the task management that was asked for; `None` while nothing has.
    pub fn take_task_reply(&mut self) -> Option<Result<TaskReply, Error>> {
        let reply = self.desk.task.as_ref()?.reply?;
        self.desk.task = None;
        Some(reply)
    }

    /// Runs a task management function to its end. Completions that come meanwhile go to
    /// `complete`.
    ///
    /// # Errors
    ///
    /// As [`Controller::request_task_management`]; [`Error::Timeout`].
    pub fn task_management(
        &mut self,
        delay: &mut impl DelayNs,
        request: &TaskRequest,
        route: TaskRoute,
        mut complete: impl FnMut(Completion<'_>),
    ) -> Result<TaskReply, Error> {
        self.manage_task(delay, request, route, &mut complete)
    }

    #[inline(never)]
    fn manage_task(
        &mut self,
        delay: &mut dyn DelayNs,
        request: &TaskRequest,
        route: TaskRoute,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<TaskReply, Error> {
        self.ask_for_task(request, route, delay)?;
        let waited = Waited { what: "task management", limit_ms: TASK_LIMIT_MS, last: 0 };
        let is_answered =
            |controller: &Self| controller.desk.task.is_some_and(|task| task.reply.is_some());
        if let Err(error) = self.wait(delay, waited, &is_answered, complete) {
            self.desk.task = None;
            return Err(error);
        }
        // It was answered, or the wait would have ended in an error.
        self.take_task_reply().unwrap_or(Err(Error::NotOperational))
    }
}
