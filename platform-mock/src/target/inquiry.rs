//! INQUIRY and the vital product data pages (SPC-4 6.6 and 7.8, SBC-3 6.6).

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;

/// Bytes of standard INQUIRY data, with its eight version descriptors and reserved bytes.
const STANDARD_BYTES: usize = 96;
/// SAM-5, SPC-4, SBC-3 and SPL, no version claimed (SPC-4 table 144).
const VERSIONS: [u16; 4] = [0x00A0, 0x0460, 0x04C0, 0x20A0];
/// SAT-3, no version claimed, of a disk that is translated.
const SAT_3: u16 = 0x1EE0;
/// Peripheral qualifier 3, device type 1Fh: no device here.
const ABSENT: u8 = 0x7F;
const PROTOCOL_SAS: u8 = 0x60;

pub(super) fn inquiry(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let vital_product_data = task.byte(1) & 0x01 != 0;
    let page = task.byte(2);
    let data = match (vital_product_data, page) {
        (false, 0) => target.standard_inquiry().to_vec(),
        (true, page) => target.vital_product_data(page)?,
        // A page code without EVPD.
        (false, _) => return Err(SenseData::invalid_field(2, None)),
    };
    task.reply(&data, operation.length(task.cdb))
}

/// `text` in `N` bytes: cut or padded with spaces, and printable (SPC-4 4.3.1).
fn ascii<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (byte, character) in field.iter_mut().zip(text.chars()) {
        *byte = printable(character);
    }
    field
}

fn printable(character: char) -> u8 {
    if matches!(character, ' '..='~') { character as u8 } else { b'?' }
}

impl Target {
    pub(super) fn inquiry_of_absent_unit(
        &self,
        task: &mut Task<'_>,
        operation: &Operation,
    ) -> Result<(), SenseData> {
        if task.byte(1) & 0x01 != 0 {
            return Err(SenseData::LOGICAL_UNIT_NOT_SUPPORTED);
        }
        let mut data = self.standard_inquiry();
        data[0] = ABSENT;
        task.reply(&data, operation.length(task.cdb))
    }

    fn standard_inquiry(&self) -> [u8; STANDARD_BYTES] {
        let mut data = [0; STANDARD_BYTES];
        data[2] = 0x06; // SPC-4
        data[3] = 0x12; // HISUP, response data format 2
        data[4] = (STANDARD_BYTES - 5) as u8;
        data[7] = 0x02; // CMDQUE
        let vendor = if self.config.sata { "ATA" } else { &self.config.vendor };
        data[8..16].copy_from_slice(&ascii::<8>(vendor));
        data[16..32].copy_from_slice(&ascii::<16>(&self.config.product));
        data[32..36].copy_from_slice(&ascii::<4>(&self.config.revision));
        data[36..56].copy_from_slice(&ascii::<20>(&self.config.serial));
        for (field, version) in data[58..74].chunks_exact_mut(2).zip(VERSIONS) {
            field.copy_from_slice(&version.to_be_bytes());
        }
        if self.config.sata {
            data[66..68].copy_from_slice(&SAT_3.to_be_bytes());
        }
        data
    }

    fn vital_product_data(&self, page: u8) -> Result<Vec<u8>, SenseData> {
        let body = match page {
            0x00 => self.pages(),
            0x80 => self.ascii_serial(),
            0x83 => self.designators(),
            0x86 => extended_inquiry().to_vec(),
            0x87 => MODE_PAGE_POLICY.to_vec(),
            0x89 if self.config.sata => self.ata_information(),
            0xB0 => self.block_limits().to_vec(),
            0xB1 => self.block_device_characteristics().to_vec(),
            0xB2 if self.config.thin => logical_block_provisioning().to_vec(),
            _ => return Err(SenseData::invalid_field(2, None)),
        };
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let mut data = vec![0x00, page];
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&body[..usize::from(length)]);
        Ok(data)
    }

    /// The unit serial number.
    pub(super) fn ascii_serial(&self) -> Vec<u8> {
        self.config.serial.chars().map(printable).collect()
    }

    /// The pages that there are, in ascending order.
    fn pages(&self) -> Vec<u8> {
        let mut pages = vec![0x00, 0x80, 0x83, 0x86, 0x87];
        if self.config.sata {
            pages.push(0x89);
        }
        pages.extend_from_slice(&[0xB0, 0xB1]);
        if self.config.thin {
            pages.push(0xB2);
        }
        pages
    }

    /// Device identification (SPC-4 7.8.6): the logical unit's name, the target port's name and
    /// relative number.
    fn designators(&self) -> Vec<u8> {
        let mut data = Vec::new();
        // Binary; associated with the logical unit; NAA.
        data.extend_from_slice(&[0x01, 0x03, 0x00, 0x08]);
        data.extend_from_slice(&self.config.wwn.to_be_bytes());
        // PIV; associated with the target port; NAA.
        data.extend_from_slice(&[PROTOCOL_SAS | 0x01, 0x93, 0x00, 0x08]);
        data.extend_from_slice(&self.config.sas_address.to_be_bytes());
        // PIV; associated with the target port; relative target port 1.
        data.extend_from_slice(&[PROTOCOL_SAS | 0x01, 0x94, 0x00, 0x04]);
        data.extend_from_slice(&[0x00, 0x00, 0x00, 0x01]);
        data
    }

    /// Block limits (SBC-3 6.6.4), without the four header bytes. WSNZ is 0: a WRITE SAME of zero
    /// blocks reaches to the last block.
    fn block_limits(&self) -> [u8; 60] {
        let mut page = [0; 64];
        page[5] = u8::MAX; // most blocks of COMPARE AND WRITE
        let granularity = 1_u16 << self.config.physical_block_exponent.min(15);
        page[6..8].copy_from_slice(&granularity.to_be_bytes());
        if self.config.thin {
            page[20..24].copy_from_slice(&self.config.maximum_unmap_blocks.to_be_bytes());
            page[24..28].copy_from_slice(&self.config.maximum_unmap_descriptors.to_be_bytes());
            page[28..32].copy_from_slice(&u32::from(granularity).to_be_bytes());
            page[32] = 0x80; // UGAVALID, alignment 0
        }
        page[36..44].copy_from_slice(&self.config.maximum_write_same_blocks.to_be_bytes());
        let mut body = [0; 60];
        body.copy_from_slice(&page[4..]);
        body
    }

    /// Block device characteristics (SBC-3 6.6.2), without the four header bytes.
    fn block_device_characteristics(&self) -> [u8; 60] {
        let mut body = [0; 60];
        body[0..2].copy_from_slice(&self.config.rotation_rate.to_be_bytes());
        body[3] = self.config.form_factor & 0x0F;
        body
    }
}

/// Mode page policy (SPC-4 7.8.9): every page and subpage is shared by all ports and initiators.
const MODE_PAGE_POLICY: [u8; 4] = [0x3F, 0xFF, 0x00, 0x00];

/// Extended INQUIRY data (SPC-4 7.8.7), without the four header bytes: simple, ordered and head of
/// queue tasks (HEADSUP, ORDSUP, SIMPSUP), a volatile cache (V_SUP). No protection information.
fn extended_inquiry() -> [u8; 60] {
    let mut body = [0; 60];
    body[1] = 0x07;
    body[2] = 0x01;
    body
}

/// Logical block provisioning (SBC-3 6.6.7): UNMAP and both WRITE SAMEs unmap, unmapped blocks
/// read as zeros, thin.
fn logical_block_provisioning() -> [u8; 4] {
    [0x00, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0x00]
}
