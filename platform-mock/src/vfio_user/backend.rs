//! What a client's messages do to a card.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError};

use vfio_user::{DmaMapFlags, DmaUnmapFlags, ServerBackend};

use crate::inbox::Write;
use crate::model::{Ioc, Model};

use super::card::{Card, Shared, lock};
use super::config_space::{Behind, ConfigSpace};
use super::guest_memory::Rights;
use super::interrupts::index;
use super::{CONFIG_REGION, Event};

/// The system interface registers are the first KiB of their BAR; what follows is the MSI-X
/// table, which clients keep themselves.
const REGISTERS_END: u64 = 0x400;
/// The chip's front (doorbell, resets, interrupts) has its last register here; queues' follow.
const FRONT_END: u32 = 0x34;
const DOORBELL: u32 = 0x00;
const INTERRUPT_STATUS: u32 = 0x30;

/// Register writes that wait for the firmware at most.
const MOST_WRITES: usize = 1 << 12;
/// Refusals of one client's requests that are told of; a client can ask for nonsense without end.
const MOST_REFUSALS: u32 = 16;
/// Resets by one client that are told of, likewise.
const MOST_RESETS: u32 = 1000;

/// One client's view of a card.
pub(crate) struct Backend<'a> {
    card: Arc<Card>,
    config: ConfigSpace,
    tell: &'a mut dyn FnMut(Event),
    /// Memory came without a descriptor, so that the card cannot reach it.
    unreachable: u64,
    warned: bool,
    refusals: u32,
    resets: u32,
}

impl<'a> Backend<'a> {
    pub(crate) fn new(card: Arc<Card>, tell: &'a mut dyn FnMut(Event)) -> Self {
        let config = ConfigSpace::new(card.chip());
        Self { card, config, tell, unreachable: 0, warned: false, refusals: 0, resets: 0 }
    }

    fn shared(&self) -> &Shared {
        &self.card.shared
    }

    fn refuse(&mut self, what: String) -> io::Error {
        self.refuse_as(io::ErrorKind::InvalidInput, what)
    }

    fn refuse_as(&mut self, kind: io::ErrorKind, what: String) -> io::Error {
        self.refusals = self.refusals.saturating_add(1);
        match self.refusals {
            ..=MOST_REFUSALS => (self.tell)(Event::Refused(what.clone())),
            count if count == MOST_REFUSALS + 1 => (self.tell)(Event::Notice(
                "the client goes on asking for what cannot be; it is refused without further word"
                    .into(),
            )),
            _ => {}
        }
        io::Error::new(kind, what)
    }

    /// Does what the command register says.
    fn obey_command(&self) {
        let memory = self.shared().memory.write();
        memory.unwrap_or_else(PoisonError::into_inner).bus_master = self.config.bus_master();
        lock(&self.shared().interrupts).line_disabled = self.config.line_disabled();
    }

    /// Makes the card what it is after power-on, as seen from the bus; its disks are as they were.
    pub(crate) fn power_on(&mut self) {
        // First of all, so that nothing that is still queued meets memory that it may not reach.
        self.card.with_model(|model| model.bus_reset());
        self.config = ConfigSpace::new(self.card.chip());
        self.obey_command();
    }

    /// The client has gone: nothing of its is touched any more.
    pub(crate) fn leave(&mut self) {
        self.power_on();
        self.shared().memory.write().unwrap_or_else(PoisonError::into_inner).clear();
        lock(&self.shared().interrupts).clear();
    }

    /// Says so, once, if a driver starts up a card that can reach no memory.
    fn warn_of_no_memory(&mut self) {
        if self.warned || self.unreachable == 0 {
            return;
        }
        let memory = self.shared().memory.read().unwrap_or_else(PoisonError::into_inner);
        let none = memory.is_empty();
        drop(memory);
        if none {
            self.warned = true;
            (self.tell)(Event::Notice(
                "the client shares none of its memory, so the card will fault at its first access to it; \
                 start QEMU with -object memory-backend-memfd,id=m,size=...,share=on and -machine memory-backend=m"
                    .into(),
            ));
        }
    }

    fn read_register(&self, offset: u64, data: &mut [u8]) {
        // Byte and half-word accesses read the whole register, as on the bus, and take their part.
        let first = offset & !3;
        let mut word = [0; 16];
        let words = (offset - first + data.len() as u64).div_ceil(4);
        self.shared().with_model(|model| {
            for (number, part) in word.chunks_exact_mut(4).take(words as usize).enumerate() {
                let value = model.read32((first + number as u64 * 4) as u32);
                part.copy_from_slice(&value.to_le_bytes());
            }
        });
        let skip = (offset - first) as usize;
        data.copy_from_slice(&word[skip..skip + data.len()]);
    }

    fn write_register(&self, offset: u64, data: &[u8]) {
        let shared = self.shared();
        let (value, wide) = match *data {
            [a, b, c, d] => (u32::from_le_bytes([a, b, c, d]).into(), false),
            [a, b, c, d, e, f, g, h] => (u64::from_le_bytes([a, b, c, d, e, f, g, h]), true),
            // The registers take whole words only; anything else is lost.
            _ => return,
        };
        let write = Write { offset: offset as u32, value, wide };
        if write.offset > FRONT_END {
            // A guest that is faster than the firmware for long waits for it, or the post would
            // grow without end.
            if shared.inbox.post(write) >= MOST_WRITES {
                shared.with_model(|_| ());
            }
            return;
        }
        // A reset counts its time from when it was asked for, so these are not put off.
        shared.with_model(|model| {
            write.apply(model);
            if matches!(write.offset, DOORBELL | INTERRUPT_STATUS) {
                shared.settle(model);
            }
        });
    }

    /// The BAR of a region, if the access lies inside it.
    fn behind(&mut self, region: u32, offset: u64, bytes: usize) -> io::Result<Behind> {
        let bar = self.config.bars().get(region as usize).copied();
        match bar {
            Some(bar) if offset.saturating_add(bytes as u64) <= bar.bytes.into() && bytes <= 8 => {
                Ok(bar.behind)
            }
            _ => Err(self.nothing_there(region, offset, bytes)),
        }
    }

    /// Whether an access of the configuration space lies inside it.
    fn inside_config(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.config.len() as u64 => Ok(()),
            _ => Err(self.nothing_there(CONFIG_REGION, offset, bytes)),
        }
    }

    fn nothing_there(&mut self, region: u32, offset: u64, bytes: usize) -> io::Error {
        self.refuse(format!(
            "the client accessed {bytes} bytes at offset {offset:#x} of region {region}, where there is nothing"
        ))
    }
}

impl ServerBackend for Backend<'_> {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if region == CONFIG_REGION {
            self.inside_config(offset, data.len())?;
            self.config.read(offset, data);
            return Ok(());
        }
        match self.behind(region, offset, data.len())? {
            Behind::Registers if offset + data.len() as u64 <= REGISTERS_END => {
                if offset == u64::from(DOORBELL) && self.config.has_ports(region) {
                    self.shared().with_model(Model::before_port_read);
                }
                self.read_register(offset, data);
            }
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if region == CONFIG_REGION {
            self.inside_config(offset, data.len())?;
            if self.config.write(offset, data) {
                return ServerBackend::reset(self);
            }
            self.obey_command();
            return Ok(());
        }
        if self.behind(region, offset, data.len())? == Behind::Registers
            && offset + data.len() as u64 <= REGISTERS_END
        {
            self.warn_of_no_memory();
            self.write_register(offset, data);
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        let Some(file) = file else {
            // ROM, other devices' registers, or a guest whose memory is not shared.
            self.unreachable = self.unreachable.saturating_add(size);
            return Ok(());
        };
        let rights = Rights {
            read: flags.contains(DmaMapFlags::READ),
            write: flags.contains(DmaMapFlags::WRITE),
        };
        let mapped = {
            let memory = self.shared().memory.write();
            let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
            memory.map(address, size, file, offset, rights)
        };
        mapped.map_err(|error| self.refuse_as(error.kind(), error.to_string()))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        let unmapped = {
            let memory = self.shared().memory.write();
            let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
            if flags.contains(DmaUnmapFlags::UNMAP_ALL) || (address, size) == (0, 0) {
                memory.clear();
                Ok(())
            } else {
                memory.unmap(address, size)
            }
        };
        unmapped.map_err(|error| self.refuse_as(error.kind(), error.to_string()))
    }

    fn reset(&mut self) -> io::Result<()> {
        self.power_on();
        self.resets = self.resets.saturating_add(1);
        match self.resets {
            ..=MOST_RESETS => (self.tell)(Event::Reset),
            count if count == MOST_RESETS + 1 => (self.tell)(Event::Notice(
                "the client resets the device again and again; its further resets are not told of"
                    .into(),
            )),
            _ => {}
        }
        Ok(())
    }

    fn set_irqs(
        &mut self,
        kind: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        let vectors = match kind {
            index::INTX | index::MSI => 1,
            index::MSIX => self.config.msix_vectors().into(),
            // Errors and requests to unplug: never raised, so where they go does not matter.
            _ => return Ok(()),
        };
        let set = lock(&self.shared().interrupts).set(kind, flags, start, count, files, vectors);
        // An unmasked line that is still up has to be told again.
        self.shared().with_model(|_| ());
        set.map_err(|error| self.refuse(error.to_string()))
    }
}
