//! The driver's own requests: port enable, events, configuration pages, discovery.
//!
//! One is outstanding at a time, the rest wait in a short queue. Port enable, which may take
//! minutes, has a slot of its own so that events and pages go on meanwhile; so has event
//! notification, because on MPI1 every event quotes its context for ever after. Nothing here waits:
//! each reply, seen by a poll, starts the next request.

use heapless::Deque;

use crate::error::Error;
use crate::generation::{Generation, Post, ReplyHeader};
use crate::io_queue::{Other, Queue};
use crate::log_info::LogInfo;
use crate::pages::{PageRequest, Step};
use crate::platform::{DmaRegion, Registers};
use crate::reply::News;
use crate::startup::PORT_ENABLE_LIMIT_MS;
use crate::targets::Targets;
use crate::wire::{Function, IocStatus};

/// Slots of pages and acknowledgements, used in turn: a reply that comes twice then finds its slot
/// free. With one slot it would pass for the answer to the next request, that one's for the answer
/// to the one after, and so on: a scan would read every page one too early.
const SLOTS: [u16; 2] = [0, 3];
/// Slot of port enable.
const PORT_ENABLE_SLOT: u16 = 1;
/// Slot of event notification.
const EVENT_SLOT: u16 = 2;
/// Requests that wait. When an event storm overruns them, a scan makes up for what was dropped.
const WAITING: usize = 16;
/// Acknowledgements that wait: more than an IOC keeps events for.
const ACKNOWLEDGEMENTS: usize = 64;
/// The SMID of the first of these slots.
const FIRST_SMID: u16 = 1;
/// How often a page is asked for before its error counts.
const ATTEMPTS: u8 = 3;
/// Ends the list of handles, and begins it.
const NO_HANDLE: u16 = 0xffff;

/// Why a page is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// To find the device after this handle.
    Scan { after: u16 },
    /// To learn who answers under this handle.
    Device { handle: u16 },
    /// For the caller.
    Caller,
    /// For a caller who has lost patience: the answer, if it comes, is dropped.
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    EventAcknowledge {
        code: u32,
        context: u32,
    },
    Page {
        request: PageRequest,
        purpose: Purpose,
        attempts: u8,
    },
    /// Has the IOC forget a device that went.
    Remove {
        handle: u16,
    },
    /// Tells RAID firmware that the system goes down.
    RaidShutdown,
}

impl Job {
    const fn function(&self) -> Function {
        match self {
            Self::EventAcknowledge { .. } => Function::EVENT_ACK,
            Self::Page { .. } => Function::CONFIG,
            Self::Remove { .. } => Function::SAS_IO_UNIT_CONTROL,
            Self::RaidShutdown => Function::RAID_ACTION,
        }
    }
}

/// A page that the caller asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CallerPage {
    None,
    Underway,
    /// It is in the page buffer, so many bytes; nothing else is started until it is fetched.
    Here(u32),
    Failed(Error),
}

/// The state of the driver's own requests.
#[derive(Debug)]
pub(crate) struct Admin {
    waiting: Deque<Job, WAITING>,
    /// Events to be acknowledged: code and context.
    acknowledgements: Deque<(u32, u32), ACKNOWLEDGEMENTS>,
    underway: Option<Job>,
    caller_page: CallerPage,
    scan_wanted: bool,
    scanning: bool,
    /// Scans in a row that were broken off.
    broken_scans: u8,
    /// Which of [`SLOTS`] the request under way has.
    second_slot: bool,
    /// Whether port enable has been asked for and is not answered yet.
    port_enable_underway: bool,
    port_enable: Option<Result<(), Error>>,
    events_on: bool,
    /// When what is under way, port enable and event notification were asked for; event
    /// notification only until it is answered.
    underway_ms: u64,
    port_enable_asked_ms: u64,
    events_asked_ms: Option<u64>,
}

impl Admin {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: Deque::new(),
            acknowledgements: Deque::new(),
            underway: None,
            caller_page: CallerPage::None,
            scan_wanted: false,
            scanning: false,
            broken_scans: 0,
            second_slot: false,
            port_enable_underway: false,
            port_enable: None,
            events_on: false,
            underway_ms: 0,
            port_enable_asked_ms: 0,
            events_asked_ms: None,
        }
    }

    /// A request that was not answered in time: `limit_ms` milliseconds, or what port enable has.
    pub(crate) fn overdue(&self, now_ms: u64, limit_ms: u32) -> Option<Function> {
        let late = |since: u64, limit: u32| now_ms.saturating_sub(since) >= u64::from(limit);
        match self.underway {
            Some(job) if late(self.underway_ms, limit_ms) => return Some(job.function()),
            _ => {}
        }
        if self.events_asked_ms.is_some_and(|asked| late(asked, limit_ms)) {
            return Some(Function::EVENT_NOTIFICATION);
        }
        let enabling = self.port_enable_underway;
        (enabling && late(self.port_enable_asked_ms, PORT_ENABLE_LIMIT_MS))
            .then_some(Function::PORT_ENABLE)
    }

    /// Counts the time that everything under way has from `now_ms` on.
    pub(crate) fn asked_at(&mut self, now_ms: u64) {
        self.underway_ms = now_ms;
        self.port_enable_asked_ms = now_ms;
        if let Some(asked_ms) = &mut self.events_asked_ms {
            *asked_ms = now_ms;
        }
    }

    /// Has the IOC forget a device that went; `false` if there is no room to remember it.
    pub(crate) fn remove_device(&mut self, handle: u16) -> bool {
        self.wait_last(Job::Remove { handle })
    }

    /// Tells RAID firmware that the system goes down; `false` if there is no room to remember it.
    pub(crate) fn raid_shutdown(&mut self) -> bool {
        self.wait_first(Job::RaidShutdown)
    }

    /// Lets a request wait behind all others; `false` if there is no room.
    #[inline(never)]
    fn wait_last(&mut self, job: Job) -> bool {
        self.waiting.push_back(job).is_ok()
    }

    /// Lets a request wait before all others; `false` if there is no room.
    #[inline(never)]
    fn wait_first(&mut self, job: Job) -> bool {
        self.waiting.push_front(job).is_ok()
    }

    /// Whether nothing is awaited that could become overdue.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.underway.is_none() && self.events_asked_ms.is_none() && !self.port_enable_underway
    }

    /// Whether no request is under way or waits, discovery aside.
    pub(crate) fn is_idle(&self) -> bool {
        self.underway.is_none() && self.waiting.is_empty()
    }

    /// Asks for events.
    pub(crate) fn ask_for_events<G: Generation, R: Registers, D: DmaRegion>(
        &mut self,
        queue: &mut Queue<'_, G, R, D>,
    ) {
        let message = G::event_notification(queue.own_context(EVENT_SLOT));
        queue.post_own(EVENT_SLOT, Post::Default, &message);
        self.events_asked_ms = Some(queue.now_ms());
    }

    /// Whether the IOC has agreed to send events.
    pub(crate) const fn events_on(&self) -> bool {
        self.events_on
    }

    /// Posts port enable for port 0, which all SAS controllers have and which enables all.
    pub(crate) fn enable_port<G: Generation, R: Registers, D: DmaRegion>(
        &mut self,
        queue: &mut Queue<'_, G, R, D>,
    ) {
        // What came of an earlier one, before a reset, says nothing about this one.
        self.port_enable = None;
        let message = G::port_enable(queue.own_context(PORT_ENABLE_SLOT), 0);
        let posted = queue.post_own(PORT_ENABLE_SLOT, Post::Default, &message);
        self.port_enable_asked_ms = queue.now_ms();
        self.port_enable_underway = posted.is_some();
    }

    /// Notes that the port was enabled otherwise, by handshake.
    pub(crate) fn port_is_enabled(&mut self) {
        self.port_enable = Some(Ok(()));
        self.scan();
    }

    /// What came of port enable, once it has.
    pub(crate) const fn port_enabled(&self) -> Option<Result<(), Error>> {
        self.port_enable
    }

    /// Wants a scan of all devices.
    pub(crate) fn scan(&mut self) {
        self.scan_wanted = true;
        self.broken_scans = 0;
    }

    /// A scan, or the page of a device, ended in an answer that cannot be right: one bad answer may
    /// not cost a disk, so all devices are looked for again. Not for ever.
    #[cold]
    fn scan_again(&mut self) {
        if self.broken_scans < ATTEMPTS {
            self.broken_scans += 1;
            self.scan_wanted = true;
        }
    }

    /// Whether discovery has nothing left to do.
    pub(crate) fn settled(&self) -> bool {
        self.port_enable.is_some()
            && !self.scan_wanted
            && !self.scanning
            && self.underway.is_none()
            && self.waiting.is_empty()
            && self.acknowledgements.is_empty()
    }

    /// Takes a request for a page from the caller.
    pub(crate) fn ask_for_page(&mut self, request: PageRequest) -> Result<(), Error> {
        if !matches!(self.caller_page, CallerPage::None) {
            return Err(Error::Busy);
        }
        if !self.wait_last(Job::Page { request, purpose: Purpose::Caller, attempts: 0 }) {
            return Err(Error::Busy);
        }
        self.caller_page = CallerPage::Underway;
        Ok(())
    }

    /// Hands out the caller's page, if it has come.
    pub(crate) fn take_page<G: Generation, R: Registers, D: DmaRegion>(
        &mut self,
        queue: &Queue<'_, G, R, D>,
        page: &mut [u8],
    ) -> Option<Result<usize, Error>> {
        let taken = match self.caller_page {
            CallerPage::None | CallerPage::Underway => return None,
            CallerPage::Failed(error) => Err(error),
            CallerPage::Here(bytes) => match page.get_mut(..bytes as usize) {
                Some(part) => {
                    queue.memory.copy_out(queue.layout.page as usize, part);
                    Ok(part.len())
                }
                None => Err(Error::PageTooLong { bytes, room: page.len() as u32 }),
            },
        };
        self.caller_page = CallerPage::None;
        Some(taken)
    }

    /// Whether the page that the caller asked for has come, or will not.
    pub(crate) const fn has_page(&self) -> bool {
        matches!(self.caller_page, CallerPage::Here(_) | CallerPage::Failed(_))
    }

    /// Forgets the caller's page, whether it has come or not.
    #[inline(never)]
    pub(crate) fn abandon_page(&mut self) {
        self.caller_page = CallerPage::None;
        for job in self.waiting.iter_mut().chain(self.underway.as_mut()) {
            if let Job::Page { purpose, .. } = job
                && *purpose == Purpose::Caller
            {
                *purpose = Purpose::Nobody;
            }
        }
    }

    /// Gives up everything, as the controller is gone or about to be reset.
    #[inline(never)]
    pub(crate) fn give_up(&mut self, error: Error) {
        let had_page = matches!(self.caller_page, CallerPage::Underway);
        let port_enable = self.port_enable;
        let was_underway = self.port_enable_underway;
        *self = Self::new();
        self.port_enable = if was_underway { Some(Err(error)) } else { port_enable };
        if had_page {
            self.caller_page = CallerPage::Failed(error);
        }
    }

    fn page_later(&mut self, request: PageRequest, purpose: Purpose, attempts: u8) {
        if !self.wait_last(Job::Page { request, purpose, attempts }) {
            self.dropped(purpose);
        }
    }

    /// Asks for a page before all that waits, so that a scan is not torn.
    fn page_next(&mut self, request: PageRequest, purpose: Purpose, attempts: u8) {
        if !self.wait_first(Job::Page { request, purpose, attempts }) {
            self.dropped(purpose);
        }
    }

    /// There was no room for a request: what it would have found, another scan finds.
    fn dropped(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Scan { .. } => {
                self.scanning = false;
                self.scan_wanted = true;
            }
            Purpose::Device { .. } => self.scan_wanted = true,
            Purpose::Caller => self.caller_page = CallerPage::Failed(Error::Busy),
            Purpose::Nobody => {}
        }
    }

    /// Takes in what a drain found beside completions.
    pub(crate) fn take_in<G: Generation>(
        &mut self,
        other: &Other<'_>,
        targets: &mut Targets<'_>,
        copy_page: &dyn Fn(&mut [u8]),
    ) {
        match other {
            Other::Event { frame } => self.event::<G>(frame, targets),
            // The slot says what was asked; the reply only claims to answer it.
            Other::Reply { smid, header, frame } => match smid.wrapping_sub(FIRST_SMID) {
                PORT_ENABLE_SLOT => {
                    self.port_enable_underway = false;
                    self.port_enable = Some(check(Function::PORT_ENABLE, header));
                    self.scan();
                }
                EVENT_SLOT => {
                    self.events_asked_ms = None;
                    self.events_on = check(Function::EVENT_NOTIFICATION, header).is_ok();
                    // MPI1 answers with the first event in the same frame.
                    if self.events_on {
                        self.event::<G>(frame, targets);
                    }
                }
                slot if slot == self.slot() => {
                    // Whether a device was forgotten and what RAID firmware made of the shutdown
                    // changes nothing that could be done here.
                    if let Some(Job::Page { request, purpose, attempts }) = self.underway.take() {
                        let asked = (request, purpose, attempts);
                        self.page::<G>(header, frame, asked, targets, copy_page);
                    }
                }
                _ => {}
            },
        }
    }

    #[inline(never)]
    fn event<G: Generation>(&mut self, frame: &[u8], targets: &mut Targets<'_>) {
        let Some(event) = G::event(frame) else { return };
        if event.wants_acknowledge {
            let waits = self.acknowledgements.push_back((event.code, event.context));
            if waits.is_err() {
                warning!("no room for the acknowledgement of event {}", event.code);
            }
        }
        G::device_event(frame, &mut |news| match news {
            News::Added { handle } => {
                let purpose = Purpose::Device { handle };
                let request = PageRequest::sas_device(handle);
                self.page_later(request, purpose, 0);
            }
            News::Gone { handle } => targets.lose(handle),
            News::Rescan => self.scan_wanted = true,
        });
    }

    /// A page, or its header, or its error.
    fn page<G: Generation>(
        &mut self,
        header: &ReplyHeader,
        frame: &[u8],
        (request, purpose, attempts): (PageRequest, Purpose, u8),
        targets: &mut Targets<'_>,
        copy_page: &dyn Fn(&mut [u8]),
    ) {
        if header.function != Function::CONFIG {
            self.page_failed(bad_reply(Function::CONFIG, header), None, purpose, targets);
            return;
        }
        let code = header.status.code();
        if code != IocStatus::SUCCESS {
            let ends = code == IocStatus::CONFIG_INVALID_PAGE;
            if !ends && attempts + 1 < ATTEMPTS {
                self.page_later(request, purpose, attempts + 1);
                return;
            }
            self.page_failed(ioc_error(header), Some(code), purpose, targets);
            return;
        }
        let Some(found) = G::page_size(frame).filter(|found| found.length > 0) else {
            self.page_failed(bad_reply(Function::CONFIG, header), None, purpose, targets);
            return;
        };
        if request.step == Step::Header {
            self.page_next(request.body(found), purpose, attempts);
            return;
        }
        let is_right = |found: u16| match purpose {
            Purpose::Device { handle } => found == handle,
            // Handles come in rising order; a list that turns back would never end, nor one with
            // the handle that begins it.
            Purpose::Scan { after } => found != NO_HANDLE && (after == NO_HANDLE || found > after),
            Purpose::Caller | Purpose::Nobody => false,
        };
        match purpose {
            Purpose::Nobody => return,
            Purpose::Caller => {
                self.caller_page = CallerPage::Here(request.bytes());
                return;
            }
            Purpose::Device { .. } | Purpose::Scan { .. } => {}
        }
        let mut page = [0u8; 64];
        copy_page(&mut page);
        let length = page.len().min(request.bytes() as usize);
        let page = page.get(..length).and_then(G::device_page);
        let page = page.filter(|page| is_right(page.handle));
        if let Some(page) = page {
            targets.note(page);
        } else {
            self.scan_again();
        }
        if let Purpose::Scan { .. } = purpose {
            match page {
                Some(page) => self.scan_after(page.handle),
                None => self.scanning = false,
            }
        }
    }

    #[inline(never)]
    fn page_failed(
        &mut self,
        error: Error,
        code: Option<IocStatus>,
        purpose: Purpose,
        targets: &mut Targets<'_>,
    ) {
        match purpose {
            Purpose::Caller => self.caller_page = CallerPage::Failed(error),
            Purpose::Nobody => {}
            // The device went before its page was read.
            Purpose::Device { .. } if code == Some(IocStatus::CONFIG_INVALID_PAGE) => {}
            // Only the end of the list says that what was not seen is not there.
            Purpose::Scan { .. } if code == Some(IocStatus::CONFIG_INVALID_PAGE) => {
                self.scanning = false;
                self.broken_scans = 0;
                targets.scan_ends();
            }
            Purpose::Device { .. } => self.scan_again(),
            Purpose::Scan { .. } => {
                self.scanning = false;
                self.scan_again();
            }
        }
    }

    fn scan_after(&mut self, after: u16) {
        self.page_next(PageRequest::next_sas_device(after), Purpose::Scan { after }, 0);
    }

    const fn slot(&self) -> u16 {
        let [first, second] = SLOTS;
        if self.second_slot { second } else { first }
    }

    /// Posts the next request that waits, if none is under way.
    #[inline(never)]
    pub(crate) fn go_on<G: Generation, R: Registers, D: DmaRegion>(
        &mut self,
        queue: &mut Queue<'_, G, R, D>,
        targets: &mut Targets<'_>,
    ) {
        // A controller that is to be reset is asked nothing; discovery begins anew after it.
        if !queue.is_live() {
            return;
        }
        // One turn for each request that may fail without being posted, and one that posts.
        for _ in 0..=WAITING {
            if self.underway.is_some() {
                return;
            }
            if let Some((code, context)) = self.acknowledgements.pop_front() {
                self.start(Job::EventAcknowledge { code, context }, queue, targets);
                continue;
            }
            if matches!(self.caller_page, CallerPage::Here(_)) {
                return;
            }
            if self.scan_wanted && !self.scanning && self.waiting.is_empty() {
                self.scan_wanted = false;
                self.scanning = true;
                targets.scan_begins();
                self.scan_after(NO_HANDLE);
            }
            let Some(job) = self.waiting.pop_front() else { return };
            self.start(job, queue, targets);
        }
    }

    #[inline(never)]
    fn start<G: Generation, R: Registers, D: DmaRegion>(
        &mut self,
        job: Job,
        queue: &mut Queue<'_, G, R, D>,
        targets: &mut Targets<'_>,
    ) {
        if let Job::Page { request, purpose, .. } = job
            && request.bytes() > queue.layout.page_bytes
        {
            let (bytes, room) = (request.bytes(), queue.layout.page_bytes);
            self.page_failed(Error::PageTooLong { bytes, room }, None, purpose, targets);
            return;
        }
        let buffer = queue.memory.bus(queue.layout.page as usize);
        self.second_slot = !self.second_slot;
        let slot = self.slot();
        let context = queue.own_context(slot);
        let message = match &job {
            Job::EventAcknowledge { code, context: event } => G::event_ack(context, *code, *event),
            Job::Page { request, .. } => G::config(context, request, buffer),
            // A generation that has no such request has nothing to be told.
            Job::Remove { handle } => match G::remove_device(context, *handle) {
                Some(message) => message,
                None => return,
            },
            Job::RaidShutdown => match G::raid_shutdown(context) {
                Some(message) => message,
                None => return,
            },
        };
        let posted = queue.post_own(slot, Post::Default, &message);
        // Only a closed queue refuses, and then `give_up` has cleared or will clear the rest.
        if posted.is_some() {
            self.underway = Some(job);
            self.underway_ms = queue.now_ms();
        }
    }
}

fn bad_reply(function: Function, header: &ReplyHeader) -> Error {
    Error::BadReply { function, claimed: header.function, bytes: header.length }
}

#[inline(never)]
fn check(function: Function, header: &ReplyHeader) -> Result<(), Error> {
    if header.function != function {
        return Err(bad_reply(function, header));
    }
    if header.status.code() == IocStatus::SUCCESS { Ok(()) } else { Err(ioc_error(header)) }
}

fn ioc_error(header: &ReplyHeader) -> Error {
    let log_info = if header.status.log_info_available() { header.log_info } else { LogInfo(0) };
    Error::Ioc { function: header.function, status: header.status.code(), log_info }
}
