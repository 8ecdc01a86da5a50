//! Firmware images: their header can be read, nothing can be written (mpi2_ioc.h, mpi2_image.h).

use super::super::Model;
use super::super::message::{Message, byte, le32};
use super::super::queues::Request;
use super::super::scsi::{Buffer, ioc_status};
use super::super::sgl::{List, decode};
use crate::memory::DeviceMemory;
use crate::model::chip::Family;
use crate::target::DataBuffer;

/// `ImageType`: the firmware that runs, and the one in flash.
const FIRMWARE_CURRENT: u8 = 0;
const FIRMWARE_FLASH: u8 = 1;
/// Bytes of an image's header, which is all there is of it.
const HEADER_BYTES: usize = 0x100;

impl Model {
    /// Answers a firmware upload request, in 0x18 bytes: the image goes to the host.
    pub(super) fn firmware_upload(&self, memory: &dyn DeviceMemory, request: &Request) -> Message {
        let frame = &request.frame;
        let message = Message::new(0x18, byte(frame, 3)).with8(0, byte(frame, 0));
        if !matches!(byte(frame, 0), FIRMWARE_CURRENT | FIRMWARE_FLASH) {
            return message.with16(0x0e, ioc_status::INVALID_FIELD);
        }
        // MPI 2.0 says offset and size in an element of their own before the list.
        let ieee = self.chip.ieee();
        let (at, list) = if ieee { (0x18, 0x20) } else { (0x1c, 0x24) };
        let (offset, size) = (le32(frame, at) as usize, le32(frame, at + 4));
        let image = self.image_header();
        let Some(part) = image.get(offset..).filter(|part| !part.is_empty()) else {
            return message.with16(0x0e, ioc_status::INVALID_FIELD);
        };
        let part = part.get(..size as usize).unwrap_or(part);
        let rules = self.rules();
        let list = List {
            frame: request.at,
            frame_bytes: rules.frame_bytes,
            offset: list,
            chain_offset: byte(frame, 2),
            ieee,
            from_host: false,
            data: part.len() as u32,
            chain_bytes: rules.chain_bytes,
            chains: rules.chains,
        };
        let mut segments = Vec::new();
        let written = part.is_empty()
            || decode(memory, &list, &mut segments).is_ok()
                && Buffer::new(memory, &segments).write(0, part).is_ok();
        let message = message.with32(0x14, HEADER_BYTES as u32);
        if written { message } else { message.with16(0x0e, ioc_status::INVALID_SGL) }
    }

    /// Refuses a firmware download, in 0x14 bytes: this flash cannot be written.
    pub(super) fn firmware_download(&self, frame: &[u8]) -> Message {
        Message::new(0x14, byte(frame, 3))
            .with8(0, byte(frame, 0))
            .with16(0x0e, ioc_status::INVALID_FIELD)
    }

    /// The header of the firmware's image, with the package version that drivers show.
    fn image_header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let [major, minor, unit, dev] = self.chip.firmware;
        let version = u32::from_be_bytes([major, minor, unit, dev]);
        let mut put = |at: usize, value: u32| {
            for (to, from) in header.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *to = from;
            }
        };
        if self.chip.family == Family::Mpi26 {
            // MPI26_COMPONENT_IMAGE_HEADER.
            put(0x00, 0xeb00_0042);
            put(0x08, HEADER_BYTES as u32);
            put(0x2c, version);
            put(0x30, 0x5058_4546);
            put(0x34, HEADER_BYTES as u32);
            put(0x54, version);
        } else {
            // MPI2_FW_IMAGE_HEADER.
            put(0x00, 0xea00_0000);
            put(0x04, 0x5afa_a55a);
            put(0x08, 0xa55a_faa5);
            put(0x0c, 0x5aa5_5afa);
            put(0x10, u32::from(self.chip.message_version) << 16);
            put(0x14, version);
            put(0x1c, version);
            put(0x20, u32::from(self.chip.product_id) << 16 | 0x1000);
            put(0x28, self.chip.capabilities);
            put(0x2c, HEADER_BYTES as u32);
        }
        header
    }
}
