//! What a client may ask, and what it is told: the server's side of vfio-user.
//!
//! The crate `vfio_user` has a server too, whose trait [`ServerBackend`] this one drives. But that
//! one believes its client: it sets aside whatever size a message names, panics over a version
//! that does not end in a NUL, and after a refusal reads the refused message's body as the next
//! message. In a program that aborts when it panics, any local client could end it. This one
//! takes each message whole before it looks at it, within bounds.

use std::io;

use serde_json::{Value, json};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_SET_DATA_BOOL, vfio_region_info,
};
use vfio_user::{Command, DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend};

use super::message::{End, MOST_DATA, Message, Stream};

/// What a device has.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) regions: Vec<vfio_region_info>,
    pub(crate) interrupts: Vec<IrqInfo>,
}

/// The major version of the protocol; there is no other yet.
const MAJOR: u16 = 0;
/// The minor version of what is served here.
const MINOR: u16 = 0;

/// Serves one client until it leaves, is lost, or the server is to stop.
pub(crate) fn serve(
    device: &Device,
    stream: &mut Stream<'_>,
    backend: &mut dyn ServerBackend,
) -> End {
    match talk(device, stream, backend) {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

fn talk(
    device: &Device,
    stream: &mut Stream<'_>,
    backend: &mut dyn ServerBackend,
) -> Result<std::convert::Infallible, End> {
    let first = stream.next()?;
    if first.command != Command::Version as u16 || !first.wants_reply {
        // Not refused: what is no vfio-user understands no refusal either.
        return Err(End::Lost(format!(
            "its first message was command {}, where a version belongs",
            first.command
        )));
    }
    match version(&first) {
        Ok(body) => stream.reply(&first, &body)?,
        Err(why) => {
            stream.refuse(&first, libc::EINVAL)?;
            return Err(End::Lost(why));
        }
    }
    loop {
        let mut message = stream.next()?;
        match handle(device, &mut message, backend) {
            Ok(body) => stream.reply(&message, &body)?,
            Err(error) => stream.refuse(&message, number(&error))?,
        }
    }
}

/// The system's number for an error.
fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::InvalidInput => libc::EINVAL,
        io::ErrorKind::Unsupported => libc::ENOTSUP,
        io::ErrorKind::OutOfMemory => libc::ENOMEM,
        _ => libc::EIO,
    })
}

/// Agrees on a version; the answer's body.
fn version(message: &Message) -> Result<Vec<u8>, String> {
    let [m0, m1, _, _, text @ ..] = message.body.as_slice() else {
        return Err("its version had no numbers".into());
    };
    let major = u16::from_le_bytes([*m0, *m1]);
    if major != MAJOR {
        return Err(format!("it speaks version {major} of vfio-user, and here it is {MAJOR}"));
    }
    // Capabilities may be left out. None that a client can name changes what is done here.
    if let [text @ .., last] = text {
        if *last != 0 {
            return Err("its version did not end in a NUL".into());
        }
        let parsed: Result<Value, _> = serde_json::from_slice(text);
        if !parsed.is_ok_and(|capabilities| capabilities.is_object()) {
            return Err("its version was no JSON object".into());
        }
    }
    let capabilities = json!({ "capabilities": {
        "max_msg_fds": 1,
        "max_data_xfer_size": MOST_DATA,
        "migration": { "pgsize": rustix::param::page_size() },
    }});
    let mut body = Vec::new();
    body.extend(MAJOR.to_le_bytes());
    body.extend(MINOR.to_le_bytes());
    body.extend(capabilities.to_string().into_bytes());
    body.push(0);
    Ok(body)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Does what a message asks; the answer's body.
fn handle(
    device: &Device,
    message: &mut Message,
    backend: &mut dyn ServerBackend,
) -> io::Result<Vec<u8>> {
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    // Queries whose answer nobody waits for are none.
    let asked = |message: &Message| if message.wants_reply { Ok(()) } else { Err(invalid()) };
    if message.files_lost {
        return Err(invalid());
    }
    match Command::n(message.command).ok_or_else(unsupported)? {
        Command::DmaMap => dma_map(message, backend),
        Command::DmaUnmap => {
            let flags = DmaUnmapFlags::from_bits_retain(u32(message, 4)?);
            let known = DmaUnmapFlags::GET_DIRTY_PAGE_INFO | DmaUnmapFlags::UNMAP_ALL;
            if flags.contains(DmaUnmapFlags::GET_DIRTY_PAGE_INFO) || !known.contains(flags) {
                return Err(unsupported());
            }
            backend.dma_unmap(flags, u64(message, 8)?, u64(message, 16)?)?;
            Ok(message.body.get(..24).unwrap_or_default().to_vec())
        }
        Command::DeviceGetInfo => {
            asked(message)?;
            let flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
            Ok(words(&[16, flags, device.regions.len() as u32, device.interrupts.len() as u32]))
        }
        Command::DeviceGetRegionInfo => {
            asked(message)?;
            let region = entry(&device.regions, u32(message, 8)?)?;
            let mut body = words(&[region.argsz, region.flags, region.index, region.cap_offset]);
            body.extend(region.size.to_le_bytes());
            body.extend(region.offset.to_le_bytes());
            Ok(body)
        }
        Command::GetIrqInfo => {
            asked(message)?;
            let kind = entry(&device.interrupts, u32(message, 8)?)?;
            Ok(words(&[16, kind.flags, kind.index, kind.count]))
        }
        Command::SetIrqs => {
            let (flags, kind) = (u32(message, 4)?, u32(message, 8)?);
            let (start, count) = (u32(message, 12)?, u32(message, 16)?);
            entry(&device.interrupts, kind)?;
            if flags & VFIO_IRQ_SET_DATA_BOOL != 0 {
                return Err(unsupported());
            }
            backend.set_irqs(kind, flags, start, count, std::mem::take(&mut message.files))?;
            Ok(Vec::new())
        }
        Command::RegionRead => {
            asked(message)?;
            let (offset, region, count) = access(device, message)?;
            let mut body = message.body.get(..16).unwrap_or_default().to_vec();
            body.resize(16 + count, 0);
            backend.region_read(region, offset, body.get_mut(16..).unwrap_or_default())?;
            Ok(body)
        }
        Command::RegionWrite => {
            let (offset, region, count) = access(device, message)?;
            let data = message.body.get(16..16 + count).ok_or_else(invalid)?;
            backend.region_write(region, offset, data)?;
            Ok(message.body.get(..16).unwrap_or_default().to_vec())
        }
        Command::DeviceReset => {
            backend.reset()?;
            Ok(Vec::new())
        }
        // One version is agreed on, at the start.
        Command::Version => Err(invalid()),
        Command::Unknown
        | Command::GetRegionIoFds
        | Command::DmaRead
        | Command::DmaWrite
        | Command::UserDirtyPages => Err(unsupported()),
    }
}

fn dma_map(message: &mut Message, backend: &mut dyn ServerBackend) -> io::Result<Vec<u8>> {
    let flags = DmaMapFlags::from_bits_retain(u32(message, 4)?);
    let (offset, at, bytes) = (u64(message, 8)?, u64(message, 16)?, u64(message, 24)?);
    let file = message.files.pop();
    // A piece of memory has one file or none.
    if !message.files.is_empty() {
        return Err(invalid());
    }
    backend.dma_map(flags, offset, at, bytes, file)?;
    Ok(Vec::new())
}

/// Offset, region, and bytes of a region access; no more bytes than clients were told.
fn access(device: &Device, message: &Message) -> io::Result<(u64, u32, usize)> {
    let (offset, region, count) = (u64(message, 0)?, u32(message, 8)?, u32(message, 12)?);
    entry(&device.regions, region)?;
    if count > MOST_DATA {
        return Err(invalid());
    }
    Ok((offset, region, count as usize))
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn entry<T>(list: &[T], index: u32) -> io::Result<&T> {
    list.get(index as usize).ok_or_else(invalid)
}

fn u32(message: &Message, at: usize) -> io::Result<u32> {
    message.u32(at).ok_or_else(invalid)
}

fn u64(message: &Message, at: usize) -> io::Result<u64> {
    message.u64(at).ok_or_else(invalid)
}
