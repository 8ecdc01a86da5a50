//! What passes between driver and controller, in words: request frames, replies, events, of both
//! generations.

use fusion_mpt::trace::{TraceEntry, TraceKind};
use fusion_mpt::wire::config::{self, Action, ExtPageType, PageHeader, PageId, PageType};
use fusion_mpt::wire::descriptor::{ReplyDescriptor, ReplyKind, RequestDescriptor};
use fusion_mpt::wire::event::EventCode;
use fusion_mpt::wire::scsi_io::{self, ScsiState, control};
use fusion_mpt::wire::{Function, IocStatus, ioc, read_padded, read_reply, task};

use crate::cdb;

/// Decodes the messages of one generation.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    mpi1: bool,
}

impl Decoder {
    /// For MPI 1.x, or else for MPI 2.x.
    #[must_use]
    pub const fn new(mpi1: bool) -> Self {
        Self { mpi1 }
    }

    /// One entry of a trace, as a line: time in seconds, arrow, what passed. `None` for a reply
    /// whose frame follows as the next entry.
    #[must_use]
    pub fn entry(&self, entry: &TraceEntry) -> Option<String> {
        let bytes = entry.bytes.get(..usize::from(entry.length)).unwrap_or(&entry.bytes);
        let time = format!("{:4}.{:03}", entry.at_ms / 1000, entry.at_ms % 1000);
        Some(match entry.kind {
            TraceKind::Request => format!("{time} -> {}", self.request(entry.word, bytes)),
            TraceKind::Reply if self.has_frame(entry.word) => return None,
            TraceKind::Reply => format!("{time} <- {}", self.short_reply(entry.word)),
            TraceKind::ReplyFrame => format!("{time} <- {}", self.reply(entry.word, bytes)),
            TraceKind::Lie => {
                format!("{time} <! {}: cannot be true, ignored", self.short_reply(entry.word))
            }
        })
    }

    /// A request frame; `word` is what posted it.
    #[must_use]
    pub fn request(&self, word: u64, frame: &[u8]) -> String {
        let function = function_of(frame);
        let smid = if self.mpi1 {
            context(read_padded::<fusion_mpt::wire::mpi1::RequestHeader>(frame).msg_context.get())
        } else {
            context(RequestDescriptor(word).smid().into())
        };
        let what = match function {
            Function::SCSI_IO | Function::RAID_SCSI_IO_PASSTHROUGH => self.scsi_io(frame),
            Function::CONFIG => self.config(frame),
            Function::SCSI_TASK_MANAGEMENT => self.task(frame),
            Function::EVENT_ACK => self.event_ack(frame),
            _ => String::new(),
        };
        format!("{smid} {}{what}", function.name())
    }

    fn scsi_io(&self, frame: &[u8]) -> String {
        let (device, lun, control, length, cdb, cdb_length) = if self.mpi1 {
            let request: scsi_io::mpi1::ScsiIoRequest = read_padded(frame);
            let device = format!("bus {} target {}", request.bus, request.target_id);
            let cdb = request.cdb.to_vec();
            let cdb_length = usize::from(request.cdb_length);
            (device, request.lun, request.control, request.data_length, cdb, cdb_length)
        } else {
            let request: scsi_io::mpi2::ScsiIoRequest = read_padded(frame);
            let device = format!("handle {:#06x}", request.dev_handle.get());
            let cdb = request.cdb.to_vec();
            let cdb_length = usize::from(request.cdb_length());
            (device, request.lun, request.control, request.data_length, cdb, cdb_length)
        };
        let [_, lun, ..] = lun;
        let direction = match control.get() & control::DIRECTION_MASK {
            control::READ => format!(", {} bytes in", length.get()),
            control::WRITE => format!(", {} bytes out", length.get()),
            _ => String::new(),
        };
        let cdb = cdb.get(..cdb_length).unwrap_or(&cdb);
        format!(" {device} lun {lun}: {}{direction}", cdb::describe(cdb))
    }

    fn config(&self, frame: &[u8]) -> String {
        let (action, header, extended, address) = if self.mpi1 {
            let request: config::mpi1::ConfigRequest = read_padded(frame);
            (request.action, request.header, request.ext_page_type, request.page_address)
        } else {
            let request: config::mpi2::ConfigRequest = read_padded(frame);
            (request.action, request.header, request.ext_page_type, request.page_address)
        };
        format!(" {} address {:#010x}: {}", page(header, extended), address.get(), name(action))
    }

    fn task(&self, frame: &[u8]) -> String {
        if self.mpi1 {
            let request: task::mpi1::TaskManagementRequest = read_padded(frame);
            let (bus, target) = (request.bus, request.target_id);
            let smid = context(request.task_msg_context.get());
            let smid = smid.trim_end();
            format!(" bus {bus} target {target}: {} {smid}", request.task_type.name())
        } else {
            let request: task::mpi2::TaskManagementRequest = read_padded(frame);
            let (handle, smid) = (request.dev_handle.get(), request.task_mid.get());
            format!(" handle {handle:#06x}: {} smid {smid}", request.task_type.name())
        }
    }

    fn event_ack(&self, frame: &[u8]) -> String {
        let code = if self.mpi1 {
            EventCode::from(read_padded::<ioc::mpi1::EventAckRequest>(frame).event)
        } else {
            EventCode::from(read_padded::<ioc::mpi2::EventAckRequest>(frame).event)
        };
        format!(": {}", code.name())
    }

    /// Whether the word announces a reply frame.
    fn has_frame(&self, word: u64) -> bool {
        if self.mpi1 {
            word & 1 << 31 != 0
        } else {
            ReplyDescriptor(word).kind() == ReplyKind::AddressReply
        }
    }

    /// A reply as its word alone tells it.
    #[must_use]
    pub fn short_reply(&self, word: u64) -> String {
        if self.mpi1 {
            return if word & 1 << 31 == 0 {
                format!("{} success", context(word as u32))
            } else {
                format!("frame at {:#x}", (word << 1) & 0xffff_ffff)
            };
        }
        let descriptor = ReplyDescriptor(word);
        let smid = descriptor.smid();
        match descriptor.kind() {
            ReplyKind::ScsiIoSuccess => format!("smid {smid:<4} success"),
            ReplyKind::FastPathScsiIoSuccess => format!("smid {smid:<4} success (fast path)"),
            ReplyKind::AddressReply => {
                format!("smid {smid:<4} frame at {:#x}", descriptor.reply_frame_address())
            }
            kind => format!("smid {smid:<4} {kind:?}"),
        }
    }

    /// A reply frame; `word` is the descriptor or address it was found by.
    #[must_use]
    pub fn reply(&self, word: u64, frame: &[u8]) -> String {
        let (smid, status, log_info) = if self.mpi1 {
            let header: fusion_mpt::wire::mpi1::ReplyHeader = read_reply(frame);
            (header.msg_context.get(), header.ioc_status, header.ioc_log_info)
        } else {
            let header: fusion_mpt::wire::mpi2::ReplyHeader = read_reply(frame);
            (u32::from(ReplyDescriptor(word).smid()), header.ioc_status, header.ioc_log_info)
        };
        let status = IocStatus::from(status);
        let function = function_of(frame);
        let what = match function {
            Function::SCSI_IO | Function::RAID_SCSI_IO_PASSTHROUGH => self.scsi_reply(frame),
            Function::CONFIG => self.config_reply(frame),
            Function::SCSI_TASK_MANAGEMENT => self.task_reply(frame),
            Function::EVENT_NOTIFICATION => self.event(frame),
            _ => String::new(),
        };
        let smid = context(smid);
        let mut text = format!("{smid} {}: {}{what}", function.name(), status.name());
        if status.log_info_available() {
            text.push_str(&format!(", log info {:#010x}", log_info.get()));
        }
        text
    }

    fn scsi_reply(&self, frame: &[u8]) -> String {
        // Both generations have these fields in the same place.
        let reply: scsi_io::mpi2::ScsiIoReply = read_reply(frame);
        let state = ScsiState::from_bits_retain(reply.scsi_state);
        let mut text = if state.contains(ScsiState::NO_SCSI_STATUS) {
            ", no SCSI status".to_owned()
        } else {
            format!(", SCSI status {}", reply.scsi_status.name())
        };
        text.push_str(&format!(", {} bytes", reply.transfer_count.get()));
        if state.contains(ScsiState::AUTOSENSE_VALID) {
            text.push_str(&format!(", {} bytes of sense", reply.sense_count.get()));
        }
        if state.contains(ScsiState::AUTOSENSE_FAILED) {
            text.push_str(", sense lost");
        }
        if state.contains(ScsiState::TERMINATED) {
            text.push_str(", terminated");
        }
        text
    }

    fn config_reply(&self, frame: &[u8]) -> String {
        let (action, header, extended, words) = if self.mpi1 {
            let reply: config::mpi1::ConfigReply = read_reply(frame);
            (reply.action, reply.header, reply.ext_page_type, reply.ext_page_length)
        } else {
            let reply: config::mpi2::ConfigReply = read_reply(frame);
            (reply.action, reply.header, reply.ext_page_type, reply.ext_page_length)
        };
        let id = page(header, extended);
        let words = if id.is_extended() { words.get() } else { u16::from(header.page_length) };
        format!(", {id}, {} bytes: {}", u32::from(words) * 4, name(action))
    }

    fn task_reply(&self, frame: &[u8]) -> String {
        let (response, ended) = if self.mpi1 {
            let reply: task::mpi1::TaskManagementReply = read_reply(frame);
            (reply.response_code, reply.termination_count.get())
        } else {
            let reply: task::mpi2::TaskManagementReply = read_reply(frame);
            (reply.response_code, reply.termination_count.get())
        };
        format!(", {}, {ended} commands ended", response.name())
    }

    fn event(&self, frame: &[u8]) -> String {
        let (code, acknowledge) = if self.mpi1 {
            let event: ioc::mpi1::EventNotificationReply = read_reply(frame);
            (EventCode::from(event.event), event.ack_required)
        } else {
            let event: ioc::mpi2::EventNotificationReply = read_reply(frame);
            (EventCode::from(event.event), event.ack_required)
        };
        let wants = if acknowledge == 0 { "" } else { ", wants an acknowledgement" };
        format!(", event {}{wants}", code.name())
    }
}

/// A message context of MPI 1.x, or an SMID. The context holds the SMID and, in bits 27:16, how often
/// the controller had been reset when it was given (`queue/fifo.rs` of the core).
fn context(context: u32) -> String {
    let smid = context & 0xffff;
    match context >> 16 & 0xfff {
        0 => format!("smid {smid:<4}"),
        epoch => format!("smid {smid} epoch {epoch}"),
    }
}

/// Byte 3 of every message.
fn function_of(frame: &[u8]) -> Function {
    Function(frame.get(3).copied().unwrap_or(0xff))
}

fn page(header: PageHeader, extended: u8) -> PageId {
    PageId {
        page_type: PageType(header.page_type),
        ext_page_type: ExtPageType(extended),
        number: header.page_number,
    }
}

fn name(action: Action) -> &'static str {
    action.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SCSI I/O request of MPI 1.x as Linux's mptsas would build it.
    fn mpi1_read() -> [u8; 0x30] {
        let mut frame = [0u8; 0x30];
        frame[0] = 3;
        frame[4] = 10;
        frame[5] = 64;
        frame[8] = 7;
        frame[0x17] = 0x02;
        frame[0x18..0x22].copy_from_slice(&[0x28, 0, 0, 0, 0, 5, 0, 0, 8, 0]);
        frame[0x28..0x2c].copy_from_slice(&4096u32.to_le_bytes());
        frame
    }

    #[test]
    fn a_read_is_told_with_its_target_place_and_length() {
        assert_eq!(
            Decoder::new(true).request(0x1000, &mpi1_read()),
            "smid 7    SCSI IO bus 0 target 3 lun 0: READ (10) lba 5 blocks 8, 4096 bytes in"
        );
        let mut frame = [0u8; 0x80];
        frame[0] = 9;
        frame[0x1c..0x20].copy_from_slice(&512u32.to_le_bytes());
        frame[0x24] = 10;
        frame[0x3f] = 0x01;
        frame[0x40..0x4a].copy_from_slice(&[0x2a, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(
            Decoder::new(false).request(RequestDescriptor::scsi_io(12, 0, 9).0, &frame),
            "smid 12   SCSI IO handle 0x0009 lun 0: WRITE (10) lba 256 blocks 1, 512 bytes out"
        );
    }

    #[test]
    fn a_check_condition_is_told_with_its_sense_bytes() {
        let mut frame = [0u8; 0x24];
        frame[2] = 9;
        frame[0x0c] = 2;
        frame[0x0d] = 1;
        frame[0x18] = 18;
        let text =
            Decoder::new(false).reply(ReplyDescriptor::address_reply(5, 0, 0x8000).0, &frame);
        assert!(text.starts_with("smid 5    SCSI IO: success, SCSI status CHECK"), "{text}");
        assert!(text.ends_with("0 bytes, 18 bytes of sense"), "{text}");
    }

    #[test]
    fn a_page_is_told_by_its_name() {
        let mut frame = [0u8; 0x1c];
        frame[3] = Function::CONFIG.0;
        frame[6] = 0x12;
        frame[0x17] = 0x0f;
        frame[0x18..0x1c].copy_from_slice(&0xffffu32.to_le_bytes());
        assert_eq!(
            Decoder::new(true).request(0, &frame),
            "smid 0    config SAS device page 0 address 0x0000ffff: page header"
        );
    }

    #[test]
    fn short_replies_name_their_request() {
        assert_eq!(Decoder::new(true).short_reply(7), "smid 7    success");
        let descriptor = ReplyDescriptor::scsi_io_success(9, 0).0;
        assert_eq!(Decoder::new(false).short_reply(descriptor), "smid 9    success");
    }

    #[test]
    fn after_a_reset_a_context_is_told_with_its_epoch() {
        let mut frame = mpi1_read();
        frame[10] = 2;
        let text = Decoder::new(true).request(0x1000, &frame);
        assert!(text.starts_with("smid 7 epoch 2 SCSI IO bus 0"), "{text}");
        assert_eq!(Decoder::new(true).short_reply(0x0002_0007), "smid 7 epoch 2 success");
        let mut reply = [0u8; 0x24];
        reply[2] = 9;
        reply[8..12].copy_from_slice(&0x0fff_0007u32.to_le_bytes());
        let text = Decoder::new(true).reply(0x8000_4000, &reply);
        assert!(text.starts_with("smid 7 epoch 4095 SCSI IO: success"), "{text}");
    }

    #[test]
    fn a_frame_of_no_length_at_all_is_told_without_falling_over() {
        for mpi1 in [false, true] {
            for function in 0..=255u8 {
                for length in [0, 1, 3, 4, 9, 20] {
                    let mut frame = [0xffu8; 20];
                    frame[3] = function;
                    let decoder = Decoder::new(mpi1);
                    let frame = &frame[..length];
                    assert!(!decoder.request(u64::MAX, frame).is_empty());
                    assert!(!decoder.reply(u64::MAX, frame).is_empty());
                }
            }
        }
    }
}
