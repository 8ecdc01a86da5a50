//! SMP passthrough to the expander (mpi2_sas.h; functions as in SAS-2 10.4.3).

use super::super::message::{Message, byte, le16, le32, le64};
use super::super::queues::Request;
use super::super::{Model, ioc_status};
use crate::memory::DeviceMemory;
use crate::model::devices::{CONTROLLER_SAS_ADDRESS, Devices, Expander};
use crate::model::pages;

/// The expander is not there, or the request is none.
const SMP_REQUEST_FAILED: u16 = 0x90;
/// `PassthroughFlags`: the data is in the message itself.
const IMMEDIATE: u8 = 0x80;
/// `SASStatus` (`MPI2_SASSTATUS_UNKNOWN_ERROR`).
const UNKNOWN_ERROR: u8 = 0x01;

/// Functions.
const REPORT_GENERAL: u8 = 0x00;
const REPORT_MANUFACTURER_INFORMATION: u8 = 0x01;
const DISCOVER: u8 = 0x10;
const REPORT_PHY_ERROR_LOG: u8 = 0x11;
const PHY_CONTROL: u8 = 0x91;
/// Function results.
const ACCEPTED: u8 = 0x00;
const UNKNOWN_FUNCTION: u8 = 0x01;
const PHY_DOES_NOT_EXIST: u8 = 0x10;
const UNKNOWN_PHY_OPERATION: u8 = 0x11;

impl Model {
    /// Answers an SMP passthrough request, in 0x1c bytes.
    pub(super) fn smp_passthrough(
        &mut self,
        memory: &dyn DeviceMemory,
        request: &Request,
    ) -> Message {
        let frame = &request.frame;
        let message = Message::new(0x1c, byte(frame, 3)).with(0, &frame[..2]);
        if byte(frame, 0) & IMMEDIATE != 0 {
            return message.with16(0x0e, ioc_status::INVALID_FIELD);
        }
        let there = self.devices.expander().filter(|one| one.sas_address() == le64(frame, 0x10));
        let Some(expander) = there else {
            return message.with8(0x0d, UNKNOWN_ERROR).with16(0x0e, SMP_REQUEST_FAILED);
        };
        let (out, into) = buffers(frame, self.chip.ieee());
        let mut asked = vec![0; usize::from(le16(frame, 4)).min(out.1 as usize)];
        if memory.read(out.0, &mut asked).is_err() {
            return message.with16(0x0e, ioc_status::INVALID_SGL);
        }
        if byte(&asked, 0) != 0x40 {
            return message.with8(0x0d, UNKNOWN_ERROR).with16(0x0e, SMP_REQUEST_FAILED);
        }
        let mut answer = respond(&self.devices, pages::rate(&self.chip), expander, &asked);
        if byte(&answer, 2) == ACCEPTED && byte(&asked, 1) == PHY_CONTROL {
            self.control_phy(byte(&asked, 9), byte(&asked, 10), &mut answer);
        }
        let bytes = answer.len().min(into.1 as usize);
        if memory.write(into.0, &answer[..bytes]).is_err() {
            return message.with16(0x0e, ioc_status::INVALID_SGL);
        }
        message.with16(4, answer.len() as u16).with(0x18, &answer[..4])
    }

    /// Link reset, hard reset and the clearing of the error log are what phys do.
    fn control_phy(&mut self, phy: u8, operation: u8, answer: &mut [u8]) {
        let slot = self.devices.phys().saturating_add(phy);
        match operation {
            // Hard reset.
            2 => {
                if let Some(device) = self.devices.at_slot(slot) {
                    // A failed flush leaves the disk as it was; there is nobody to tell.
                    let _ = device.target.reset();
                }
            }
            // Nothing, link reset, disable, clear error log, clear affiliation.
            0 | 1 | 3 | 5 | 6 => {}
            _ => answer[2] = UNKNOWN_PHY_OPERATION,
        }
    }
}

/// Address and length of the request and of the room for the response.
fn buffers(frame: &[u8], ieee: bool) -> ((u64, u32), (u64, u32)) {
    let mut at = 0x20;
    let mut next = || {
        if ieee {
            at += 16;
            return (le64(frame, at - 16), le32(frame, at - 8));
        }
        let word = le32(frame, at);
        let wide = word >> 24 & 2 != 0;
        at += if wide { 12 } else { 8 };
        let place = if wide { le64(frame, at - 8) } else { le32(frame, at - 4).into() };
        (place, word & 0x00ff_ffff)
    };
    (next(), next())
}

/// The response frame, without its CRC.
fn respond(devices: &Devices, rate: u8, expander: Expander, asked: &[u8]) -> Vec<u8> {
    let function = byte(asked, 1);
    let mut answer = vec![0x41, function, ACCEPTED, 0];
    let phy = byte(asked, 9);
    let names_phy = matches!(function, DISCOVER | REPORT_PHY_ERROR_LOG | PHY_CONTROL);
    if names_phy && phy >= expander.phys() {
        answer[2] = PHY_DOES_NOT_EXIST;
        return answer;
    }
    match function {
        REPORT_GENERAL => {
            // Expander change count 1, 1,024 route indexes, no configuration wanted.
            answer.extend([0, 1, 4, 0, 0, expander.phys(), 0, 0]);
            answer.extend(expander.sas_address().to_be_bytes());
            answer.resize(28, 0);
        }
        REPORT_MANUFACTURER_INFORMATION => {
            // The format of SAS 1.1: what it is made of follows.
            answer.extend([0, 1, 0, 0, 1, 0, 0, 0]);
            answer.extend(b"FUSION  ");
            answer.extend(b"SOFTWARE EXPAND ");
            answer.extend(b"0001");
            answer.extend(b"LSI     ");
            answer.extend([0x02, 0x23, 3, 0]);
            answer.resize(60, 0);
        }
        DISCOVER => discover(devices, rate, expander, phy, &mut answer),
        REPORT_PHY_ERROR_LOG => {
            answer.extend([0, 1, 0, 0, 0, phy]);
            answer.resize(28, 0);
        }
        PHY_CONTROL => {}
        _ => answer[2] = UNKNOWN_FUNCTION,
    }
    answer
}

/// DISCOVER's answer, 52 bytes: who is attached to a phy.
fn discover(devices: &Devices, rate: u8, expander: Expander, phy: u8, answer: &mut Vec<u8>) {
    answer.extend([0, 1, 0, 0, 0, phy, 0, 0]);
    let slot = devices.phys() + phy;
    // Kind, rate, initiator and target protocols, address, phy; routing of the own phy.
    let (kind, speed, initiator, target, address, its_phy, routing) = if phy >= expander.bays {
        let own = devices.wide_port() + (phy - expander.bays);
        (1, rate, 0x0e, 0, CONTROLLER_SAS_ADDRESS, own, 1)
    } else if let Some(device) = devices.slot(slot) {
        let sata = device.target.config().sata;
        let speed = if sata { rate.min(0x0a) } else { rate };
        (1, speed, 0, if sata { 0x01 } else { 0x08 }, devices.sas_address(device), 0, 0)
    } else {
        (0, 0, 0, 0, 0, 0, 0)
    };
    answer.extend([(kind as u8) << 4, speed, initiator, target]);
    answer.extend(expander.sas_address().to_be_bytes());
    answer.extend(u64::to_be_bytes(address));
    answer.extend([its_phy, 0, 0, 0, 0, 0, 0, 0]);
    // Programmed and hardware rates, change count, virtual phy, routing.
    answer.extend([0x88, rate << 4 | rate, 0, 0, routing, 0, 0, 0]);
    answer.resize(52, 0);
}
