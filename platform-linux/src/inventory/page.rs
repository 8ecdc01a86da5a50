//! Configuration pages as bytes that may end anywhere.

use fusion_mpt::controller::Health;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::wire::config::pages::text;
use fusion_mpt::wire::config::{ExtPageType, PageId, PageType};
use fusion_mpt::wire::read_padded;
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::host::Host;
use crate::interrupt;

/// The most pages of one list that are read: more than any controller has handles, and an end for a
/// list that has none.
const LONGEST_LIST: usize = 2048;

/// A page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page(Vec<u8>);

impl Page {
    #[cfg(test)]
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub(crate) fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        self.field(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        self.field(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        self.field(at).map(u64::from_le_bytes)
    }

    /// The text of a field; `None` if it is empty.
    pub(crate) fn text(&self, at: usize, bytes: usize) -> Option<String> {
        let field = self.0.get(at..at.checked_add(bytes)?)?;
        Some(text(field).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The page as a wire struct, zeros where it ends early.
    pub(crate) fn wire<T: FromBytes + IntoBytes + KnownLayout>(&self) -> T {
        read_padded(&self.0)
    }
}

/// The pages of a controller.
pub(crate) struct Pages<'h> {
    host: &'h mut dyn Host,
}

impl std::fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl<'h> Pages<'h> {
    pub(crate) fn new(host: &'h mut dyn Host) -> Self {
        Self { host }
    }

    pub(crate) fn host(&self) -> &dyn Host {
        self.host
    }

    pub(crate) fn is_mpi1(&self) -> bool {
        is_mpi1(self.host)
    }

    pub(crate) fn plain(
        &mut self,
        kind: PageType,
        number: u8,
        address: u32,
    ) -> Result<Option<Page>, Error> {
        self.read(PageId::plain(kind, number), address)
    }

    pub(crate) fn extended(
        &mut self,
        kind: ExtPageType,
        number: u8,
        address: u32,
    ) -> Result<Option<Page>, Error> {
        self.read(PageId::extended(kind, number), address)
    }

    /// A page, or `None` if the controller does not have it or does not give it.
    fn read(&mut self, id: PageId, address: u32) -> Result<Option<Page>, Error> {
        interrupt::check()?;
        match self.host.read_page(PageRequest::new(id, address)) {
            Ok(bytes) => Ok(Some(Page(bytes))),
            Err(error) => match self.host.health() {
                Health::Gone | Health::Offline => Err(error),
                _ => Ok(None),
            },
        }
    }

    /// The pages of a list whose addresses count handles: from the first to the one after which
    /// there is none. `handle` finds the handle in a page; a list that does not rise ends.
    pub(crate) fn list(
        &mut self,
        id: PageId,
        handle: impl Fn(&Page) -> Option<u16>,
    ) -> Result<Vec<(u16, Page)>, Error> {
        let mut found: Vec<(u16, Page)> = Vec::new();
        let mut after = 0xffff_u16;
        while found.len() < LONGEST_LIST {
            let Some(page) = self.read(id, after.into())? else { break };
            match handle(&page) {
                Some(next) if next != 0xffff && (found.is_empty() || next > after) => {
                    after = next;
                    found.push((next, page));
                }
                _ => break,
            }
        }
        Ok(found)
    }
}

/// Whether a controller speaks MPI 1.x.
pub(crate) fn is_mpi1(host: &dyn Host) -> bool {
    host.bring_up().facts.message_version >> 8 == 1
}

/// An address or name of 64 bits as it is printed; `None` for 0, which is no name.
pub(crate) fn name(value: u64) -> Option<String> {
    (value != 0).then(|| format!("{value:016x}"))
}
