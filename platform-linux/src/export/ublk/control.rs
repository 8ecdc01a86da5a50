//! Making, starting, stopping, resizing and recovering devices: commands to `/dev/ublk-control`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::abi::{ControlCommand, ControlOperation, DeviceInfo, Features, Parameters};
use crate::error::Error;

/// Where the kernel takes them.
const PATH: &str = "/dev/ublk-control";

/// Commands about devices. Most of them wait, so they are for a thread that serves none.
pub struct Control {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    file: File,
    features: Features,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({:?})", self.features)
    }
}

impl Control {
    /// Opens the kernel's side.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what to do: no `ublk_drv`, no permission, a kernel that is too old or
    /// has no io_uring to offer.
    pub fn open() -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(PATH).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => {
                    "load the driver with `modprobe ublk_drv` (Linux 6.5 or later, with CONFIG_BLK_DEV_UBLK), or export by NBD: --attach makes /dev/nbdN, --nbd serves a socket"
                }
                io::ErrorKind::PermissionDenied => {
                    "block devices are made by root: use sudo, or export by --nbd"
                }
                _ => "see `dmesg`, or export by --nbd",
            };
            Error::failed(format!("cannot open {PATH}: {error}; {remedy}"))
        })?;
        let ring = IoUring::builder().build(4).map_err(|error| no_ring(&error))?;
        let mut control = Self { ring, file, features: Features::empty() };
        let mut features = 0u64;
        control
            .about(ControlOperation::GetFeatures, u32::MAX, &mut features)
            .map_err(|error| {
                Error::failed(if error.raw_os_error() == Some(1) {
                    "cannot ask ublk what it can do: not permitted; block devices are made by root: use sudo, or export by --nbd".to_owned()
                } else {
                    format!(
                        "cannot ask ublk what it can do: {error}; it takes Linux 6.5 or later, export by --nbd instead"
                    )
                })
            })?;
        control.features = Features::from_bits_retain(features);
        Ok(control)
    }

    /// What this kernel can.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Makes a device, which is nothing yet but `/dev/ublkcN`. The kernel may grant fewer queues.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the kernel said.
    pub fn add(&mut self, wanted: &DeviceInfo) -> Result<DeviceInfo, Error> {
        let mut info = *wanted;
        self.about(ControlOperation::Add, wanted.device, &mut info).map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(12) => "there is not enough memory; take a smaller --depth or fewer --queues",
                Some(1 | 13) => "block devices are made by root: use sudo, or export by --nbd",
                Some(17) => "that number is taken; try again",
                _ => "see `dmesg`, or export by --nbd",
            };
            Error::failed(format!("cannot make a block device by ublk: {error}; {remedy}"))
        })?;
        Ok(info)
    }

    /// Says what a device is, before it is started.
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn set_parameters(&mut self, device: u32, parameters: &Parameters) -> Result<(), Error> {
        let mut parameters = *parameters;
        let done = self.about(ControlOperation::SetParameters, device, &mut parameters);
        done.map_err(|error| explain("say what it is", device, &error))
    }

    /// Starts a device: `/dev/ublkbN` appears, and the kernel reads its partition table. Every tag
    /// must be fetched, or this waits for it, so servers have to be at work.
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn start(&mut self, device: u32) -> Result<(), Error> {
        let server = u64::from(std::process::id());
        self.plain(ControlOperation::Start, device, server)
            .map_err(|error| explain("start it", device, &error))
    }

    /// Stops a device: what is under way ends, `/dev/ublkbN` goes, and its servers are told on every
    /// tag. They have to be at work.
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn stop(&mut self, device: u32) -> Result<(), Error> {
        self.plain(ControlOperation::Stop, device, 0)
            .map_err(|error| explain("stop it", device, &error))
    }

    /// Deletes a device. Its number is free when nobody has it open any more, a file system that was
    /// mounted there included; kernels before 6.9 can only wait for that.
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn delete(&mut self, device: u32) -> Result<(), Error> {
        let deleted = self.plain(ControlOperation::DeleteLater, device, 0);
        let deleted = match deleted {
            // EINVAL, EOPNOTSUPP.
            Err(error) if matches!(error.raw_os_error(), Some(22 | 95)) => {
                self.plain(ControlOperation::Delete, device, 0)
            }
            other => other,
        };
        deleted.map_err(|error| explain("delete it", device, &error))
    }

    /// What the kernel knows of a device; `None` if there is none of that number.
    #[must_use]
    pub fn info(&mut self, device: u32) -> Option<DeviceInfo> {
        let mut info = DeviceInfo { device, ..DeviceInfo::default() };
        self.about(ControlOperation::GetInfo, device, &mut info).ok().map(|()| info)
    }

    /// Takes over a device whose server is gone. `false` if the kernel has not done with that one yet.
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn start_recovery(&mut self, device: u32) -> Result<bool, Error> {
        match self.plain(ControlOperation::StartRecovery, device, 0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) => Err(explain("take it over", device, &error)),
        }
    }

    /// Goes on with it, as [`Control::start`].
    ///
    /// # Errors
    ///
    /// As [`Control::add`].
    pub fn end_recovery(&mut self, device: u32) -> Result<(), Error> {
        let server = u64::from(std::process::id());
        self.plain(ControlOperation::EndRecovery, device, server)
            .map_err(|error| explain("go on with it", device, &error))
    }

    /// Says how large a device is now, in sectors of 512 bytes.
    ///
    /// # Errors
    ///
    /// As [`Control::add`]; so, too, where the kernel has no [`Features::UPDATE_SIZE`].
    pub fn update_size(&mut self, device: u32, sectors: u64) -> Result<(), Error> {
        self.plain(ControlOperation::UpdateSize, device, sectors)
            .map_err(|error| explain("say its new size", device, &error))
    }

    /// Opens the file by which a device is served.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it cannot be opened, which takes a moment where a daemon makes it.
    pub fn open_device(device: u32) -> Result<File, Error> {
        let path = PathBuf::from(format!("/dev/ublkc{device}"));
        let mut tries = 0;
        loop {
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 200 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(error) => return Err(Error::file("open", &path, &error)),
            }
        }
    }

    fn plain(&mut self, operation: ControlOperation, device: u32, data: u64) -> io::Result<()> {
        self.send(operation, ControlCommand { device, data, ..NOTHING })
    }

    /// A command about a buffer.
    fn about<T>(
        &mut self,
        operation: ControlOperation,
        device: u32,
        buffer: &mut T,
    ) -> io::Result<()> {
        let address = std::ptr::from_mut(buffer) as u64;
        let length = size_of::<T>() as u16;
        self.send(operation, ControlCommand { device, length, address, ..NOTHING })
    }

    fn send(&mut self, operation: ControlOperation, command: ControlCommand) -> io::Result<()> {
        let file = types::Fd(self.file.as_raw_fd());
        let entry = opcode::UringCmd80::new(file, operation as u32).cmd(bytes_of(&command)).build();
        let mut queue = self.ring.submission();
        // SAFETY: the buffer that the command names outlives it: this waits for its end, and the
        // kernel has its own copy of the command.
        unsafe { queue.push(&entry) }.map_err(|_| io::Error::other("the control ring is full"))?;
        drop(queue);
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EAGAIN, EBUSY: it passes, and to go now would leave the buffer to the kernel.
                Err(error) if matches!(error.raw_os_error(), Some(11 | 16)) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
            if let Some(done) = self.ring.completion().next() {
                return match done.result() {
                    0.. => Ok(()),
                    negative => Err(io::Error::from_raw_os_error(-negative)),
                };
            }
        }
    }
}

const NOTHING: ControlCommand = ControlCommand {
    device: 0,
    queue: u16::MAX,
    length: 0,
    address: 0,
    data: 0,
    path_length: 0,
    pad: 0,
    reserved: 0,
};

fn bytes_of(command: &ControlCommand) -> [u8; 80] {
    let mut bytes = [0; 80];
    let fields: [(usize, &[u8]); 6] = [
        (0, &command.device.to_ne_bytes()),
        (4, &command.queue.to_ne_bytes()),
        (6, &command.length.to_ne_bytes()),
        (8, &command.address.to_ne_bytes()),
        (16, &command.data.to_ne_bytes()),
        (24, &command.path_length.to_ne_bytes()),
    ];
    for (at, field) in fields {
        for (to, from) in bytes.iter_mut().skip(at).zip(field) {
            *to = *from;
        }
    }
    bytes
}

/// Why there is no io_uring.
pub(super) fn no_ring(error: &io::Error) -> Error {
    let remedy = match error.raw_os_error() {
        Some(1) => "it may be forbidden: set kernel.io_uring_disabled to 0 with sysctl",
        Some(38) => "this kernel has none",
        Some(12) => "there is not enough memory, or ulimit -l is too small",
        _ => "see `dmesg`",
    };
    Error::failed(format!("cannot make an io_uring: {error}; {remedy}, or export by --nbd"))
}

fn explain(doing: &str, device: u32, error: &io::Error) -> Error {
    Error::failed(format!(
        "cannot {doing}, /dev/ublkb{device}: {error}; see `dmesg`, or export by --nbd"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_command_has_its_fields_where_the_kernel_looks() {
        let bytes = bytes_of(&ControlCommand { device: 5, data: 9, length: 64, ..NOTHING });
        assert_eq!(bytes[0..4], 5u32.to_ne_bytes());
        assert_eq!(bytes[4..6], [0xff, 0xff]);
        assert_eq!(bytes[6..8], 64u16.to_ne_bytes());
        assert_eq!(bytes[16..24], 9u64.to_ne_bytes());
        assert!(bytes[24..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_machine_without_ublk_is_told_what_to_do() {
        // Where there is one, it opens, or only root may.
        if let Err(error) = Control::open() {
            let sentence = error.to_string();
            assert!(sentence.contains("--nbd"), "{sentence}");
        }
    }
}
