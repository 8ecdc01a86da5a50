//! What differs between the chips, as data. Figures are those of shipped firmware where a dump of
//! the facts was found (controllers.md 1 and 2.5), and of QEMU's device for the SAS1068.

/// Which messages a chip speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// MPI 1.5: FIFOs in the chip.
    Mpi1,
    /// MPI 2.0: rings in memory, MPI SGEs.
    Mpi20,
    /// MPI 2.5: IEEE SGEs for SCSI I/O.
    Mpi25,
    /// MPI 2.6: as 2.5, with atomic request descriptors.
    Mpi26,
}

/// One kind of controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// The name that buses are chosen by: `sas2008`.
    pub name: &'static str,
    /// The chip's name as its manufacturing page has it.
    pub chip_name: &'static str,
    /// The board's name.
    pub board_name: &'static str,
    /// PCI device id.
    pub device_id: u16,
    /// PCI revision.
    pub revision: u8,
    /// PCI subsystem id of the board; the vendor's is LSI's own.
    pub subsystem_id: u16,
    /// Which messages it speaks.
    pub family: Family,
    /// Phys, each with room for one disk.
    pub phys: u8,
    /// `MsgVersion`.
    pub message_version: u16,
    /// `ProductID`.
    pub product_id: u16,
    /// `FWVersion`, most significant part first.
    pub firmware: [u8; 4],
    /// `IOCCapabilities`.
    pub capabilities: u32,
    /// Requests outstanding at once (`RequestCredit`, `GlobalCredits`).
    pub request_credit: u16,
    /// Task management requests outstanding besides (MPI2).
    pub high_priority_credit: u16,
    /// Bytes of a request frame.
    pub request_frame_bytes: u16,
    /// Bytes of a reply frame (MPI2; on MPI1 the host chooses).
    pub reply_frame_bytes: u16,
    /// `MaxChainDepth`.
    pub max_chain_depth: u8,
    /// `IOCMaxChainSegmentSize`, in units of 16 bytes.
    pub chain_units: u16,
    /// MSI-X vectors, so reply queues.
    pub vectors: u8,
    /// The most entries of a reply post queue (MPI2), or of each FIFO (MPI1).
    pub reply_depth: u16,
}

/// Task management may come through a FIFO of its own (MPI1).
const CAPABILITY_HIGH_PRIORITY_QUEUE: u32 = 0x0001;
/// A reply queue for each MSI-X vector.
const CAPABILITY_MSIX_INDEX: u32 = 0x8000;
const CAPABILITY_EVENT_REPLAY: u32 = 0x2000;
const CAPABILITY_TASK_SET_FULL: u32 = 0x0004;
const CAPABILITY_TLR: u32 = 0x0800;
const CAPABILITY_FAST_PATH: u32 = 0x2_0000;
/// The reply queues' addresses may stand in an array.
pub(crate) const CAPABILITY_RDPQ: u32 = 0x4_0000;
/// Request descriptors may be 32 bits long.
pub(crate) const CAPABILITY_ATOMIC: u32 = 0x8_0000;

const MPI2_CAPABILITIES: u32 =
    CAPABILITY_MSIX_INDEX | CAPABILITY_EVENT_REPLAY | CAPABILITY_TASK_SET_FULL | CAPABILITY_TLR;

impl Chip {
    /// MPI 1.5, as QEMU's `mptsas1068` has it, but for the high priority FIFO: mptsas sends the
    /// target reset by which it lets go of a disk through that FIFO and no other way
    /// (mptsas_target_reset), so that on QEMU's it could never lose one.
    pub const SAS1068: Chip = Chip {
        name: "sas1068",
        chip_name: "C1068",
        board_name: "SAS3081X-R",
        device_id: 0x0054,
        revision: 0x01,
        subsystem_id: 0x3080,
        family: Family::Mpi1,
        phys: 8,
        message_version: 0x0105,
        product_id: 0x2102,
        firmware: [0x01, 0x32, 0x92, 0x00],
        capabilities: CAPABILITY_HIGH_PRIORITY_QUEUE,
        request_credit: 128,
        high_priority_credit: 16,
        request_frame_bytes: 512,
        reply_frame_bytes: 128,
        max_chain_depth: 0x22,
        chain_units: 0,
        vectors: 1,
        reply_depth: 128,
    };

    /// MPI 2.0: a 9211-8i in IT mode.
    pub const SAS2008: Chip = Chip {
        name: "sas2008",
        chip_name: "LSISAS2008",
        board_name: "SAS9211-8i",
        device_id: 0x0072,
        revision: 0x03,
        subsystem_id: 0x3020,
        family: Family::Mpi20,
        phys: 8,
        message_version: 0x0200,
        product_id: 0x2213,
        firmware: [20, 0, 7, 0],
        capabilities: MPI2_CAPABILITIES,
        request_credit: 3432,
        high_priority_credit: 104,
        request_frame_bytes: 128,
        reply_frame_bytes: 128,
        max_chain_depth: 128,
        chain_units: 0,
        vectors: 1,
        reply_depth: 65504,
    };

    /// MPI 2.5: a 9300-8i in IT mode.
    pub const SAS3008: Chip = Chip {
        name: "sas3008",
        chip_name: "LSISAS3008",
        board_name: "SAS9300-8i",
        device_id: 0x0097,
        revision: 0x02,
        subsystem_id: 0x30e0,
        family: Family::Mpi25,
        phys: 8,
        message_version: 0x0205,
        product_id: 0x2221,
        firmware: [16, 0, 12, 0],
        capabilities: MPI2_CAPABILITIES | CAPABILITY_FAST_PATH | CAPABILITY_RDPQ,
        request_credit: 9968,
        high_priority_credit: 144,
        request_frame_bytes: 128,
        reply_frame_bytes: 128,
        max_chain_depth: 128,
        chain_units: 8,
        vectors: 96,
        reply_depth: 65504,
    };

    /// MPI 2.6: a 9500-16i.
    pub const SAS3816: Chip = Chip {
        name: "sas3816",
        chip_name: "SAS3816",
        board_name: "HBA 9500-16i",
        device_id: 0x00e6,
        revision: 0x00,
        subsystem_id: 0x4050,
        family: Family::Mpi26,
        phys: 16,
        message_version: 0x0206,
        product_id: 0x2228,
        firmware: [28, 0, 0, 0],
        capabilities: MPI2_CAPABILITIES
            | CAPABILITY_FAST_PATH
            | CAPABILITY_RDPQ
            | CAPABILITY_ATOMIC,
        request_credit: 7360,
        high_priority_credit: 128,
        request_frame_bytes: 128,
        reply_frame_bytes: 128,
        max_chain_depth: 128,
        chain_units: 8,
        vectors: 128,
        reply_depth: 65504,
    };

    /// Every chip there is a model of.
    pub const ALL: [Chip; 4] = [Chip::SAS1068, Chip::SAS2008, Chip::SAS3008, Chip::SAS3816];

    /// The chip of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Chip> {
        Self::ALL.into_iter().find(|chip| chip.name == name)
    }

    /// Whether it speaks MPI 1.x.
    #[must_use]
    pub fn is_mpi1(&self) -> bool {
        self.family == Family::Mpi1
    }

    /// Whether SCSI I/O takes IEEE scatter/gather elements.
    #[must_use]
    pub fn ieee(&self) -> bool {
        matches!(self.family, Family::Mpi25 | Family::Mpi26)
    }

    /// Whether the reply queues' host indices stand in the supplemental registers, 8 queues to
    /// each (mpt3sas, "combined reply queue").
    #[must_use]
    pub fn supplemental(&self) -> bool {
        self.vectors > 8
    }
}
