//! MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14) and the mode pages. WCE and D_SENSE can be
//! changed, and saved.

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0A;
const ALL_PAGES: u8 = 0x3F;
const ALL_SUBPAGES: u8 = 0xFF;
/// Every page there is, in the order in which all pages are sent.
const PAGES: [u8; 9] = [0x01, 0x02, 0x07, CACHING, CONTROL, 0x18, 0x19, 0x1A, 0x1C];
/// Byte 0 of a page: its values can be saved.
const SAVEABLE: u8 = 0x80;
/// Byte 2 of the caching page: write cache enable.
const WCE: u8 = 0x04;
/// Byte 2 of the control page: sense data in descriptor format.
const D_SENSE: u8 = 0x04;
/// Byte 2 of the control page: no log parameter is saved by itself.
const GLTSD: u8 = 0x02;

/// What can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) write_cache: bool,
    pub(super) descriptor_sense: bool,
}

/// Which of its values a page is asked for (SPC-4 table 171).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    Changeable,
    Default,
    Saved,
}

impl Values {
    /// From the PC field.
    fn from_control(control: u8) -> Values {
        match control & 0x03 {
            0 => Values::Current,
            1 => Values::Changeable,
            2 => Values::Default,
            _ => Values::Saved,
        }
    }
}

/// Whether a CDB is the ten-byte form.
fn is_ten(operation: &Operation) -> bool {
    operation.usage.len() == 10
}

pub(super) fn mode_sense(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let no_descriptor = task.byte(1) & 0x08 != 0;
    let long = task.byte(1) & 0x10 != 0;
    let values = Values::from_control(task.byte(2) >> 6);
    let (page, subpage) = (task.byte(2) & 0x3F, task.byte(3));
    if !matches!(subpage, 0 | ALL_SUBPAGES) {
        return Err(SenseData::invalid_field(3, None));
    }
    let mut pages = Vec::new();
    for code in PAGES {
        if page == ALL_PAGES || page == code {
            pages.extend_from_slice(&target.mode_page(code, values));
        }
    }
    if pages.is_empty() {
        return Err(SenseData::invalid_field(2, Some(5)));
    }
    let descriptor = match (no_descriptor, long) {
        (true, _) => Vec::new(),
        (false, true) => target.long_block_descriptor().to_vec(),
        (false, false) => target.short_block_descriptor().to_vec(),
    };
    let mut specific = 0x10; // DPOFUA
    if target.disk.is_write_protected() {
        specific |= 0x80; // WP
    }
    let after = descriptor.len() + pages.len();
    let mut data = if is_ten(operation) {
        let [high, low] = (6 + after as u16).to_be_bytes();
        let long = u8::from(long && !no_descriptor);
        vec![high, low, 0, specific, long, 0, 0, descriptor.len() as u8]
    } else {
        vec![3 + after as u8, 0, specific, descriptor.len() as u8]
    };
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    task.reply(&data, operation.length(task.cdb))
}

pub(super) fn mode_select(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let page_format = task.byte(1) & 0x10 != 0;
    let save = task.byte(1) & 0x01 != 0;
    let list = task.parameters(operation.length(task.cdb))?;
    if list.is_empty() {
        return Ok(());
    }
    if !page_format {
        // Without PF the list would be in a format of the vendor's, and there is none.
        return Err(SenseData::invalid_field(1, Some(4)));
    }
    let settings = target.checked_mode_list(&list, is_ten(operation))?;
    if settings != target.settings() {
        let write_cache = settings.write_cache;
        target.disk.set_write_cache(write_cache).map_err(|_| SenseData::WRITE_ERROR)?;
        target.descriptor_sense = settings.descriptor_sense;
        target.attentions.raise(Some(task.initiator), 0x2A, 0x01);
    }
    if save {
        target.saved_settings = settings;
    }
    Ok(())
}

impl Target {
    fn settings(&self) -> Settings {
        Settings { write_cache: self.disk.write_cache(), descriptor_sense: self.descriptor_sense }
    }

    /// Looks through a parameter list without changing anything; gives what it sets, and what it
    /// leaves as it is.
    fn checked_mode_list(&self, list: &[u8], ten: bool) -> Result<Settings, SenseData> {
        let truncated = SenseData::PARAMETER_LIST_LENGTH_ERROR;
        let (header, medium_type, descriptor_length) = if ten { (8, 2, 7) } else { (4, 1, 3) };
        if list.len() < header {
            return Err(truncated);
        }
        if list[medium_type] != 0 {
            return Err(SenseData::invalid_parameter(medium_type));
        }
        let long = ten && list[4] & 0x01 != 0;
        let length = usize::from(list[descriptor_length]);
        let high_byte = ten && list[6] != 0;
        if high_byte || !matches!((long, length), (_, 0) | (false, 8) | (true, 16)) {
            return Err(SenseData::invalid_parameter(descriptor_length));
        }
        let mut at = header + length;
        let descriptor = list.get(header..at).ok_or(truncated)?;
        self.check_block_descriptor(descriptor, header)?;

        let mut settings = self.settings();
        while at < list.len() {
            let code = list[at] & !SAVEABLE;
            // Bit 6, subpage format, makes a code that no page has.
            if !PAGES.contains(&code) {
                return Err(SenseData::invalid_parameter(at));
            }
            let current = self.mode_page(code, Values::Current);
            let changeable = self.mode_page(code, Values::Changeable);
            let page_length = *list.get(at + 1).ok_or(truncated)?;
            if page_length != current[1] {
                return Err(SenseData::invalid_parameter(at + 1));
            }
            let page = list.get(at..at + current.len()).ok_or(truncated)?;
            for byte in 2..page.len() {
                if (page[byte] ^ current[byte]) & !changeable[byte] != 0 {
                    return Err(SenseData::invalid_parameter(at + byte));
                }
            }
            match code {
                CACHING => settings.write_cache = page[2] & WCE != 0,
                CONTROL => settings.descriptor_sense = page[2] & D_SENSE != 0,
                _ => {}
            }
            at += page.len();
        }
        Ok(settings)
    }

    /// A block descriptor may say what is so, or zero blocks for no change; nothing else.
    fn check_block_descriptor(&self, descriptor: &[u8], at: usize) -> Result<(), SenseData> {
        let current = match descriptor.len() {
            16 => self.long_block_descriptor().to_vec(),
            8 => self.short_block_descriptor().to_vec(),
            _ => return Ok(()),
        };
        let count_bytes = descriptor.len() / 2;
        let same_size = descriptor[count_bytes..] == current[count_bytes..];
        let no_count = descriptor[..count_bytes].iter().all(|byte| *byte == 0);
        if !same_size {
            return Err(SenseData::invalid_parameter(at + count_bytes));
        }
        if !no_count && descriptor[..count_bytes] != current[..count_bytes] {
            return Err(SenseData::invalid_parameter(at));
        }
        Ok(())
    }

    /// SBC-3 6.5.2.2: all ones where the number of blocks does not fit.
    fn short_block_descriptor(&self) -> [u8; 8] {
        let mut descriptor = [0; 8];
        let blocks = u32::try_from(self.blocks()).unwrap_or(u32::MAX);
        descriptor[..4].copy_from_slice(&blocks.to_be_bytes());
        // Byte 4 is reserved; a block size fits the three bytes after it.
        descriptor[4..].copy_from_slice(&self.config.block_size.to_be_bytes());
        descriptor
    }

    /// SBC-3 6.5.2.3.
    fn long_block_descriptor(&self) -> [u8; 16] {
        let mut descriptor = [0; 16];
        descriptor[..8].copy_from_slice(&self.blocks().to_be_bytes());
        descriptor[12..].copy_from_slice(&self.config.block_size.to_be_bytes());
        descriptor
    }

    /// A page of [`PAGES`], with its two header bytes.
    fn mode_page(&self, code: u8, values: Values) -> Vec<u8> {
        let mut page = match code {
            // Read-write error recovery (SBC-3 6.5.10): AWRE, ARRE.
            0x01 => vec![0x01, 0x0A, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // Disconnect-reconnect (SPL 9.2.5): no limit to anything.
            0x02 => {
                let mut page = vec![0; 16];
                [page[0], page[1]] = [0x02, 0x0E];
                page
            }
            // Verify error recovery (SBC-3 6.5.12).
            0x07 => vec![0x07, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // Caching (SBC-3 6.5.6).
            CACHING => {
                let mut page = vec![0; 20];
                page[0] = CACHING;
                page[1] = 0x12;
                page
            }
            // Control (SPC-4 7.5.8): unrestricted reordering.
            CONTROL => vec![CONTROL, 0x0A, GLTSD, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
            // Protocol specific logical unit (SPL 9.2.6): SAS.
            0x18 => vec![0x18, 0x06, 0x06, 0, 0, 0, 0, 0],
            // Protocol specific port (SPL 9.2.7): SAS, I_T nexus loss time 2000 ms.
            0x19 => vec![0x19, 0x06, 0x06, 0, 0x07, 0xD0, 0, 0],
            // Power condition (SPC-4 7.5.13): no timer runs.
            0x1A => {
                let mut page = vec![0; 40];
                [page[0], page[1]] = [0x1A, 0x26];
                page
            }
            // Informational exceptions control (SPC-4 7.5.14): report on request only.
            _ => vec![0x1C, 0x0A, 0x00, 0x06, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        if values == Values::Changeable {
            page[2..].fill(0);
        }
        let settings = match values {
            Values::Current => self.settings(),
            Values::Changeable => Settings { write_cache: true, descriptor_sense: true },
            Values::Default => self.default_settings,
            Values::Saved => self.saved_settings,
        };
        let set = |set: bool, bit: u8| if set { bit } else { 0 };
        match code {
            CACHING => page[2] |= set(settings.write_cache, WCE),
            CONTROL => page[2] |= set(settings.descriptor_sense, D_SENSE),
            _ => return page,
        }
        page[0] |= SAVEABLE;
        page
    }
}
