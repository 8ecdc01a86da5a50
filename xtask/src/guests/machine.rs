//! One running guest: QEMU, the agent in it, and its console.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::debian;
use crate::guests::agent::{Agent, Job, Output};
use crate::guests::console::Console;
use crate::guests::images::Image;
use crate::guests::qemu::Qemu;
use crate::guests::socket_folder::SocketFolder;

/// From the start of QEMU to the agent's first word, on a machine that does more than this.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// How much longer than a command's own limit its answer may take: the guest ends it in time, if
/// it still can.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// The mitigations cost a translated guest a lot and protect nothing here. On a host that does
/// something else as well, the kernel takes a wait for a stall after 20 s.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 oops=panic log_buf_len=4M rdinit=/init \
     mitigations=off nokaslr audit=0 tsc=reliable rcupdate.rcu_cpu_stall_timeout=90";

/// How much of the console's end is shown when a guest fails.
const SHOWN_LINES: usize = 40;

/// Between two looks at something that takes a while.
const POLL: Duration = Duration::from_millis(20);

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's translation, which runs anywhere.
    Tcg,
}

impl Accelerator {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// What a guest is to be like.
#[derive(Clone, Debug)]
pub(crate) struct MachineOptions {
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// Further words for QEMU's command line: the devices.
    pub(crate) devices: Vec<String>,
    /// Further words for the kernel's.
    pub(crate) kernel_arguments: String,
    pub(crate) accelerator: Accelerator,
    /// How long its agent may take to be ready.
    pub(crate) boot_limit: Duration,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            memory_mib: 512,
            cpus: 2,
            devices: Vec::new(),
            kernel_arguments: String::new(),
            accelerator: Accelerator::Tcg,
            boot_limit: BOOT_LIMIT,
        }
    }
}

/// A guest that runs. Dropping it ends it at once, as a power cut would.
pub(crate) struct Machine {
    qemu: Child,
    agent: Agent,
    console: Console,
    /// Holds `console.log`, `qemu.log` and `commands.log`.
    logs: PathBuf,
    commands: CommandLog,
    sockets: SocketFolder,
    booted_in: Duration,
    marks: u32,
}

impl Machine {
    /// Boots a kernel and waits for its agent. Logs go to the folder `logs`.
    pub(crate) fn boot(
        qemu: &Qemu,
        image: &Image,
        options: &MachineOptions,
        logs: &Path,
    ) -> Result<Self, String> {
        fs::create_dir_all(logs).map_err(|error| format!("making {}: {error}", logs.display()))?;
        let sockets = SocketFolder::new()?;
        let console = logs.join("console.log");
        let qemu_log = logs.join("qemu.log");
        let mut command =
            tied_to_us(&command(qemu, image, options, &sockets.join("agent"), &console));
        let log = File::create(&qemu_log)
            .map_err(|error| format!("creating {}: {error}", qemu_log.display()))?;
        let also = log
            .try_clone()
            .map_err(|error| format!("opening {} twice: {error}", qemu_log.display()))?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("starting QEMU: {error}"))?;
        let ends = started + options.boot_limit;
        let mut booting = Booting { child: Some(child), ends, logs: logs.to_owned() };
        let stream = booting.connect(&sockets.join("agent"))?;
        let mut agent = Agent::new(stream)?;
        let mut console = Console::new(console);
        loop {
            if agent.greeting().map_err(|error| booting.failed(&error))?.is_some() {
                break;
            }
            booting.check()?;
            if let Some(trouble) = console.trouble() {
                return Err(booting.failed(&format!("the guest said: {trouble}")));
            }
        }
        let mut machine = Self {
            qemu: booting.child.take().expect("it has not been taken"),
            agent,
            console,
            logs: logs.to_owned(),
            commands: CommandLog(File::create(logs.join("commands.log")).ok()),
            sockets,
            booted_in: started.elapsed(),
            marks: 0,
        };
        if let Some(time) = machine.processor_time() {
            machine.booted_in = machine.booted_in.min(time);
        }
        Ok(machine)
    }

    /// From the start of QEMU to the agent's first word. Where other programs take the
    /// processors away this is no measure, and it is the processors' time if that is less.
    pub(crate) const fn booted_in(&self) -> Duration {
        self.booted_in
    }

    /// Runs a shell script and waits for its end. An error means that the guest did not answer or
    /// is broken; a script that fails, or is killed after `limit`, is an [`Output`].
    pub(crate) fn run(&mut self, script: &str, limit: Duration) -> Result<Output, String> {
        let started = Instant::now();
        let job = self.start(script, limit)?;
        let finished = self.finish(job);
        let ending = match &finished {
            Ok(output) => format!("status {}\n{}", output.status, output.text.trim_end()),
            Err(_) => "no answer".to_owned(),
        };
        let seconds = started.elapsed().as_secs_f64();
        self.commands.write(&format!("$ {}\n{seconds:.2} s, {ending}\n", script.trim()));
        finished.map_err(|error| format!("running `{}`: {error}", script.trim()))
    }

    /// Runs a shell script that has to succeed, and gives what it printed.
    pub(crate) fn check(&mut self, script: &str, limit: Duration) -> Result<String, String> {
        let output = self.run(script, limit)?;
        expect_success(script, output)
    }

    /// Starts a shell script and comes back at once; [`Machine::finish`] waits for it.
    pub(crate) fn start(&mut self, script: &str, limit: Duration) -> Result<Job, String> {
        self.agent.start(script, limit)
    }

    /// Waits for the end of a script.
    pub(crate) fn finish(&mut self, job: Job) -> Result<Output, String> {
        self.finish_by(job, job.ends() + ANSWER_GRACE)
    }

    /// Waits for the end of a script that has to end within `limit` from now.
    pub(crate) fn finish_within(&mut self, job: Job, limit: Duration) -> Result<Output, String> {
        self.finish_by(job, Instant::now() + limit)
    }

    fn finish_by(&mut self, job: Job, ends: Instant) -> Result<Output, String> {
        loop {
            match self.agent.look(job) {
                Ok(Some(output)) => return Ok(output),
                Ok(None) => {}
                Err(error) => return Err(self.with_console(&error)),
            }
            self.healthy()?;
            if Instant::now() > ends {
                return Err(self.with_console("the guest did not answer in time"));
            }
        }
    }

    /// Runs a shell script and gives what it prints to `tell` as it comes; its exit status.
    pub(crate) fn follow(
        &mut self,
        script: &str,
        limit: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<u32, String> {
        const OUTPUT: &str = "/run/followed";
        const LOOK: Duration = Duration::from_millis(300);
        const LOOK_LIMIT: Duration = Duration::from_secs(20);
        let job = self.start(&format!("exec >{OUTPUT} 2>&1\n{script}"), limit)?;
        let ends = job.ends() + ANSWER_GRACE;
        let mut told = 0;
        loop {
            let ended = self.agent.look(job).map_err(|error| self.with_console(&error))?;
            self.healthy()?;
            let rest = format!("tail -c +{} {OUTPUT} 2>/dev/null", told + 1);
            let more = self.start(&rest, LOOK_LIMIT)?;
            let more = self.finish(more)?.text;
            told += more.len();
            tell(&more);
            if let Some(output) = ended {
                return Ok(output.status);
            }
            if Instant::now() > ends {
                return Err(self.with_console("the guest did not answer in time"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// An error if the kernel has said something that no case expects: a crash, a lock-up.
    pub(crate) fn healthy(&mut self) -> Result<(), String> {
        match self.console.trouble() {
            Some(trouble) => Err(self.with_console(&format!("the guest said: {trouble}"))),
            None => Ok(()),
        }
    }

    /// Puts a mark into the kernel's log, for [`Machine::log_since`].
    pub(crate) fn mark(&mut self, what: &str) -> Result<Mark, String> {
        self.marks += 1;
        // Within quotes a quote would end them, and dmesg escapes what is not ASCII.
        let what = what.replace(|letter: char| !letter.is_ascii_alphanumeric(), " ");
        let text = format!("xtask {}: {what}", self.marks);
        let script = format!("echo '<6>{text}' >/dev/kmsg");
        self.check(&script, Duration::from_secs(20))?;
        Ok(Mark(text))
    }

    /// The kernel's log since a mark, each line with its level as `<N>` in front.
    pub(crate) fn log_since(&mut self, mark: &Mark) -> Result<String, String> {
        let log = self.check("dmesg --raw", Duration::from_secs(20))?;
        let Some((_, since)) = log.split_once(&mark.0) else {
            return Err(format!("the kernel's log no longer holds the mark {:?}", mark.0));
        };
        Ok(since.trim_start_matches('\n').to_owned())
    }

    /// Waits until a script succeeds, which it is run for again and again.
    pub(crate) fn wait_until(&mut self, script: &str, limit: Duration) -> Result<String, String> {
        let loops = format!(
            "until output=$({{ {script}\n}} 2>&1); do sleep 0.2; done; printf '%s\\n' \"$output\""
        );
        let output = self.run(&loops, limit)?;
        if output.status == 0 {
            return Ok(output.text);
        }
        let last = self.run(script, Duration::from_secs(20))?;
        Err(format!(
            "`{}` did not come true in {:.0} s; it says:\n{}",
            script.trim(),
            limit.as_secs_f64(),
            last.text.trim_end()
        ))
    }

    /// Restarts the guest as its own kernel does it, the devices keeping their power, and waits
    /// for the agent again.
    pub(crate) fn reboot(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let _ = self.start("reboot -f", BOOT_LIMIT)?;
        loop {
            match self.agent.greeting() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                Err(error) => return Err(self.with_console(&error)),
            }
            self.healthy()?;
            if started.elapsed() > BOOT_LIMIT {
                return Err(self.with_console("the guest did not come back from a reboot in time"));
            }
        }
    }

    /// Ends the guest at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// Time that QEMU has spent on processors, in all its threads.
    fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).ok()?;
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th
        // fields after it, in ticks of which there are always 100 in a second.
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
        Some(Duration::from_millis(ticks.sum::<Option<u64>>()? * 10))
    }

    fn with_console(&self, error: &str) -> String {
        with_logs(error, &self.logs)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        self.sockets.remove();
    }
}

/// Every command with its output, for a person who looks for a fault.
struct CommandLog(Option<File>);

impl CommandLog {
    fn write(&mut self, text: &str) {
        if let Some(file) = &mut self.0 {
            // A log that cannot be written is no reason to fail a test.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// The same command, but ended by the kernel when the thread that starts it ends, however that
/// comes about: an xtask that is killed leaves no guest behind.
pub(crate) fn tied_to_us(command: &Command) -> Command {
    let Some(setpriv) = debian::find("setpriv") else {
        return with_rest(Command::new(command.get_program()), command);
    };
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
    with_rest(tied, command)
}

/// Arguments and environment; the rest is set after this.
fn with_rest(mut to: Command, from: &Command) -> Command {
    to.args(from.get_args());
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    to
}

/// A place in the kernel's log.
#[derive(Clone, Debug)]
pub(crate) struct Mark(String);

/// What a script printed, if it succeeded.
pub(crate) fn expect_success(script: &str, output: Output) -> Result<String, String> {
    if output.status == 0 {
        return Ok(output.text);
    }
    let ending = match output.status {
        137 => "was killed because its time was up".to_owned(),
        status => format!("ended with exit status {status}"),
    };
    Err(format!("`{}` {ending}:\n{}", script.trim(), output.text.trim_end()))
}

fn command(
    qemu: &Qemu,
    image: &Image,
    options: &MachineOptions,
    agent: &Path,
    console: &Path,
) -> Command {
    let memory = options.memory_mib;
    let mut command = qemu.command();
    command
        .args(["-machine", "q35,memory-backend=memory,hpet=off"])
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={memory}M,share=on")])
        .args(["-m", &memory.to_string()])
        .args(["-smp", &options.cpus.to_string()])
        .args(options.accelerator.arguments())
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", escaped(console)))
        .args(["-device", "virtio-serial-pci"])
        .arg("-chardev")
        .arg(format!("socket,id=agent,path={},server=on,wait=off", escaped(agent)))
        .args(["-device", "virtserialport,chardev=agent,name=agent"])
        .args(["-device", "pvpanic-pci"])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initramfs)
        .arg("-append")
        .arg(format!("{KERNEL_ARGUMENTS} {}", options.kernel_arguments))
        .args(&options.devices);
    command
}

/// A path as a value in an option of QEMU, where a comma would end it.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A guest before its agent has spoken; ends it unless it is taken.
struct Booting {
    child: Option<Child>,
    ends: Instant,
    logs: PathBuf,
}

impl Booting {
    fn connect(&mut self, socket: &Path) -> Result<UnixStream, String> {
        loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(stream);
            }
            self.check()?;
            std::thread::sleep(POLL);
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let child = self.child.as_mut().expect("it has not been taken");
        let ended = child.try_wait().map_err(|error| format!("waiting for QEMU: {error}"))?;
        if let Some(status) = ended {
            return Err(self.failed(&format!("QEMU ended with {status} before the guest was up")));
        }
        if Instant::now() > self.ends {
            return Err(self.failed("the guest's agent was not ready in time"));
        }
        Ok(())
    }

    fn failed(&self, error: &str) -> String {
        with_logs(error, &self.logs)
    }
}

impl Drop for Booting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An error with the end of the console, and all that QEMU has said.
fn with_logs(error: &str, logs: &Path) -> String {
    let mut text = error.to_owned();
    for name in ["qemu.log", "console.log"] {
        let path = logs.join(name);
        let content = fs::read(&path).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        let lines: Vec<&str> = content.trim_end().lines().collect();
        if !lines.is_empty() {
            text.push_str(&format!("\nthe end of {}:", path.display()));
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
                text.push_str("\n    ");
                text.push_str(line);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_tied_to_a_thread_ends_with_it() {
        if debian::find("setpriv").is_none() {
            return;
        }
        let started = std::thread::spawn(|| {
            let mut sleep = Command::new("sleep");
            let child = tied_to_us(sleep.arg("60")).spawn().expect("sleep starts");
            // Until setpriv has done its work, nothing is tied.
            std::thread::sleep(Duration::from_millis(500));
            child
        });
        let mut child = started.join().expect("no panic");
        let ends = Instant::now() + Duration::from_secs(20);
        let ended = loop {
            if child.try_wait().expect("a child").is_some() {
                break true;
            }
            if Instant::now() > ends {
                let _ = child.kill();
                break false;
            }
            std::thread::sleep(POLL);
        };
        let _ = child.wait();
        assert!(ended, "it outlived the thread");
    }
}
