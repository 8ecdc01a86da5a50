//! The QEMU process: started with what it inherits, watched until it ends, and never outliving us.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::memory::GuestMemory;
use super::{QtestOptions, command_line};
use crate::bus::BusError;

/// How much of QEMU's error output is kept: the end of it, where the cause is.
const KEPT_BYTES: usize = 4096;

/// How long a process whose connection broke may take to end before the wait for its last words is
/// given up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A QEMU process and the thread that keeps it.
///
/// The thread starts QEMU and lives as long as it does. It has to be one thread: on Linux the
/// kernel kills QEMU when the *thread* that started it ends, which for a caller's thread may be
/// long before the [`Qtest`](super::Qtest) is dropped.
pub(super) struct Process {
    kept: Arc<Kept>,
    id: u32,
    keeper: Option<JoinHandle<()>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.id)
    }
}

#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    said: Vec<u8>,
    status: Option<ExitStatus>,
    killed: bool,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        // No statement leaves the state half changed: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts QEMU with `memory` and gives the connection to its qtest server.
    pub(super) fn start(
        options: &QtestOptions,
        memory: &Arc<GuestMemory>,
    ) -> Result<(Self, UnixStream), BusError> {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| BusError(format!("cannot make a socket pair for QEMU: {error}")))?;
        let arguments = command_line::arguments(
            options,
            &memory.backing().path(),
            memory.machine_bytes(),
            theirs.as_raw_fd(),
        );
        let mut command = Command::new(&options.program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A terminal's Ctrl-C goes to the whole foreground group. It is for us to act on: QEMU must
        // live until what was written has been flushed.
        command.process_group(0);

        let kept = Arc::new(Kept::default());
        let (started, starting) = mpsc::channel();
        let keeper = {
            let (kept, memory) = (Arc::clone(&kept), Arc::clone(memory));
            let thread = thread::Builder::new().name("qemu-keeper".to_owned());
            thread.spawn(move || keep(command, theirs.into(), &memory, &kept, &started))
        };
        let keeper = keeper
            .map_err(|error| BusError(format!("cannot start a thread to keep QEMU: {error}")))?;
        match starting.recv() {
            Ok(Ok(id)) => Ok((Self { kept, id, keeper: Some(keeper) }, ours)),
            Ok(Err(error)) => Err(cannot_start(options, &error)),
            Err(mpsc::RecvError) => {
                Err(BusError("the thread that keeps QEMU ended before it started QEMU".to_owned()))
            }
        }
    }

    /// The process id.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Ends the process; returns at once, and does nothing when it has already ended.
    pub(super) fn kill(&self) {
        let mut state = self.kept.state();
        state.killed = true;
        if let Some(child) = &mut state.child {
            // It fails only for a process that has ended, which is what is wanted.
            let _ = child.kill();
        }
    }

    /// How the process ended, with its last words; `None` while it runs. With `wait`, a process
    /// that is about to end is given the time to.
    pub(super) fn end(&self, wait: bool) -> Option<BusError> {
        let mut state = self.kept.state();
        if wait {
            let running = |state: &mut State| state.status.is_none();
            state = match self.kept.ended.wait_timeout_while(state, LAST_WORDS, running) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let status = state.status?;
        Some(BusError(if state.killed {
            format!("QEMU (process {}) was ended on request; start it again", self.id)
        } else {
            last_words(self.id, status, &String::from_utf8_lossy(&state.said))
        }))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(keeper) = self.keeper.take() {
            // A panic in the keeper has been reported by the panic itself.
            let _ = keeper.join();
        }
    }
}

/// The sentence for a QEMU that ended by itself or by somebody else's hand.
fn last_words(id: u32, status: ExitStatus, said: &str) -> String {
    let said = said.trim();
    let advice = if said.contains("'mptsas1068' is not a valid device model name") {
        "this QEMU is older than 2.6 or was built without the mptsas1068 controller; \
         install the full one (Debian: apt-get install qemu-system-x86)"
    } else if said.contains("invalid option") || said.contains("Invalid parameter") {
        "this QEMU may be too old; 7.2 is known to do"
    } else {
        "start it again"
    };
    if said.is_empty() {
        format!("QEMU (process {id}) ended with {status} and said nothing; {advice}")
    } else {
        format!("QEMU (process {id}) ended with {status} and said '{said}'; {advice}")
    }
}

/// The sentence for a program that could not be started at all.
fn cannot_start(options: &QtestOptions, error: &io::Error) -> BusError {
    let program = options.program.display();
    BusError(if error.kind() == ErrorKind::NotFound {
        format!(
            "cannot find QEMU ({program}); install it (Debian: apt-get install qemu-system-x86; \
             elsewhere: the distribution's or Homebrew's package of QEMU for x86)"
        )
    } else {
        format!("cannot start QEMU ({program}): {error}; check that it is a program you may run")
    })
}

/// The keeper: starts QEMU, listens to its error output, and waits for its end.
fn keep(
    mut command: Command,
    socket: OwnedFd,
    memory: &GuestMemory,
    kept: &Kept,
    started: &mpsc::Sender<io::Result<u32>>,
) {
    inherit(&mut command, &[socket.as_raw_fd(), memory.backing().file.as_raw_fd()]);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // The receiver waits for this and nothing else.
            let _ = started.send(Err(error));
            return;
        }
    };
    // QEMU has its own: the end of file on the other end must mean that QEMU ended.
    drop(socket);
    #[cfg(not(target_os = "linux"))]
    let _watchdog = watchdog::Watchdog::start(child.id());
    let id = child.id();
    let said = child.stderr.take();
    kept.state().child = Some(child);
    let _ = started.send(Ok(id));
    if let Some(said) = said {
        listen(said, kept);
    }
    loop {
        let mut state = kept.state();
        // The error output has ended, so QEMU has, or is about to: this turns only a few times.
        // The lock is not held over a wait, so that `kill` always gets through.
        let ended = match state.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => Some(status),
            Some(Ok(None)) => None,
            Some(Err(_)) | None => Some(ExitStatus::default()),
        };
        if ended.is_some() {
            state.status = ended;
            state.child = None;
            kept.ended.notify_all();
            return;
        }
        drop(state);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Keeps the end of what QEMU says until it says no more.
fn listen(mut output: ChildStderr, kept: &Kept) {
    let mut buffer = [0; 512];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => {
                let said = &mut kept.state().said;
                said.extend_from_slice(&buffer[..bytes]);
                let excess = said.len().saturating_sub(KEPT_BYTES);
                said.drain(..excess);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Lets the process inherit `descriptors`, and has the kernel kill it with the calling thread
/// where the kernel does that.
fn inherit(command: &mut Command, descriptors: &[RawFd; 2]) {
    let descriptors = *descriptors;
    #[cfg(target_os = "linux")]
    let parent = rustix::process::getpid();
    let prepare = move || {
        for descriptor in descriptors {
            // SAFETY: both descriptors are open in the keeper until after `spawn`, so they are in
            // the child, which is where this runs.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Signal, getppid, set_parent_process_death_signal};
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that died before the request took effect would never be noticed.
            if getppid() != Some(parent) {
                return Err(io::Error::from(ErrorKind::BrokenPipe));
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, all of them async-signal-safe;
    // nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(prepare) };
}

/// A shell that kills QEMU when this process is gone, for kernels that have no word for it.
#[cfg(any(test, not(target_os = "linux")))]
mod watchdog {
    use std::process::{Child, Command, Stdio};

    /// Waits for the end of its standard input, which this process holds open.
    #[derive(Debug)]
    pub(super) struct Watchdog(Child);

    impl Watchdog {
        /// Watches over process `id`; `None` where there is no shell.
        pub(super) fn start(id: u32) -> Option<Self> {
            command(id).spawn().ok().map(Self)
        }
    }

    /// The shell.
    pub(super) fn command(id: u32) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r _; kill -9 \"$0\"", &id.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    impl Drop for Watchdog {
        /// QEMU has ended: its id may soon be another's, so the shell must not act on it.
        fn drop(&mut self) {
            // Killed before its input closes; it fails only for a shell that has ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_qemu_without_the_controller_is_told_apart() {
        let said = "qemu-system-x86_64: -device mptsas1068: 'mptsas1068' is not a valid device model name\n";
        let sentence = last_words(7, ExitStatus::from_raw(256), said);
        assert!(sentence.contains("apt-get install qemu-system-x86"), "{sentence}");
        let sentence = last_words(7, ExitStatus::from_raw(9), "");
        assert!(sentence.contains("signal: 9"), "{sentence}");
        assert!(sentence.contains("said nothing"), "{sentence}");
    }

    #[test]
    fn the_watchdog_kills_when_its_input_ends_and_not_before() {
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        drop(watchdog::Watchdog::start(victim.id()).unwrap());
        assert_eq!(victim.try_wait().unwrap(), None);

        let mut shell = watchdog::command(victim.id()).spawn().unwrap();
        drop(shell.stdin.take());
        assert_eq!(victim.wait().unwrap().signal(), Some(9));
        shell.wait().unwrap();
    }
}
