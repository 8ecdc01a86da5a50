//! IOCLogInfo in words: why the firmware says what it says (mpi_log_sas.h; controllers.md 2.8).
//!
//! Bits 31:28 are the bus type, for SAS (3) bits 27:24 the part of the firmware that speaks,
//! 23:16 a code and 15:0 a subcode. People paste these numbers into search engines, the harmless
//! ones most of all: [`LogInfo::is_benign`] knows those.

use core::fmt;

/// IOCLogInfo of a reply, valid if IOCStatus has its bit 15 set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LogInfo(pub u32);

/// The part of a SAS controller's firmware that wrote the log info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Originator {
    /// The I/O processor: messages, configuration.
    Iop,
    /// The protocol layer: SAS and SATA.
    ProtocolLayer,
    /// Integrated RAID.
    IntegratedRaid,
    /// One this crate does not know.
    Unknown(u8),
}

impl fmt::Display for Originator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iop => f.write_str("IOP"),
            Self::ProtocolLayer => f.write_str("PL"),
            Self::IntegratedRaid => f.write_str("IR"),
            Self::Unknown(number) => write!(f, "originator {number}"),
        }
    }
}

impl LogInfo {
    /// SATA NCQ: all commands of the disk flushed after one error; they may go again at once.
    pub const NCQ_FLUSH: Self = Self(0x3108_0000);
    /// The device is missing and its delay runs.
    pub const DEVICE_MISSING_DELAY: Self = Self(0x3117_0000);
    /// A walk over devices has reached its end.
    pub const NO_MORE_DEVICES: Self = Self(0x310f_0400);

    /// Bits 31:28: 0 none, 1 parallel SCSI, 2 Fibre Channel, 3 SAS, 4 iSCSI.
    #[must_use]
    pub const fn bus_type(self) -> u8 {
        (self.0 >> 28) as u8
    }

    /// The bus type in words.
    #[must_use]
    pub const fn bus_name(self) -> &'static str {
        match self.bus_type() {
            0 => "none",
            1 => "SCSI",
            2 => "FC",
            3 => "SAS",
            4 => "iSCSI",
            _ => "unknown bus",
        }
    }

    /// Who wrote it, on SAS.
    #[must_use]
    pub const fn originator(self) -> Originator {
        match (self.0 >> 24) as u8 & 0xf {
            0 => Originator::Iop,
            1 => Originator::ProtocolLayer,
            2 => Originator::IntegratedRaid,
            other => Originator::Unknown(other),
        }
    }

    /// The code, bits 23:16.
    #[must_use]
    pub const fn code(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The subcode, bits 15:0.
    #[must_use]
    pub const fn subcode(self) -> u16 {
        self.0 as u16
    }

    /// Whether it is known to mean nothing bad: the normal end of a walk over configuration pages.
    #[must_use]
    pub const fn is_benign(self) -> bool {
        matches!(self.0, 0 | 0x310f_0400 | 0x3003_011d)
    }

    /// The code in words; `None` if it is not SAS or not in the tables.
    #[must_use]
    pub const fn code_text(self) -> Option<&'static str> {
        if self.bus_type() != 3 {
            return None;
        }
        match self.originator() {
            Originator::Iop => iop_code(self.code()),
            Originator::ProtocolLayer => pl_code(self.code()),
            Originator::IntegratedRaid => ir_code(self.code()),
            Originator::Unknown(_) => None,
        }
    }

    /// The subcode in words; `None` if there is none or it is not in the tables.
    #[must_use]
    pub const fn subcode_text(self) -> Option<&'static str> {
        if self.bus_type() != 3 {
            return None;
        }
        match (self.originator(), self.code(), self.subcode()) {
            (Originator::Iop, 0x03, subcode) => iop_config(subcode),
            (Originator::Iop, 0x07, subcode) => iop_target(subcode),
            (Originator::ProtocolLayer, 0x01, subcode) => open_failure(subcode),
            (Originator::ProtocolLayer, 0x0f, subcode) => pl_config(subcode),
            // A reset or an abort tells in its subcode what led to it.
            (Originator::ProtocolLayer, 0x11 | 0x12, subcode) => pl_cause(subcode),
            (Originator::ProtocolLayer, 0x20, subcode) => enclosure(subcode),
            (Originator::IntegratedRaid, 0x01, subcode) => raid_action(subcode),
            _ => None,
        }
    }
}

const fn iop_code(code: u8) -> Option<&'static str> {
    Some(match code {
        0x01 => "invalid SAS address",
        0x03 => "no such configuration page",
        0x04 => "diagnostic message failed",
        0x05 => "task terminated",
        0x06 => "enclosure management failed",
        0x07 => "target mode",
        0x08 => "time stamp event",
        _ => return None,
    })
}

const fn iop_config(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0100 => "route table entry not found",
        0x011d => "end of the pages asked for",
        0x0200 => "invalid page number",
        0x0300 => "invalid page address form",
        0x0400 => "invalid page type",
        0x0500 => "device not mapped",
        0x0600 => "persistent page not found",
        0x0700 => "default page not found",
        0xe000 => "firmware upload: no flash",
        0xe001 => "firmware upload: unknown image type",
        0xe002 => "firmware upload: wrong image size",
        0xe003 => "firmware upload: whole flash failed",
        0xe004 => "firmware upload: region failed",
        0xe005 => "firmware upload: DMA failed",
        _ => return None,
    })
}

const fn iop_target(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0001 => "target assist terminated",
        0x0002 => "target status send terminated",
        0x0003 => "all commands aborted",
        0x0004 => "one command aborted",
        0x0005 => "one command aborted by request",
        _ => return None,
    })
}

const fn pl_code(code: u8) -> Option<&'static str> {
    Some(match code {
        0x01 => "connection could not be opened",
        0x02 => "invalid scatter-gather list",
        0x03 => "frame with wrong offset or length",
        0x04 => "frame transfer error",
        0x05 => "transmitter lost its connection",
        0x06 => "SATA disk reported an error (not NCQ)",
        0x07 => "SATA error log could not be read",
        0x08 => "SATA commands flushed after an NCQ error",
        0x09 => "SATA error in a set device bits frame",
        0x0a => "invalid message in the receiver",
        0x0b => "receive context error",
        0x0c => "error in the frame being received",
        0x0d => "SATA link down",
        0x0e => "SATA initialisation with commands outstanding",
        0x0f => "no such configuration page",
        0x10 => "SATA initialisation timed out",
        0x11 => "device reset",
        0x12 => "command aborted",
        0x13 => "command not yet executed",
        0x14 => "command executed",
        0x15 => "persistent reservation by another owner",
        0x16 => "transmit DMA aborted while opening",
        0x17 => "device missing, delay running",
        0x18 => "command cancelled after R_ERR",
        0x20 => "enclosure management failed",
        _ => return None,
    })
}

/// Why a connection was not opened; also subcodes 0x0100 to 0x01FF of resets and aborts.
const fn open_failure(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x01 => "no destination, timed out",
        0x02 => "pathway blocked",
        0x03 | 0x04 => "reserved (continue)",
        0x05 | 0x06 => "reserved (initialize)",
        0x07 | 0x08 => "reserved (stop)",
        0x09 => "open reject (retry)",
        0x0a => "break received",
        0x0c => "open timed out",
        0x0e => "device table access failed",
        0x11 => "bad destination",
        0x12 => "link rate not supported",
        0x13 => "protocol not supported",
        0x14 => "zone violation",
        0x15..=0x17 => "reserved (abandon)",
        0x18 => "STP resources busy",
        0x19 => "wrong destination",
        0x1a => "open reject (retry) timed out",
        0x1b => "path blocked, timed out",
        0x1c => "arbitration wait timer at its maximum",
        _ => return None,
    })
}

const fn pl_config(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0001 => "protocol layer not ready yet",
        0x0100 => "invalid page type",
        0x0200 => "invalid number of phys",
        0x0300 => "case not handled",
        0x0400 => "no device found",
        0x0500 => "invalid page address form",
        0x0600 => "invalid phy",
        0x0700 => "no owner found",
        _ => return None,
    })
}

const fn pl_cause(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0100 => "after a connection could not be opened",
        0x0101 => "after an open without destination",
        0x0102 => "after a SATA link rate too high",
        0x0103 => "after a link rate not supported",
        0x0104 => "after a break during open",
        0x010c => "after an open timeout",
        0x0114 => "after a zone violation",
        0x011a => "after open reject (retry) timed out",
        0x011b => "after the path was blocked",
        0x011c => "after the arbitration wait timer ran to its maximum",
        0x0120 => "by a target or bus reset",
        0x0130..=0x013f => "by the transport layer",
        0x0140..=0x014f => "by the port layer",
        0x0200..=0x02ff => "after an invalid scatter-gather list",
        0x0300..=0x03ff => "after a frame with wrong offset or length",
        0x0400..=0x04ff => "after a frame transfer error",
        0x0500..=0x05ff => "after the transmitter lost its connection",
        0x0600..=0x06ff => "after a SATA disk reported an error (not NCQ)",
        0x0700..=0x07ff => "after the SATA error log could not be read",
        0x0800..=0x08ff => "after an NCQ error",
        0x0900..=0x09ff => "after an error in a set device bits frame",
        0x0a00..=0x0aff => "after an invalid message in the receiver",
        0x0b00..=0x0bff => "after a receive context error",
        0x0c00..=0x0cff => "after an error in the frame being received",
        0x0d00..=0x0dff => "after the SATA link went down",
        0x0e01 => "by discovery, to reset a remote enclosure processor",
        0x0e00..=0x0eff => "by discovery, to initialise a SATA disk",
        0x0f00..=0x0fff => "after a second open",
        0x1000 => "after SATA initialisation timed out",
        0x2000 => "after a break on a SATA connection",
        0x3000 => "after a break on a stuck link",
        0x4000 => "after a break on a stuck link in arbitration",
        0x5000 => "after an incomplete break",
        _ => return None,
    })
}

const fn enclosure(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0000 => "no SMP frame",
        0x0010 => "SMP read failed",
        0x0020 => "SMP write failed",
        0x0040 => "not supported by the enclosure",
        0x0050 => "address mode not supported",
        0x0060 => "invalid slot",
        0x0070 => "no SGPIO",
        0x0080 => "GPIO not configured",
        0x0090 => "no GPIO frame",
        0x00a0 => "GPIO configuration page failed",
        0x00b0 => "no frame for the SES command",
        0x00c0 => "SES command failed",
        0x00d0 => "SES retries exhausted",
        0x00e0 => "no frame for the SMP command",
        0x0100 => "no enclosure processor",
        0x0101 => "enclosure processor takes one message at a time",
        0x0103 => "enclosure processor busy",
        0x0104 => "enclosure processor did not acknowledge",
        0x0105..=0x010b => "enclosure processor answered badly",
        0x010c..=0x010e => "command not supported by the enclosure processor",
        _ => return None,
    })
}

const fn ir_code(code: u8) -> Option<&'static str> {
    Some(match code {
        0x01 => "RAID action",
        _ => return None,
    })
}

const fn raid_action(subcode: u16) -> Option<&'static str> {
    Some(match subcode {
        0x0001 => "create volume: invalid length",
        0x0002 => "create volume: exists already",
        0x0003 => "create volume: no slot left",
        0x0004 => "create volume: DMA failed",
        0x0005 => "create volume: invalid type",
        0x0006 => "create volume: manufacturing page 4 failed",
        0x0007 => "create volume: internal structure error",
        0x0010 => "activate volume: is active",
        0x0011 => "activate volume: invalid type",
        0x0012 => "activate volume: too many volumes",
        0x0013 => "activate volume: id in use",
        0x0014 => "activate volume: failed",
        0x0015 => "activate volume: import failed",
        0x0016 => "activate volume: too many disks",
        0x0020 => "create physical disk: too many disks",
        0x0021 => "create physical disk: invalid length",
        0x0022 => "create physical disk: DMA failed",
        0x0023 => "create physical disk: invalid address",
        0x0024 => "create physical disk: configuration page failed",
        0x0030 => "disk unsuitable: RAID is disabled",
        0x0031 => "disk unsuitable: INQUIRY failed",
        0x0032 => "disk unsuitable: not a disk",
        0x0033 => "disk unsuitable: removable",
        0x0034 => "disk unsuitable: older than SCSI-2",
        0x0035 => "disk unsuitable: no 48-bit addresses",
        0x0036 => "disk unsuitable: not 512 bytes per block",
        0x0037 | 0x0038 => "disk unsuitable: volume type",
        0x0039 => "disk unsuitable: too small",
        0x003a => "disk unsuitable: not found",
        0x003b => "disk unsuitable: number of members",
        0x003c => "disk unsuitable: stripe size",
        0x003d => "disk unsuitable: volume type not supported",
        0x0050 => "disk firmware update: under way",
        0x0051 => "disk firmware update: invalid state",
        0x0052 => "disk firmware update: invalid timeout",
        0x0053 => "disk firmware update: no timer",
        0x0054 => "disk firmware update: configuration page failed",
        0x0055 => "disk firmware update: port timeouts needed",
        0x0056 => "disk firmware update: no memory for a page",
        0x0081 => "command aborted",
        _ => return None,
    })
}

impl fmt::Display for LogInfo {
    /// For example `0x31110d00: SAS PL: device reset, after the SATA link went down`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}: ", self.0)?;
        if self.0 == 0 {
            return f.write_str("nothing");
        }
        f.write_str(self.bus_name())?;
        if self.bus_type() != 3 {
            return write!(f, ", data {:#09x}", self.0 & 0x0fff_ffff);
        }
        write!(f, " {}: ", self.originator())?;
        match self.code_text() {
            Some(text) => f.write_str(text)?,
            None => write!(f, "code {:#04x}", self.code())?,
        }
        match (self.subcode_text(), self.subcode()) {
            (Some(text), _) => write!(f, ", {text}")?,
            (None, 0) => {}
            (None, subcode) => write!(f, ", subcode {subcode:#06x}")?,
        }
        if self.is_benign() { f.write_str(" (harmless)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_numbers_people_paste_are_explained() {
        for (number, expected) in [
            (0x3111_0d00, "0x31110d00: SAS PL: device reset, after the SATA link went down"),
            (
                0x3112_0303,
                "0x31120303: SAS PL: command aborted, after a frame with wrong offset or length",
            ),
            (
                0x3112_0100,
                "0x31120100: SAS PL: command aborted, after a connection could not be opened",
            ),
            (0x3112_010c, "0x3112010c: SAS PL: command aborted, after an open timeout"),
            (0x3108_0000, "0x31080000: SAS PL: SATA commands flushed after an NCQ error"),
            (0x3117_0000, "0x31170000: SAS PL: device missing, delay running"),
            (
                0x310f_0400,
                "0x310f0400: SAS PL: no such configuration page, no device found (harmless)",
            ),
            (
                0x3003_011d,
                "0x3003011d: SAS IOP: no such configuration page, end of the pages asked for \
                 (harmless)",
            ),
            (0x3201_0081, "0x32010081: SAS IR: RAID action, command aborted"),
        ] {
            assert_eq!(LogInfo(number).to_string(), expected);
        }
    }

    #[test]
    fn unknown_numbers_keep_their_digits() {
        assert_eq!(
            LogInfo(0x3f99_1234).to_string(),
            "0x3f991234: SAS originator 15: code 0x99, subcode 0x1234"
        );
        assert_eq!(LogInfo(0x2012_3456).to_string(), "0x20123456: FC, data 0x0123456");
        assert_eq!(LogInfo(0).to_string(), "0x00000000: nothing");
    }

    #[test]
    fn only_the_end_of_a_walk_is_harmless() {
        assert!(LogInfo::NO_MORE_DEVICES.is_benign());
        assert!(LogInfo(0x3003_011d).is_benign());
        assert!(!LogInfo::NCQ_FLUSH.is_benign());
        assert!(!LogInfo(0x3112_0303).is_benign());
    }

    #[test]
    fn every_number_can_be_printed() {
        for code in 0..=0xff_u32 {
            for originator in 0..4_u32 {
                for subcode in [0, 0x100, 0x0e01, 0xffff] {
                    let info = LogInfo(0x3000_0000 | originator << 24 | code << 16 | subcode);
                    assert!(info.to_string().starts_with("0x3"));
                }
            }
        }
    }
}
