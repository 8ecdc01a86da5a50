//! A block layer's wish as SCSI commands, and their outcome as an errno.

use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::scsi::{Cdb, Opcode, ScsiStatus, Sense, SenseKey};
use fusion_mpt::sgl::Direction;

use crate::ended::Ended;
use crate::export::unit::{DiscardBy, Unit};

/// Bytes of the parameter list of an UNMAP with one descriptor (SBC-3 5.28): header and descriptor.
pub const UNMAP_LIST_BYTES: usize = 24;

/// Why a request fails, as Linux numbers it for all its architectures' block layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u16);

impl Errno {
    /// `EIO`: it went wrong.
    pub const IO: Self = Self(5);
    /// `ENOMEM`: there is no memory for it.
    pub const NO_MEMORY: Self = Self(12);
    /// `ENODEV`: the device is gone.
    pub const NO_DEVICE: Self = Self(19);
    /// `EINVAL`: there is no such request.
    pub const INVALID: Self = Self(22);
    /// `ENOSPC`: a thin unit has no room, or the range lies past the end.
    pub const NO_SPACE: Self = Self(28);
    /// `EROFS`: the unit is write protected.
    pub const READ_ONLY: Self = Self(30);
    /// `EBADE`: another initiator has reserved the unit.
    pub const RESERVED: Self = Self(52);
    /// `ENODATA`: the medium is damaged there.
    pub const MEDIUM: Self = Self(61);
    /// `EILSEQ`: end-to-end protection found the data damaged.
    pub const PROTECTION: Self = Self(84);
    /// `EOPNOTSUPP`: the unit cannot do that.
    pub const NOT_SUPPORTED: Self = Self(95);
    /// `ETIMEDOUT`: the unit did not answer in time, nor later.
    pub const TIMED_OUT: Self = Self(110);
    /// `EREMOTEIO`: the unit itself says that it is broken, or refuses.
    pub const TARGET: Self = Self(121);

    /// What a kernel is told: the negative number.
    #[must_use]
    pub const fn negative(self) -> i32 {
        -(self.0 as i32)
    }
}

/// What a block layer wants of a range of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Its data.
    Read,
    /// That it holds this data.
    Write {
        /// And that it is on the medium before the answer.
        fua: bool,
    },
    /// That everything that was written is on the medium; of no range.
    Flush,
    /// Nothing more: the unit may give the blocks back.
    Discard,
    /// That it reads as zeros.
    WriteZeroes {
        /// The blocks may be given back.
        may_unmap: bool,
    },
}

impl Operation {
    /// Whether data goes to or from the block layer.
    #[must_use]
    pub const fn moves_data(self) -> bool {
        matches!(self, Self::Read | Self::Write { .. })
    }

    /// Whether it changes what is on the medium.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Flush)
    }
}

/// Which data goes with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// None.
    None,
    /// As much of the request's own as the command has blocks.
    Request,
    /// One block of zeros.
    ZeroBlock,
    /// A parameter list.
    List([u8; UNMAP_LIST_BYTES]),
}

/// One command of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its CDB.
    pub cdb: Cdb,
    /// Which way the data goes.
    pub direction: Direction,
    /// Which data that is.
    pub data: Data,
    /// How many blocks of the range it is about, from the first on.
    pub blocks: u32,
}

/// The first command of what is left of a request: `blocks` blocks from `lba` on, all of them on the
/// unit; for a flush neither counts.
///
/// # Errors
///
/// [`Errno::NOT_SUPPORTED`] for what the unit cannot do.
pub fn command(unit: &Unit, operation: Operation, lba: u64, blocks: u64) -> Result<Command, Errno> {
    let at_most = |most: u32| u32::try_from(blocks).map_or(most, |blocks| blocks.min(most));
    let transfer = || at_most(unit.max_transfer_blocks.unwrap_or(u32::MAX));
    match operation {
        Operation::Read => {
            let blocks = transfer();
            let cdb = Cdb::read(lba, blocks);
            Ok(Command { cdb, direction: Direction::Read, data: Data::Request, blocks })
        }
        Operation::Write { fua } => {
            let blocks = transfer();
            let cdb = Cdb::write(lba, blocks);
            let cdb = if fua && unit.fua { cdb.forced_unit_access() } else { cdb };
            Ok(Command { cdb, direction: Direction::Write, data: Data::Request, blocks })
        }
        Operation::Flush => {
            let cdb = Cdb::synchronize_cache_10(0, 0);
            Ok(Command { cdb, direction: Direction::None, data: Data::None, blocks: 0 })
        }
        Operation::Discard => {
            let discard = unit.discard.ok_or(Errno::NOT_SUPPORTED)?;
            let blocks = at_most(discard.max_blocks);
            Ok(match discard.by {
                DiscardBy::Unmap => unmap(lba, blocks),
                DiscardBy::WriteSame16 => write_same(true, lba, blocks, UNMAP_BIT),
                DiscardBy::WriteSame10 => write_same(false, lba, blocks, UNMAP_BIT),
            })
        }
        Operation::WriteZeroes { may_unmap } => {
            let zeroes = unit.write_zeroes.ok_or(Errno::NOT_SUPPORTED)?;
            let blocks = at_most(zeroes.max_blocks);
            if !zeroes.sixteen && lba + u64::from(blocks) > 1 << 32 {
                return Err(Errno::NOT_SUPPORTED);
            }
            let unmap = if may_unmap && zeroes.may_unmap { UNMAP_BIT } else { 0 };
            let no_data = if zeroes.without_data { NO_DATA_BIT } else { 0 };
            Ok(write_same(zeroes.sixteen, lba, blocks, unmap | no_data))
        }
    }
}

/// UNMAP of WRITE SAME's byte 1.
const UNMAP_BIT: u8 = 0x08;
/// NDOB of WRITE SAME (16)'s byte 1.
const NO_DATA_BIT: u8 = 0x01;

fn unmap(lba: u64, blocks: u32) -> Command {
    let mut list = [0; UNMAP_LIST_BYTES];
    // The lengths of what follows them: all but themselves, and the one descriptor.
    let fields: [(usize, &[u8]); 4] = [
        (0, &(UNMAP_LIST_BYTES as u16 - 2).to_be_bytes()),
        (2, &16u16.to_be_bytes()),
        (8, &lba.to_be_bytes()),
        (16, &blocks.to_be_bytes()),
    ];
    for (at, bytes) in fields {
        for (to, from) in list.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
    let cdb = [Opcode::UNMAP.0, 0, 0, 0, 0, 0, 0, 0, UNMAP_LIST_BYTES as u8, 0];
    Command { cdb: built(&cdb), direction: Direction::Write, data: Data::List(list), blocks }
}

fn write_same(sixteen: bool, lba: u64, blocks: u32, bits: u8) -> Command {
    let [a, b, c, d, e, f, g, h] = lba.to_be_bytes();
    let [i, j, k, l] = blocks.to_be_bytes();
    let cdb = if sixteen {
        built(&[Opcode::WRITE_SAME_16.0, bits, a, b, c, d, e, f, g, h, i, j, k, l, 0, 0])
    } else {
        built(&[Opcode::WRITE_SAME_10.0, bits, e, f, g, h, 0, k, l, 0])
    };
    let (direction, data) = match bits & NO_DATA_BIT {
        0 => (Direction::Write, Data::ZeroBlock),
        _ => (Direction::None, Data::None),
    };
    Command { cdb, direction, data, blocks }
}

/// A CDB of 10 or 16 bytes, which always is one.
fn built(bytes: &[u8]) -> Cdb {
    Cdb::from_bytes(bytes).unwrap_or_else(Cdb::test_unit_ready)
}

/// What becomes of a request now that one of its commands has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The command did what it should.
    Done,
    /// It was not run, or may run again: send it again.
    Again(Patience),
    /// The request has failed, with this if no further try is left.
    Failed(Errno),
}

/// How long to wait before a command is sent again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// At once, and a few times only: something has happened that passes.
    Now,
    /// A moment later, for as long as a device may be full.
    Full,
    /// Some time later, for as long as a disk may take to spin up.
    SpinUp,
}

/// The capacity of the unit has changed (SPC-4: CAPACITY DATA HAS CHANGED, 2A/09).
#[must_use]
pub fn tells_new_capacity(ended: &Ended) -> bool {
    Sense::parse(&ended.sense).is_some_and(|sense| {
        sense.key == SenseKey::UNIT_ATTENTION && (sense.asc, sense.ascq) == (0x2a, 0x09)
    })
}

/// Judges how a command that wanted `bytes` of data ended.
#[must_use]
pub fn judge(operation: Operation, bytes: u32, ended: &Ended) -> Verdict {
    match ended.outcome {
        Outcome::Complete { status: ScsiStatus::GOOD, transferred, .. } => {
            // A unit that moves less and calls it good is not to be believed.
            if operation.moves_data() && transferred != bytes {
                Verdict::Failed(Errno::IO)
            } else {
                Verdict::Done
            }
        }
        Outcome::Complete { status, transferred, .. } => match status {
            ScsiStatus::BUSY | ScsiStatus::TASK_SET_FULL => Verdict::Again(Patience::Full),
            ScsiStatus::TASK_ABORTED => Verdict::Again(Patience::Now),
            ScsiStatus::RESERVATION_CONFLICT => Verdict::Failed(Errno::RESERVED),
            ScsiStatus::CHECK_CONDITION => match Sense::parse(&ended.sense) {
                Some(sense) => weigh(operation, transferred == bytes, &sense),
                None => Verdict::Again(Patience::Now),
            },
            _ => Verdict::Failed(Errno::IO),
        },
        Outcome::Failed(failure) => match failure {
            Failure::NoDevice | Failure::ControllerGone | Failure::ControllerOffline => {
                Verdict::Failed(Errno::NO_DEVICE)
            }
            Failure::Protection(_) => Verdict::Failed(Errno::PROTECTION),
            Failure::ControllerBusy => Verdict::Again(Patience::Full),
            _ if ended.was_ended_by_recovery() => Verdict::Again(Patience::Now),
            _ => Verdict::Failed(Errno::IO),
        },
    }
}

fn weigh(operation: Operation, whole: bool, sense: &Sense) -> Verdict {
    if sense.deferred {
        // It tells of an earlier command, and this one was not run (SPC-4 4.5.5).
        return Verdict::Again(Patience::Now);
    }
    match sense.key {
        SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR if whole || !operation.moves_data() => {
            Verdict::Done
        }
        SenseKey::UNIT_ATTENTION | SenseKey::ABORTED_COMMAND => match sense.asc {
            0x10 => Verdict::Failed(Errno::PROTECTION),
            _ => Verdict::Again(Patience::Now),
        },
        SenseKey::NOT_READY => match (sense.asc, sense.ascq) {
            // Becoming ready, and other work that ends by itself.
            (0x04, 0x01 | 0x05..=0x0a | 0x14 | 0x1a | 0x1b) => Verdict::Again(Patience::SpinUp),
            _ => Verdict::Failed(Errno::IO),
        },
        SenseKey::MEDIUM_ERROR => Verdict::Failed(Errno::MEDIUM),
        SenseKey::DATA_PROTECT if (sense.asc, sense.ascq) == (0x27, 0x07) => {
            Verdict::Failed(Errno::NO_SPACE)
        }
        SenseKey::DATA_PROTECT if operation.changes() => Verdict::Failed(Errno::READ_ONLY),
        SenseKey::ILLEGAL_REQUEST => match sense.asc {
            // Unknown command, or an unknown field of the CDB or its list.
            0x20 | 0x24 | 0x26 if !operation.moves_data() => Verdict::Failed(Errno::NOT_SUPPORTED),
            _ => Verdict::Failed(Errno::TARGET),
        },
        SenseKey::HARDWARE_ERROR => Verdict::Failed(Errno::TARGET),
        _ => Verdict::Failed(Errno::IO),
    }
}

/// What a request fails with whose last try ended so.
#[must_use]
pub fn given_up(ended: &Ended) -> Errno {
    match ended.outcome {
        Outcome::Failed(Failure::TimedOut) => Errno::TIMED_OUT,
        _ => Errno::IO,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::export::unit::{Discard, WriteZeroes};
    use fusion_mpt::targets::TargetId;
    use proptest::prelude::*;

    /// A thin unit of 512-byte blocks that can do everything.
    pub(crate) fn unit(blocks: u64) -> Unit {
        Unit {
            target: TargetId(0),
            lun: 0,
            name: None,
            serial: "S".into(),
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
            blocks,
            block_bytes: 512,
            physical_block_bytes: 4096,
            write_cache: true,
            fua: true,
            read_only: false,
            rotational: false,
            discard: Some(Discard {
                by: DiscardBy::Unmap,
                max_blocks: 1000,
                granularity: 8,
                alignment: 0,
            }),
            write_zeroes: Some(WriteZeroes {
                sixteen: true,
                without_data: false,
                may_unmap: true,
                max_blocks: 100,
            }),
            max_transfer_blocks: Some(64),
            optimal_blocks: None,
        }
    }

    fn ended(status: ScsiStatus, sense: &[u8]) -> Ended {
        let outcome = Outcome::Complete { status, transferred: 0, sense_length: sense.len() as u8 };
        Ended { outcome, sense: sense.to_vec() }
    }

    fn sense(key: u8, asc: u8, ascq: u8) -> Ended {
        let mut bytes = [0; 18];
        (bytes[0], bytes[2], bytes[7], bytes[12], bytes[13]) = (0x70, key, 10, asc, ascq);
        ended(ScsiStatus::CHECK_CONDITION, &bytes)
    }

    #[test]
    fn forced_unit_access_is_in_the_cdb_of_a_unit_that_knows_it() {
        let fua = |unit: &Unit| {
            let command = command(unit, Operation::Write { fua: true }, 5, 8).expect("a write");
            command.cdb.as_bytes()[1]
        };
        assert_eq!(fua(&unit(100)), 0x08);
        assert_eq!(fua(&Unit { fua: false, ..unit(100) }), 0);
    }

    #[test]
    fn an_unmap_names_its_blocks_in_the_list() {
        let Command { cdb, data, blocks, .. } =
            command(&unit(1 << 40), Operation::Discard, 1 << 33, 5000).expect("thin");
        assert_eq!((cdb.as_bytes()[0], cdb.as_bytes()[8], blocks), (0x42, 24, 1000));
        let Data::List(list) = data else { panic!("a list") };
        assert_eq!(list[..8], [0, 22, 0, 16, 0, 0, 0, 0]);
        assert_eq!(list[8..16], (1u64 << 33).to_be_bytes());
        assert_eq!(list[16..20], 1000u32.to_be_bytes());
    }

    #[test]
    fn zeros_come_with_a_block_of_them_unless_the_unit_needs_none() {
        let zeroes = |unit: &Unit, may_unmap| {
            command(unit, Operation::WriteZeroes { may_unmap }, 7, 50).expect("can")
        };
        let with = zeroes(&unit(100), true);
        assert_eq!((with.cdb.as_bytes()[1], with.data), (0x08, Data::ZeroBlock));
        assert_eq!(zeroes(&unit(100), false).cdb.as_bytes()[1], 0, "REQ_NOUNMAP");
        let mut unit = unit(100);
        unit.write_zeroes.as_mut().expect("can").without_data = true;
        let without = zeroes(&unit, false);
        assert_eq!((without.cdb.as_bytes()[1], without.data), (0x01, Data::None));
        unit.write_zeroes = None;
        let refused = command(&unit, Operation::WriteZeroes { may_unmap: true }, 0, 1);
        assert_eq!(refused, Err(Errno::NOT_SUPPORTED));
    }

    #[test]
    fn short_forms_are_not_sent_past_what_they_reach() {
        let mut unit = unit(1 << 40);
        unit.write_zeroes.as_mut().expect("can").sixteen = false;
        let zeroes = |lba| command(&unit, Operation::WriteZeroes { may_unmap: false }, lba, 8);
        assert_eq!(zeroes((1 << 32) - 8).expect("reaches").cdb.as_bytes()[0], 0x41);
        assert_eq!(zeroes((1 << 32) - 7), Err(Errno::NOT_SUPPORTED));
    }

    #[test]
    fn each_way_to_end_is_judged_as_block_layers_expect() {
        let read = |ended: &Ended| judge(Operation::Read, 512, ended);
        for (ended, verdict) in [
            (ended(ScsiStatus::BUSY, &[]), Verdict::Again(Patience::Full)),
            (ended(ScsiStatus::RESERVATION_CONFLICT, &[]), Verdict::Failed(Errno::RESERVED)),
            (sense(6, 0x29, 0), Verdict::Again(Patience::Now)),
            (sense(6, 0x2a, 9), Verdict::Again(Patience::Now)),
            (sense(2, 4, 1), Verdict::Again(Patience::SpinUp)),
            (sense(2, 0x3a, 0), Verdict::Failed(Errno::IO)),
            (sense(3, 0x11, 0), Verdict::Failed(Errno::MEDIUM)),
            (sense(4, 0x44, 0), Verdict::Failed(Errno::TARGET)),
            (sense(5, 0x21, 0), Verdict::Failed(Errno::TARGET)),
            (sense(7, 0x27, 7), Verdict::Failed(Errno::NO_SPACE)),
            (sense(0xb, 0x10, 1), Verdict::Failed(Errno::PROTECTION)),
            (ended(ScsiStatus::GOOD, &[]), Verdict::Failed(Errno::IO)),
        ] {
            assert_eq!(read(&ended), verdict, "{}", ended.describe());
        }
        let write = Operation::Write { fua: false };
        assert_eq!(judge(write, 512, &sense(7, 0x27, 0)), Verdict::Failed(Errno::READ_ONLY));
        let unknown = sense(5, 0x20, 0);
        assert_eq!(judge(Operation::Discard, 24, &unknown), Verdict::Failed(Errno::NOT_SUPPORTED));
        let gone = Ended { outcome: Outcome::Failed(Failure::NoDevice), sense: Vec::new() };
        assert_eq!(read(&gone), Verdict::Failed(Errno::NO_DEVICE));
        assert!(tells_new_capacity(&sense(6, 0x2a, 9)) && !tells_new_capacity(&sense(6, 0x29, 0)));
    }

    proptest! {
        #[test]
        fn the_commands_of_a_request_are_about_each_of_its_blocks_once(
            lba in 0u64..1 << 36, blocks in 1u64..5000, which in 0usize..4
        ) {
            let unit = unit(1 << 40);
            let operation = [
                Operation::Read,
                Operation::Write { fua: true },
                Operation::Discard,
                Operation::WriteZeroes { may_unmap: true },
            ][which];
            let (mut at, end) = (lba, lba + blocks);
            while at < end {
                let command = command(&unit, operation, at, end - at).expect("can");
                prop_assert!(command.blocks >= 1 && u64::from(command.blocks) <= end - at);
                at += u64::from(command.blocks);
            }
            prop_assert_eq!(at, end);
        }

        #[test]
        fn no_sense_data_trips_the_judge(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), status: u8
        ) {
            let ended = ended(ScsiStatus(status), &bytes);
            let _ = (judge(Operation::Read, 512, &ended), given_up(&ended));
        }
    }
}
