//! Asking for configuration pages, whatever the generation.
//!
//! A page is asked for twice: its header says how long it is, then the page itself is read. Pages
//! of types above 0x0E are *extended*: their type and length stand in other fields.

/// Page types (`MPI2_CONFIG_PAGETYPE_*`; the same numbers on MPI1) and, from 0x10 on, extended
/// page types (`MPI2_CONFIG_EXTPAGETYPE_*`). Kept as a number so that any page can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageType(pub u8);

impl PageType {
    /// IO unit.
    pub const IO_UNIT: Self = Self(0x00);
    /// IOC.
    pub const IOC: Self = Self(0x01);
    /// BIOS.
    pub const BIOS: Self = Self(0x02);
    /// Manufacturing.
    pub const MANUFACTURING: Self = Self(0x09);
    /// SAS IO unit (extended).
    pub const SAS_IO_UNIT: Self = Self(0x10);
    /// SAS device (extended).
    pub const SAS_DEVICE: Self = Self(0x12);
    /// SAS phy (extended).
    pub const SAS_PHY: Self = Self(0x13);
    /// SAS enclosure (extended).
    pub const SAS_ENCLOSURE: Self = Self(0x15);

    /// Stands in the ordinary type field of an extended page.
    pub(crate) const EXTENDED: Self = Self(0x0f);

    /// Whether type and length stand in the extended fields.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.0 > Self::EXTENDED.0
    }
}

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
    pub(crate) page_type: PageType,
    pub(crate) number: u8,
    pub(crate) version: u8,
    /// Length in 32-bit words, once the header is known.
    pub(crate) length: u16,
    pub(crate) address: u32,
}

/// What a page's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageHeader {
    /// `PageVersion`.
    pub version: u8,
    /// Length in 32-bit words, header included.
    pub length: u16,
}

impl PageRequest {
    /// Page `number` of `page_type`; `address` selects one of several, 0 where there is one.
    #[must_use]
    pub const fn new(page_type: PageType, number: u8, address: u32) -> Self {
        Self { step: Step::Header, page_type, number, version: 0, length: 0, address }
    }

    /// SAS device page 0 of the device with this DevHandle.
    #[must_use]
    pub const fn sas_device(handle: u16) -> Self {
        // MPI2_SAS_DEVICE_PGAD_FORM_HANDLE; MPI1's is the same.
        Self::new(PageType::SAS_DEVICE, 0, 2 << 28 | handle as u32)
    }

    /// SAS device page 0 of the device after this DevHandle; 0xFFFF begins the list.
    #[must_use]
    pub const fn next_sas_device(after: u16) -> Self {
        // MPI2_SAS_DEVICE_PGAD_FORM_GET_NEXT_HANDLE.
        Self::new(PageType::SAS_DEVICE, 0, after as u32)
    }

    /// SAS phy page 0 of this phy.
    #[must_use]
    pub const fn sas_phy(phy: u8) -> Self {
        // MPI2_SAS_PHY_PGAD_FORM_PHY_NUMBER.
        Self::new(PageType::SAS_PHY, 0, phy as u32)
    }

    /// SAS enclosure page 0 of the enclosure after this handle; 0xFFFF begins the list.
    #[must_use]
    pub const fn next_enclosure(after: u16) -> Self {
        // MPI2_SAS_ENCLOS_PGAD_FORM_GET_NEXT_HANDLE.
        Self::new(PageType::SAS_ENCLOSURE, 0, after as u32)
    }

    /// The same page, to be read now that its header is known.
    pub(crate) const fn body(self, header: PageHeader) -> Self {
        Self { step: Step::Body, version: header.version, length: header.length, ..self }
    }

    /// Bytes that are asked for: none before the header is known.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        match self.step {
            Step::Header => 0,
            Step::Body => self.length as u32 * 4,
        }
    }
}
