//! Task management (mpi_init.h, mpi2_init.h, "SCSI Task Management").
//!
//! Commands run whole, so only those can be aborted that are held or have not been fetched. Their
//! replies come before task management's own.

use crate::memory::DeviceMemory;

use super::message::{Message, array, le16, le32};
use super::queues::{Answer, Reply, Request};
use super::scsi::{self, Ending, ScsiIo, ioc_status};
use super::{Model, Transport};

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const TARGET_RESET: u8 = 3;
const RESET_BUS: u8 = 4;
const LUN_RESET: u8 = 5;
const CLEAR_TASK_SET: u8 = 6;
const QUERY_TASK: u8 = 7;
const CLEAR_ACA: u8 = 8;
const QUERY_TASK_SET: u8 = 9;
const QUERY_ASYNC_EVENT: u8 = 0x0a;

const RESPONSE_COMPLETE: u8 = 0x00;
const RESPONSE_NOT_SUPPORTED: u8 = 0x04;
const RESPONSE_SUCCEEDED: u8 = 0x08;
const RESPONSE_INVALID_LUN: u8 = 0x09;

impl Model {
    /// Fetches the commands that a task management request has overtaken, through the doorbell or
    /// the high-priority FIFO (MPI1).
    pub(super) fn fetch_overtaken(&mut self, memory: &dyn DeviceMemory) {
        if let Transport::Mpi1(fifos) = &mut self.transport {
            for command in fifos.fetch_commands(memory) {
                self.put_off(command);
            }
        }
    }

    /// Carries a task management request out and answers it through the queue.
    pub(super) fn task_management(&mut self, memory: &dyn DeviceMemory, request: &Request) {
        let mpi1 = self.chip.is_mpi1();
        let frame = &request.frame;
        let kind = frame[5];
        let address = if mpi1 { u16::from_be_bytes([frame[1], frame[0]]) } else { le16(frame, 0) };
        let lun: [u8; 8] = array(frame, 0x0c);
        let task = if mpi1 { le32(frame, 0x30) } else { le16(frame, 0x30).into() };
        let message = Message::new(if mpi1 { 0x18 } else { 0x1c }, frame[3])
            .with(0, &frame[0..2])
            .with8(5, kind)
            .with(8, if mpi1 { &frame[8..12] } else { &frame[8..10] });
        let rules = self.rules();
        let mut killed = Vec::new();
        let known = match kind {
            ABORT_TASK..=TARGET_RESET | LUN_RESET..=QUERY_TASK => true,
            RESET_BUS => mpi1,
            // Nothing here is ever in an ACA condition, and nobody has asynchronous events to tell.
            CLEAR_ACA | QUERY_TASK_SET | QUERY_ASYNC_EVENT => !mpi1,
            _ => false,
        };
        let message = if !known {
            message.with8(4, RESPONSE_NOT_SUPPORTED)
        } else if kind == RESET_BUS {
            killed.extend(self.held.drain(..));
            for device in self.devices.iter_mut() {
                let _ = device.target.reset();
            }
            message
        } else {
            match scsi::find(&mut self.devices, address, &rules) {
                // QEMU's device resets what is not there without a word.
                Err(ioc_status::DEVICE_NOT_THERE) if mpi1 && kind == TARGET_RESET => message,
                Err(status) => message.with16(0x0e, status),
                Ok(_) if kind != TARGET_RESET && lun != [0; 8] => {
                    message.with8(4, RESPONSE_INVALID_LUN)
                }
                Ok(device) => {
                    let handle = device.handle;
                    let matches = |held: &Request| {
                        let io = ScsiIo::parse(held, &rules);
                        match kind {
                            ABORT_TASK | QUERY_TASK => held.key == task && io.address == address,
                            ABORT_TASK_SET | CLEAR_TASK_SET | LUN_RESET | QUERY_TASK_SET => {
                                io.address == address && io.lun == lun
                            }
                            TARGET_RESET => io.address == address,
                            _ => false,
                        }
                    };
                    if matches!(kind, TARGET_RESET | LUN_RESET) {
                        // A failed flush leaves the disk as it was; there is nobody to tell.
                        let _ = device.target.reset();
                    }
                    let response = match kind {
                        QUERY_TASK | QUERY_TASK_SET if self.held.iter().any(&matches) => {
                            RESPONSE_SUCCEEDED
                        }
                        _ => RESPONSE_COMPLETE,
                    };
                    if !matches!(kind, QUERY_TASK | QUERY_TASK_SET) {
                        if let Transport::Mpi2(rings) = &mut self.transport {
                            killed.extend(rings.withdraw(memory, handle, &matches));
                        }
                        self.held.retain(|held| {
                            let ends = matches(held);
                            if ends {
                                killed.push(*held);
                            }
                            !ends
                        });
                    }
                    message.with8(4, response).with32(0x14, killed.len() as u32)
                }
            }
        };
        let mut replies: Vec<Reply> = killed
            .iter()
            .map(|held| scsi::reply(held, mpi1, &Ending::ended_by_task(mpi1)))
            .collect();
        let answer = Answer::Frame(message);
        let reply = Reply { key: request.key, queue: request.queue, answer };
        // The commands' replies come first: mptscsih and mpt3sas look for the command as soon as they
        // have the task's, and take one that is still there for a task that failed.
        replies.push(reply);
        for reply in replies {
            self.answer(memory, reply);
        }
    }
}
