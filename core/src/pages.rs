//! Asking for configuration pages, whatever the generation.
//!
//! A page is asked for twice: its header says how long it is, then the page itself is read into
//! the page buffer. The first page of a list and the next are asked for by an address that means
//! "the one after this handle".

use crate::wire::config::{ExtPageType, PageId, PageType, page_address};

/// What is wanted of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// How long it is.
    Header,
    /// Its contents.
    Body,
}

/// One page, to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    pub(crate) step: Step,
    pub(crate) page: PageId,
    pub(crate) version: u8,
    /// Length in 32-bit words, once the header is known.
    pub(crate) length: u16,
    pub(crate) address: u32,
}

/// What a page's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// `PageVersion`.
    pub version: u8,
    /// Length in 32-bit words, header included.
    pub length: u16,
}

impl PageRequest {
    /// A page; `address` selects one of several ([`page_address`]), 0 where there is one.
    #[must_use]
    pub const fn new(page: PageId, address: u32) -> Self {
        Self { step: Step::Header, page, version: 0, length: 0, address }
    }

    /// SAS device page 0 of the device with this DevHandle.
    #[must_use]
    pub const fn sas_device(handle: u16) -> Self {
        Self::new(PageId::extended(ExtPageType::SAS_DEVICE, 0), page_address::sas_device(handle))
    }

    /// SAS device page 0 of the device after this DevHandle; [`page_address::FIRST`] begins the
    /// list.
    #[must_use]
    pub const fn next_sas_device(after: u16) -> Self {
        Self::new(PageId::extended(ExtPageType::SAS_DEVICE, 0), page_address::next_handle(after))
    }

    /// The same page, to be read now that its header is known.
    pub(crate) const fn body(self, size: PageSize) -> Self {
        Self { step: Step::Body, version: size.version, length: size.length, ..self }
    }

    /// Bytes that are asked for: none before the header is known.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        match self.step {
            Step::Header => 0,
            Step::Body => self.length as u32 * 4,
        }
    }

    /// The action, and the header that goes into the request, for both generations.
    pub(crate) const fn parts(&self) -> (crate::wire::config::Action, RequestHeader) {
        use crate::wire::config::Action;
        let action = match self.step {
            Step::Header => Action::PAGE_HEADER,
            Step::Body => Action::PAGE_READ_CURRENT,
        };
        let extended = self.page.is_extended();
        let header = RequestHeader {
            version: self.version,
            length: if extended { 0 } else { self.length as u8 },
            number: self.page.number,
            page_type: if extended { PageType::EXTENDED.0 } else { self.page.page_type.0 },
            ext_length: if extended { self.length } else { 0 },
            ext_type: if extended { self.page.ext_page_type.0 } else { 0 },
        };
        (action, header)
    }
}

/// The page fields of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHeader {
    pub(crate) version: u8,
    pub(crate) length: u8,
    pub(crate) number: u8,
    pub(crate) page_type: u8,
    pub(crate) ext_length: u16,
    pub(crate) ext_type: u8,
}
