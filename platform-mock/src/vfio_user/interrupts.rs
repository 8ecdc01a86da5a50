//! Interrupts by event file descriptors: the INTx line, MSI, and MSI-X.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Interrupt kinds by their VFIO index (`VFIO_PCI_INTX_IRQ_INDEX` and on).
pub(crate) mod index {
    pub(crate) const INTX: u32 = 0;
    pub(crate) const MSI: u32 = 1;
    pub(crate) const MSIX: u32 = 2;
    pub(crate) const ERRORS: u32 = 3;
}

const DATA_NONE: u32 = 1;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_MASK: u32 = 1 << 3;
const ACTION_UNMASK: u32 = 1 << 4;
const ACTION_TRIGGER: u32 = 1 << 5;

/// Where interrupts go, as the client has set it up.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    intx: Vec<Option<File>>,
    /// The client masks the line each time it hears of it, until the guest has had a look.
    intx_masked: bool,
    /// The command register says that the line is not to be used.
    pub(crate) line_disabled: bool,
    msi: Vec<Option<File>>,
    msix: Vec<Option<File>>,
    /// The line when it was last looked at: a message goes out when it comes up.
    line: bool,
    /// Messages to send, a bit for each vector.
    waiting: u128,
    /// How often the host was interrupted.
    pub(crate) sent: u64,
}

impl Interrupts {
    /// Carries out a client's request (`VFIO_DEVICE_SET_IRQS`); `vectors` is how many messages the
    /// kind has.
    ///
    /// # Errors
    ///
    /// If it names interrupts that there are not, is no request at all, or brings a descriptor that
    /// nothing can be written to.
    pub(crate) fn set(
        &mut self,
        kind: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
        vectors: u32,
    ) -> io::Result<()> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let end = start.checked_add(count).filter(|end| *end <= vectors);
        let Some(end) = end else {
            return Err(bad(format!(
                "interrupts {start} to {start}+{count} of kind {kind} were named, which has {vectors}"
            )));
        };
        let list = match kind {
            index::INTX => &mut self.intx,
            index::MSI => &mut self.msi,
            index::MSIX => &mut self.msix,
            _ => return Err(bad(format!("there are no interrupts of kind {kind} to set"))),
        };
        let (start, end) = (start as usize, end as usize);
        match flags & (ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER) {
            ACTION_TRIGGER if flags & DATA_EVENTFD != 0 => {
                for file in &files {
                    // The firmware writes to it and must never wait: not for an event whose count
                    // is full, and not for what is no event at all.
                    let flags = fcntl_getfl(file)?;
                    if flags & OFlags::RWMODE == OFlags::RDONLY {
                        return Err(bad("a descriptor for interrupts cannot be written".into()));
                    }
                    fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
                }
                if list.len() < end {
                    list.resize_with(end, || None);
                }
                // A vector without a descriptor is one that the client wants no news of.
                let mut files = files.into_iter();
                for place in &mut list[start..end] {
                    *place = files.next();
                }
                if kind == index::INTX {
                    self.intx_masked = false;
                }
            }
            ACTION_TRIGGER if flags & DATA_NONE != 0 && count == 0 => list.clear(),
            ACTION_TRIGGER if flags & DATA_NONE != 0 => {
                for file in
                    list[start.min(end).min(list.len())..end.min(list.len())].iter().flatten()
                {
                    signal(file);
                }
            }
            ACTION_MASK if kind == index::INTX => self.intx_masked = true,
            // KVM's way of unmasking, without the client. It asks in the other way if this one is
            // refused; were it ignored, the line would stay masked for ever.
            ACTION_UNMASK if flags & DATA_EVENTFD != 0 => {
                return Err(bad("interrupts are unmasked by request, not by a descriptor".into()));
            }
            ACTION_UNMASK if kind == index::INTX => self.intx_masked = false,
            // Messages are masked in the client, which keeps them until then.
            ACTION_MASK | ACTION_UNMASK => {}
            _ => return Err(bad(format!("flags {flags:#x} ask for nothing that is known"))),
        }
        Ok(())
    }

    /// Forgets the client.
    pub(crate) fn clear(&mut self) {
        *self = Self { sent: self.sent, ..Self::default() };
    }

    /// Tells the host: of a line that is up or down, and of messages for these vectors.
    ///
    /// Chips that know nothing of vectors (MPI1) send vector 0 when the line comes up.
    pub(crate) fn deliver(&mut self, line: bool, vectors: u128, knows_vectors: bool) {
        let rose = line && !self.line && !knows_vectors;
        self.line = line;
        self.waiting |= vectors;
        if self.msix.iter().any(Option::is_some) {
            let due = std::mem::take(&mut self.waiting) | u128::from(rose);
            for (vector, file) in self.msix.iter().enumerate().take(128) {
                if due >> vector & 1 != 0
                    && let Some(file) = file
                {
                    signal(file);
                    self.sent += 1;
                }
            }
        } else if let Some(Some(file)) = self.msi.first() {
            if rose || self.waiting != 0 {
                signal(file);
                self.sent += 1;
            }
            self.waiting = 0;
        } else if let Some(Some(file)) = self.intx.first() {
            self.waiting = 0;
            if line && !self.intx_masked && !self.line_disabled {
                signal(file);
                self.intx_masked = true;
                self.sent += 1;
            }
        }
    }
}

/// Adds one to an event's count. A count that is full says what there is to say already, and a
/// client that has gone needs no news.
fn signal(mut file: &File) {
    let _ = file.write(&1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io::Read;

    fn event() -> (File, File) {
        let file = File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        (file.try_clone().unwrap(), file)
    }

    fn count(mut file: &File) -> u64 {
        let mut bytes = [0; 8];
        file.read(&mut bytes).map_or(0, |_| u64::from_ne_bytes(bytes))
    }

    const SET: u32 = ACTION_TRIGGER | DATA_EVENTFD;

    #[test]
    fn a_line_that_stays_up_is_told_again_only_after_an_unmask() {
        let (theirs, ours) = event();
        let mut interrupts = Interrupts::default();
        interrupts.set(index::INTX, SET, 0, 1, vec![theirs], 1).unwrap();
        interrupts.deliver(true, 0, true);
        interrupts.deliver(true, 0, true);
        assert_eq!(count(&ours), 1);
        interrupts.set(index::INTX, ACTION_UNMASK | DATA_NONE, 0, 1, vec![], 1).unwrap();
        interrupts.deliver(true, 0, true);
        assert_eq!(count(&ours), 1);
        interrupts.deliver(false, 0, true);
        interrupts.set(index::INTX, ACTION_UNMASK | DATA_NONE, 0, 1, vec![], 1).unwrap();
        interrupts.deliver(false, 0, true);
        assert_eq!(count(&ours), 0);
    }

    #[test]
    fn a_line_that_is_disabled_is_silent() {
        let (theirs, ours) = event();
        let mut interrupts = Interrupts { line_disabled: true, ..Interrupts::default() };
        interrupts.set(index::INTX, SET, 0, 1, vec![theirs], 1).unwrap();
        interrupts.deliver(true, 0, false);
        assert_eq!(count(&ours), 0);
        interrupts.line_disabled = false;
        interrupts.deliver(true, 0, false);
        assert_eq!(count(&ours), 1);
    }

    #[test]
    fn a_message_goes_to_its_vector_and_the_line_to_none_besides() {
        let (theirs, ours): (Vec<File>, Vec<File>) = (0..4).map(|_| event()).unzip();
        let mut interrupts = Interrupts::default();
        for (vector, file) in theirs.into_iter().enumerate() {
            interrupts.set(index::MSIX, SET, vector as u32, 1, vec![file], 4).unwrap();
        }
        interrupts.deliver(true, 0b1000, true);
        interrupts.deliver(true, 0, true);
        assert_eq!(ours.iter().map(count).collect::<Vec<_>>(), [0, 0, 0, 1]);
        interrupts.set(index::MSIX, ACTION_TRIGGER | DATA_NONE, 0, 0, vec![], 4).unwrap();
        interrupts.deliver(false, 0b1000, true);
        assert_eq!(ours.iter().map(count).collect::<Vec<_>>(), [0; 4]);
    }

    #[test]
    fn a_single_message_follows_the_rising_line() {
        let (theirs, ours) = event();
        let mut interrupts = Interrupts::default();
        interrupts.set(index::MSI, SET, 0, 1, vec![theirs], 1).unwrap();
        for line in [true, true, false, true] {
            interrupts.deliver(line, 0, false);
        }
        assert_eq!(count(&ours), 2);
    }

    #[test]
    fn what_happened_before_there_was_a_descriptor_is_told_when_there_is_one() {
        let (theirs, ours) = event();
        let mut interrupts = Interrupts::default();
        interrupts.deliver(false, 1, true);
        interrupts.set(index::MSIX, SET, 0, 1, vec![theirs], 1).unwrap();
        interrupts.deliver(false, 0, true);
        assert_eq!(count(&ours), 1);
    }

    #[test]
    fn an_event_whose_count_is_full_and_what_is_no_event_keep_nobody_waiting() {
        let ours = File::from(eventfd(0, EventfdFlags::empty()).unwrap());
        let mut interrupts = Interrupts::default();
        interrupts.set(index::MSI, SET, 0, 1, vec![ours.try_clone().unwrap()], 1).unwrap();
        (&ours).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        interrupts.deliver(false, 1, true);
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        interrupts.set(index::MSI, SET, 0, 1, vec![writer], 1).unwrap();
        for _ in 0..100_000 {
            interrupts.deliver(false, 1, true);
        }
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        assert!(interrupts.set(index::MSI, SET, 0, 1, vec![reader], 1).is_err());
    }

    #[test]
    fn interrupts_that_there_are_not_are_refused() {
        let mut interrupts = Interrupts::default();
        assert!(interrupts.set(index::MSIX, SET, 3, 2, vec![], 4).is_err());
        assert!(interrupts.set(index::MSIX, SET, u32::MAX, 2, vec![], 4).is_err());
        assert!(interrupts.set(7, SET, 0, 1, vec![], 1).is_err());
        assert!(interrupts.set(index::INTX, 0, 0, 1, vec![], 1).is_err());
        let resample = ACTION_UNMASK | DATA_EVENTFD;
        assert!(interrupts.set(index::INTX, resample, 0, 1, vec![event().0], 1).is_err());
        interrupts.set(index::MSI, ACTION_TRIGGER | DATA_NONE, 0, 1, vec![], 1).unwrap();
    }
}
