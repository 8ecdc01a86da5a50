//! SCSI I/O: from a request frame to the target behind it and back.
//!
//! How an I/O ends follows the headers (mpi_init.h, mpi2_init.h). Where QEMU's device is the only
//! witness, MPI1's answers are its: a command whose CDB moves more than `DataLength`, or the other
//! way, ends as an overrun before it is carried out; a status other than GOOD comes with an
//! underrun and a transfer count of 0.

use std::borrow::Cow;
use std::fs::File;

use crate::buffer::{DataBuffer, DataError};
use crate::memory::{DeviceMemory, TransferCause, TransferError};
use crate::target::{Command, Direction, Response, Target, status};

use super::devices::{Absent, CONTROLLER_SAS_ADDRESS, Devices};
use super::message::{Message, array, byte, le16, le32};
use super::queues::{Answer, Reply, Request};
use super::sgl::{BadSgl, List, Segment, decode};

/// IOCStatus of a SCSI I/O.
pub(crate) mod ioc_status {
    pub(crate) const SUCCESS: u16 = 0x00;
    pub(crate) const INVALID_SGL: u16 = 0x03;
    pub(crate) const INVALID_FIELD: u16 = 0x07;
    pub(crate) const INVALID_BUS: u16 = 0x41;
    pub(crate) const INVALID_DEVICE: u16 = 0x42;
    pub(crate) const DEVICE_NOT_THERE: u16 = 0x43;
    pub(crate) const DATA_OVERRUN: u16 = 0x44;
    pub(crate) const DATA_UNDERRUN: u16 = 0x45;
    pub(crate) const DATA_ERROR: u16 = 0x46;
    pub(crate) const TASK_TERMINATED: u16 = 0x48;
    pub(crate) const IOC_TERMINATED: u16 = 0x4b;
}

const STATE_AUTOSENSE_VALID: u8 = 0x01;
const STATE_AUTOSENSE_FAILED: u8 = 0x02;
const STATE_NO_SCSI_STATUS: u8 = 0x04;
const STATE_TERMINATED: u8 = 0x08;

/// A command's data, scattered over the host's memory.
pub(crate) struct Buffer<'a> {
    memory: &'a dyn DeviceMemory,
    segments: &'a [Segment],
    length: u64,
    /// The segment of the last access, and the offset of its first byte: accesses go upwards.
    index: usize,
    start: u64,
    faulted: bool,
}

impl<'a> Buffer<'a> {
    pub(crate) fn new(memory: &'a dyn DeviceMemory, segments: &'a [Segment]) -> Self {
        let length = segments.iter().map(|segment| u64::from(segment.bytes)).sum();
        Self { memory, segments, length, index: 0, start: 0, faulted: false }
    }

    /// Makes the segment that holds `offset`, if any does, the one at `index`.
    fn seek(&mut self, offset: u64) {
        if offset < self.start {
            (self.index, self.start) = (0, 0);
        }
        while let Some(segment) = self.segments.get(self.index)
            && offset - self.start >= u64::from(segment.bytes)
        {
            self.start += u64::from(segment.bytes);
            self.index += 1;
        }
    }

    /// Calls `access` with the bus address and the part of `bytes` for each piece from `offset` on.
    fn pieces(
        &mut self,
        mut offset: u64,
        bytes: usize,
        mut access: impl FnMut(&dyn DeviceMemory, u64, std::ops::Range<usize>) -> bool,
    ) -> Result<(), DataError> {
        let mut done = 0;
        while done < bytes {
            self.seek(offset);
            let segment = self.segments.get(self.index).ok_or(DataError)?;
            let inside = offset - self.start;
            let part = (bytes - done).min((u64::from(segment.bytes) - inside) as usize);
            if !access(self.memory, segment.at.wrapping_add(inside), done..done + part) {
                self.faulted = true;
                return Err(DataError);
            }
            done += part;
            offset += part as u64;
        }
        Ok(())
    }

    /// The segments of `bytes` bytes from `offset` on. A command nearly always moves all of them.
    fn part(&mut self, offset: u64, bytes: u64) -> Result<Cow<'a, [Segment]>, DataError> {
        if offset == 0 && bytes == self.length {
            return Ok(Cow::Borrowed(self.segments));
        }
        let bytes = usize::try_from(bytes).map_err(|_| DataError)?;
        let mut part = Vec::new();
        self.pieces(offset, bytes, |_, at, piece| {
            part.push(Segment { at, bytes: piece.len() as u32 });
            true
        })?;
        Ok(Cow::Owned(part))
    }

    /// Moves a part of the buffer, and notes when the host's memory could not be reached.
    fn transfer(
        &mut self,
        offset: u64,
        bytes: u64,
        direct: impl FnOnce(&dyn DeviceMemory, &[Segment]) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let outside = |DataError| TransferError { moved: 0, cause: TransferCause::Memory };
        let part = self.part(offset, bytes).map_err(outside)?;
        let result = direct(self.memory, &part);
        if matches!(result, Err(TransferError { cause: TransferCause::Memory, .. })) {
            self.faulted = true;
        }
        result
    }
}

/// The longest access that is to change nothing where it fails: a page of a disk.
const WHOLE: usize = 4096;

impl DataBuffer for Buffer<'_> {
    fn len(&self) -> u64 {
        self.length
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DataError> {
        self.pieces(offset, bytes.len(), |memory, at, part| memory.write(at, &bytes[part]).is_ok())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        let length = bytes.len();
        self.seek(offset);
        let in_parts = self
            .segments
            .get(self.index)
            .is_none_or(|segment| self.start + u64::from(segment.bytes) < offset + length as u64);
        if in_parts && length <= WHOLE {
            // The second part may fail after the first: neither may show then.
            let mut whole = [0; WHOLE];
            let whole = &mut whole[..length];
            self.pieces(offset, length, |memory, at, part| {
                memory.read(at, &mut whole[part]).is_ok()
            })?;
            bytes.copy_from_slice(whole);
            return Ok(());
        }
        self.pieces(offset, length, |memory, at, part| memory.read(at, &mut bytes[part]).is_ok())
    }

    fn fill_from_file(
        &mut self,
        offset: u64,
        bytes: u64,
        file: &File,
        position: u64,
    ) -> Result<(), TransferError> {
        self.transfer(offset, bytes, |memory, part| memory.fill_from_file(part, file, position))
    }

    fn store_to_file(
        &mut self,
        offset: u64,
        bytes: u64,
        file: &File,
        position: u64,
    ) -> Result<(), TransferError> {
        self.transfer(offset, bytes, |memory, part| memory.store_to_file(part, file, position))
    }
}

/// What a chip's generation fixes for its SCSI I/O messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) mpi1: bool,
    pub(crate) ieee: bool,
    pub(crate) frame_bytes: u32,
    pub(crate) chain_bytes: u32,
    pub(crate) chains: u32,
    /// The upper half of sense buffers' addresses.
    pub(crate) sense_high: u64,
    /// `MaxDevices` (MPI1).
    pub(crate) max_devices: u16,
}

/// The message's fields, whatever its generation.
pub(crate) struct ScsiIo {
    /// Bus and target id (MPI1, bus in the high byte) or DevHandle.
    pub(crate) address: u16,
    pub(crate) lun: [u8; 8],
    cdb: [u8; 32],
    cdb_bytes: usize,
    data: u32,
    direction: Option<Direction>,
    sense_at: u64,
    sense_bytes: u8,
    list: List,
}

impl ScsiIo {
    /// `DataLength`.
    pub(crate) fn data_bytes(&self) -> u32 {
        self.data
    }

    /// The command.
    pub(crate) fn cdb(&self) -> &[u8] {
        self.cdb.get(..self.cdb_bytes).unwrap_or(&self.cdb)
    }

    /// Where sense data goes, and how much of it there is room for.
    pub(crate) fn sense(&self) -> (u64, u8) {
        (self.sense_at, self.sense_bytes)
    }

    pub(crate) fn parse(request: &Request, rules: &Rules) -> Self {
        let frame = &request.frame[..];
        let (lun_at, control_at, cdb_at, data_at, sense_at) = if rules.mpi1 {
            (0x0c, 0x14, 0x18, 0x28, 0x2c)
        } else {
            (0x34, 0x3c, 0x40, 0x1c, 0x0c)
        };
        let mut cdb = array::<32>(frame, cdb_at);
        let (address, cdb_bytes, sense_bytes, offset) = if rules.mpi1 {
            cdb[16..].fill(0);
            let address = u16::from_be_bytes([byte(frame, 1), byte(frame, 0)]);
            (address, byte(frame, 4).min(16), byte(frame, 5), 0x30)
        } else {
            let offset = u32::from(byte(frame, 0x14)) * 4;
            (le16(frame, 0), (le16(frame, 0x24) & 0x3f).min(32) as u8, byte(frame, 0x12), offset)
        };
        let direction = match le32(frame, control_at) >> 24 & 3 {
            0 => Some(Direction::None),
            1 => Some(Direction::Out),
            2 => Some(Direction::In),
            _ => None,
        };
        let data = le32(frame, data_at);
        Self {
            address,
            lun: array(frame, lun_at),
            cdb,
            cdb_bytes: cdb_bytes.into(),
            data,
            direction,
            sense_at: rules.sense_high | u64::from(le32(frame, sense_at)),
            sense_bytes,
            list: List {
                frame: request.at,
                frame_bytes: rules.frame_bytes,
                offset,
                chain_offset: byte(frame, 2),
                ieee: rules.ieee,
                from_host: direction == Some(Direction::Out),
                data,
                chain_bytes: rules.chain_bytes,
                chains: rules.chains,
            },
        }
    }
}

/// What a reply frame says of how an I/O ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ending {
    pub(crate) ioc_status: u16,
    pub(crate) scsi_status: u8,
    pub(crate) scsi_state: u8,
    pub(crate) transferred: u32,
    pub(crate) sense_bytes: u32,
    pub(crate) log_info: u32,
    /// It never got as far as the device, so that MPI1 does not give `MsgFlags` back.
    refused: bool,
}

impl Ending {
    /// Without the target having said anything.
    pub(crate) fn unheard(ioc_status: u16) -> Self {
        Self { ioc_status, scsi_state: STATE_NO_SCSI_STATUS, refused: true, ..Self::default() }
    }

    /// As the target said, without sense data.
    pub(crate) fn heard(ioc_status: u16, scsi_status: u8, transferred: u32) -> Self {
        Self { ioc_status, scsi_status, transferred, ..Self::default() }
    }

    /// Ended by task management.
    pub(crate) fn ended_by_task(mpi1: bool) -> Self {
        // MPI1 as QEMU's device, which does not say that it terminated the command.
        let terminated = if mpi1 { 0 } else { STATE_TERMINATED };
        let scsi_state = STATE_NO_SCSI_STATUS | terminated;
        Self { ioc_status: ioc_status::TASK_TERMINATED, scsi_state, ..Self::default() }
    }

    /// Ended by the IOC itself, which says why.
    pub(crate) fn terminated(ioc_status: u16, log_info: u32) -> Self {
        let scsi_state = STATE_NO_SCSI_STATUS | STATE_TERMINATED;
        Self { ioc_status, scsi_state, log_info, ..Self::default() }
    }
}

/// The reply to `request` with this ending.
pub(crate) fn reply(request: &Request, mpi1: bool, ending: &Ending) -> Reply {
    let frame = &request.frame;
    let log = if ending.log_info != 0 { 0x8000 } else { 0 };
    let function = frame[3];
    let message = if mpi1 {
        Message::new(0x24, function)
            .with(0, &frame[0..2])
            .with(4, &frame[4..6])
            .with8(7, if ending.refused { 0 } else { frame[7] })
            .with32(8, request.key)
    } else {
        Message::new(0x34, function).with(0, &frame[0..2]).with(8, &frame[8..10])
    };
    let message = message
        .with8(0x0c, ending.scsi_status)
        .with8(0x0d, ending.scsi_state)
        .with16(0x0e, ending.ioc_status | log)
        .with32(0x10, ending.log_info)
        .with32(0x14, ending.transferred)
        .with32(0x18, ending.sense_bytes);
    Reply { key: request.key, queue: request.queue, answer: Answer::Frame(message) }
}

/// Finds the target of a SCSI I/O or task management request.
pub(crate) fn find<'d>(
    devices: &'d mut Devices,
    address: u16,
    rules: &Rules,
) -> Result<&'d mut super::devices::Device, u16> {
    if !rules.mpi1 {
        return devices.by_handle(address).map_err(|absent| match absent {
            Absent::Invalid => ioc_status::INVALID_DEVICE,
            Absent::Gone => ioc_status::DEVICE_NOT_THERE,
        });
    }
    let [bus, target] = address.to_be_bytes();
    if bus != 0 {
        return Err(ioc_status::INVALID_BUS);
    }
    if u16::from(target) >= rules.max_devices {
        return Err(ioc_status::INVALID_DEVICE);
    }
    devices.at_slot(target).ok_or(ioc_status::DEVICE_NOT_THERE)
}

/// Carries a SCSI I/O out. `None` means plain success, which takes no reply frame.
pub(crate) fn run(
    memory: &dyn DeviceMemory,
    devices: &mut Devices,
    request: &Request,
    rules: &Rules,
    segments: &mut Vec<Segment>,
    complain: &mut dyn FnMut(String),
) -> Option<Ending> {
    let io = ScsiIo::parse(request, rules);
    let device = match find(devices, io.address, rules) {
        Ok(device) => device,
        Err(status) => return Some(Ending::unheard(status)),
    };
    segments.clear();
    if let Err(BadSgl(why)) = decode(memory, &io.list, segments) {
        complain(format!("the list of request {:#x} is bad: {why}", request.key));
        return Some(Ending::unheard(ioc_status::INVALID_SGL));
    }
    let Some(direction) = io.direction else {
        return Some(Ending::unheard(ioc_status::INVALID_FIELD));
    };
    let cdb = &io.cdb[..io.cdb_bytes];
    let (wanted, bytes) = device.target.data_phase(cdb);
    if overruns(rules.mpi1, direction, wanted, bytes, io.data) {
        return Some(if rules.mpi1 {
            Ending::unheard(ioc_status::DATA_OVERRUN)
        } else {
            Ending::terminated(ioc_status::DATA_OVERRUN, 0)
        });
    }
    let mut buffer = Buffer::new(memory, if direction == Direction::None { &[] } else { segments });
    let command = Command { lun: io.lun, cdb, initiator: CONTROLLER_SAS_ADDRESS };
    let response = execute(&mut device.target, &command, &mut buffer);
    if buffer.faulted {
        complain(format!("the data of request {:#x} lies outside the host's memory", request.key));
        return Some(Ending::terminated(ioc_status::DATA_ERROR, 0));
    }
    judge(memory, &io, rules, &response, wanted == Direction::In && bytes > u64::from(io.data))
}

/// Whether the command would move more than the host gave room for, or the other way.
fn overruns(mpi1: bool, direction: Direction, wanted: Direction, bytes: u64, data: u32) -> bool {
    if mpi1 {
        return bytes > u64::from(data) || direction != wanted;
    }
    // The target's data frames, or its wish for them, come as a surprise. What it only sends too
    // much of is cut off, and is the target's success.
    bytes > 0 && (direction != wanted || wanted == Direction::Out && bytes > u64::from(data))
}

fn execute(target: &mut Target, command: &Command<'_>, buffer: &mut Buffer<'_>) -> Response {
    target.execute(command, buffer)
}

fn judge(
    memory: &dyn DeviceMemory,
    io: &ScsiIo,
    rules: &Rules,
    response: &Response,
    cut: bool,
) -> Option<Ending> {
    let transferred = response.transferred.min(u64::from(io.data)) as u32;
    let mut ending = Ending { scsi_status: response.status, transferred, ..Ending::default() };
    if transferred < io.data {
        ending.ioc_status = ioc_status::DATA_UNDERRUN;
    }
    if response.status == status::GOOD {
        if cut {
            ending.ioc_status = ioc_status::DATA_OVERRUN;
        }
        return (ending.ioc_status != ioc_status::SUCCESS).then_some(ending);
    }
    if rules.mpi1 {
        ending.ioc_status = ioc_status::DATA_UNDERRUN;
        ending.transferred = 0;
    }
    if let Some(sense) = &response.sense {
        let bytes = sense.to_bytes();
        let kept = bytes.len().min(io.sense_bytes.into());
        let written = memory.write(io.sense_at, &bytes[..kept]).is_ok();
        ending.scsi_state = match written && kept > 0 {
            true => STATE_AUTOSENSE_VALID,
            false => STATE_AUTOSENSE_FAILED,
        };
        ending.sense_bytes = if rules.mpi1 { bytes.len() } else { kept } as u32;
    }
    Some(ending)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::DmaFault;

    /// Memory from address 0 on, without a way around the bounce.
    struct Bytes(RefCell<Vec<u8>>);

    impl DeviceMemory for Bytes {
        fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
            let fault = DmaFault { at, bytes: bytes.len() };
            self.0.borrow_mut().read(at, bytes).map_err(|DataError| fault)
        }
        fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
            let fault = DmaFault { at, bytes: bytes.len() };
            self.0.borrow_mut().write(at, bytes).map_err(|DataError| fault)
        }
    }

    #[test]
    fn a_page_in_two_parts_of_which_one_is_outside_is_left_as_it_was() {
        let memory = Bytes(RefCell::new(vec![1; 4096]));
        let segments = [Segment { at: 0, bytes: 100 }, Segment { at: 4090, bytes: 100 }];
        let mut buffer = Buffer::new(&memory, &segments);
        let mut page = [9; 150];
        assert_eq!(buffer.read(0, &mut page), Err(DataError));
        assert_eq!(page, [9; 150]);
        assert!(buffer.faulted);
        assert_eq!(buffer.read(0, &mut page[..105]), Ok(()));
        assert_eq!(page[..106], [&[1; 105][..], &[9]].concat());
    }

    proptest! {
        /// Whichever way: by calls or from a file, in one piece or several, in any order.
        #[test]
        fn scattered_memory_holds_what_was_moved_there(
            lengths in prop::collection::vec(0..300_u32, 1..8),
            cuts in prop::collection::vec((0..2000_u64, 0..2000_u64), 1..6),
        ) {
            let memory = Bytes(RefCell::new(vec![0; 4096]));
            // Back to front, so that a piece in the wrong place shows.
            let mut at = 4096;
            let segments: Vec<Segment> = lengths.iter().map(|bytes| {
                at -= u64::from(*bytes);
                Segment { at, bytes: *bytes }
            }).collect();
            let mut buffer = Buffer::new(&memory, &segments);
            let total = buffer.len();
            let data: Vec<u8> = (0..total).map(|at| (at % 251) as u8 + 1).collect();
            let file = tempfile::tempfile().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &data, 10).unwrap();
            let mut expected = vec![0; total as usize];
            for (index, (from, bytes)) in cuts.into_iter().enumerate() {
                let from = from.min(total);
                let bytes = bytes.min(total - from);
                let range = from as usize..(from + bytes) as usize;
                if index % 2 == 0 {
                    buffer.fill_from_file(from, bytes, &file, 10 + from).unwrap();
                } else {
                    buffer.write(from, &data[range.clone()]).unwrap();
                }
                expected[range.clone()].copy_from_slice(&data[range]);
            }
            let mut seen = vec![0; total as usize];
            buffer.read(0, &mut seen).unwrap();
            prop_assert_eq!(&seen, &expected);
            let copy = tempfile::tempfile().unwrap();
            buffer.store_to_file(0, total, &copy, 0).unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&copy, &mut seen, 0).unwrap();
            prop_assert_eq!(&seen, &expected);
            prop_assert!(buffer.fill_from_file(1, total.max(1), &file, 10).is_err());
        }
    }
}
