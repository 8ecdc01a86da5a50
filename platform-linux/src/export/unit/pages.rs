//! The pages in which a logical unit tells a block layer about itself, and what follows from them.

use fusion_mpt::scsi::{Cdb, Sense, SenseKey};

use super::{Discard, DiscardBy, Name, WriteZeroes};
use crate::ended::Ended;
use crate::error::Error;

/// Bytes of a caching page that are asked for, with what comes before it.
pub(super) const MODE_BYTES: u8 = 192;
/// The most blocks that one WRITE SAME of ours writes, whatever the unit offers: a disk does that
/// many in a moment, and (10) forms have no room for more.
const MOST_WRITE_SAME_BLOCKS: u32 = 0xffff;
/// The most blocks that one UNMAP of ours names where the unit sets no bound.
const MOST_UNMAP_BLOCKS: u32 = 1 << 22;

/// REPORT SUPPORTED OPERATION CODES of one operation code (SPC-4 6.35, reporting options 001b), 64
/// bytes of answer.
pub(super) fn report_operation(operation: u8) -> Cdb {
    let cdb = [0xa3, 0x0c, 1, operation, 0, 0, 0, 0, 0, 64, 0, 0];
    Cdb::from_bytes(&cdb).unwrap_or_else(Cdb::test_unit_ready)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A VPD page as far as its own length says, header included.
fn within(page: &[u8]) -> &[u8] {
    let length = be16(page, 2).map_or(0, |length| 4 + usize::from(length));
    page.get(..length).unwrap_or(page)
}

/// The pages that VPD page 00h names (SPC-4 7.8.10).
pub(super) fn supported(page: &[u8]) -> Vec<u8> {
    within(page).get(4..).unwrap_or_default().to_vec()
}

/// The best name of VPD page 83h: the longest NAA of the logical unit, else its EUI-64.
pub(super) fn name(page: &[u8]) -> Option<Name> {
    let mut rest = within(page).get(4..)?;
    let mut best: Option<Name> = None;
    while let [_, kind, _, length, after @ ..] = rest {
        let Some(value) = after.get(..usize::from(*length)) else { break };
        rest = after.get(usize::from(*length)..).unwrap_or_default();
        // Of the logical unit (association 00b), not of its port or device.
        if kind & 0x30 != 0 {
            continue;
        }
        let found = match (kind & 0x0f, value.len()) {
            (3, 8 | 16) => Name::Naa(value.to_vec()),
            (2, 8 | 12 | 16) => Name::Eui64(value.to_vec()),
            _ => continue,
        };
        let rank = |name: &Name| match name {
            Name::Naa(bytes) => bytes.len() + 100,
            Name::Eui64(bytes) => bytes.len(),
        };
        if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
            best = Some(found);
        }
    }
    best
}

/// Whether VPD page B1h says so (SBC-3 6.6.2: medium rotation rate 1).
pub(super) fn does_not_rotate(page: &[u8]) -> bool {
    be16(within(page), 4) == Some(1)
}

/// VPD page B0h (SBC-3 6.6.3), in blocks; what is 0 there sets no bound or says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_transfer: Option<u32>,
    pub(super) optimal: Option<u32>,
    max_unmap: Option<u32>,
    max_unmap_descriptors: Option<u32>,
    unmap_granularity: Option<u32>,
    unmap_alignment: Option<u32>,
    max_write_same: Option<u64>,
}

impl Limits {
    pub(super) fn parse(page: &[u8]) -> Self {
        let page = within(page);
        let said = |at| be32(page, at).filter(|value| *value != 0);
        Self {
            max_transfer: said(8),
            optimal: said(12),
            max_unmap: said(20),
            max_unmap_descriptors: said(24),
            unmap_granularity: said(28),
            unmap_alignment: be32(page, 32)
                .filter(|value| value & 1 << 31 != 0)
                .map(|value| value & !(1 << 31)),
            max_write_same: be64(page, 36).filter(|value| *value != 0),
        }
    }
}

/// VPD page B2h (SBC-3 6.6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Provisioning {
    unmap: bool,
    write_same_16: bool,
    write_same_10: bool,
    pub(super) reads_zeros: bool,
}

impl Provisioning {
    pub(super) fn parse(page: &[u8]) -> Self {
        let flags = within(page).get(5).copied().unwrap_or(0);
        Self {
            unmap: flags & 0x80 != 0,
            write_same_16: flags & 0x40 != 0,
            write_same_10: flags & 0x20 != 0,
            // LBPRZ is three bits: 001b says zeros.
            reads_zeros: flags & 0x1c == 0x04,
        }
    }
}

/// What MODE SENSE of the caching page says (SPC-4 7.5, SBC-3 6.5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) write_protected: bool,
    pub(super) fua: bool,
    pub(super) write_cache: bool,
}

impl Mode {
    fn parse_6(answer: &[u8]) -> Self {
        let descriptors = usize::from(answer.get(3).copied().unwrap_or(0));
        Self::parse(answer.get(2), answer.get(4 + descriptors..))
    }

    fn parse_10(answer: &[u8]) -> Self {
        let descriptors = usize::from(be16(answer, 6).unwrap_or(0));
        Self::parse(answer.get(3), answer.get(8 + descriptors..))
    }

    fn parse(device_specific: Option<&u8>, page: Option<&[u8]>) -> Self {
        let device_specific = device_specific.copied().unwrap_or(0);
        let caching = page.filter(|page| page.first().is_some_and(|code| code & 0x3f == 8));
        Self {
            write_protected: device_specific & 0x80 != 0,
            fua: device_specific & 0x10 != 0,
            write_cache: caching.and_then(|page| page.get(2)).is_some_and(|byte| byte & 4 != 0),
        }
    }
}

/// Asks for the caching page in the form that the unit knows. One that refuses both says that it has
/// no cache to tell of; of one that was asked in vain nothing is known, and to flush a cache that is
/// not there loses nothing.
pub(super) fn mode(
    mut ask: impl FnMut(Cdb) -> Result<Result<Vec<u8>, Ended>, Error>,
) -> Result<Mode, Error> {
    type Parse = fn(&[u8]) -> Mode;
    let forms: [(Cdb, Parse); 2] = [
        (Cdb::mode_sense_6(8, MODE_BYTES), Mode::parse_6),
        (Cdb::mode_sense_10(8, MODE_BYTES.into()), Mode::parse_10),
    ];
    let mut in_vain = false;
    for (cdb, parse) in forms {
        match ask(cdb)? {
            Ok(answer) => return Ok(parse(&answer)),
            Err(ended) => in_vain |= !is_refusal(&ended),
        }
    }
    Ok(Mode { write_cache: in_vain, ..Mode::default() })
}

/// Whether the unit does not know the command, or a field of it (ILLEGAL REQUEST).
fn is_refusal(ended: &Ended) -> bool {
    Sense::parse(&ended.sense).is_some_and(|sense| sense.key == SenseKey::ILLEGAL_REQUEST)
}

/// What REPORT SUPPORTED OPERATION CODES says of one WRITE SAME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Operation {
    supported: bool,
    /// NDOB may be set.
    without_data: bool,
}

impl Operation {
    pub(super) fn parse(answer: &[u8]) -> Self {
        // 011b: as in the standard.
        let supported = answer.get(1).is_some_and(|byte| byte & 7 == 3);
        let bits = answer.get(5).copied().unwrap_or(0);
        let is_16 = answer.get(4) == Some(&0x93);
        Self { supported, without_data: supported && is_16 && bits & 1 != 0 }
    }
}

pub(super) fn discard(limits: &Limits, provisioning: &Provisioning) -> Option<Discard> {
    let by = match provisioning {
        // One that takes no block by it does not have it, whatever this page says (SBC-3 6.6.3).
        Provisioning { unmap: true, .. } if limits.max_unmap.is_some() => DiscardBy::Unmap,
        Provisioning { write_same_16: true, .. } => DiscardBy::WriteSame16,
        Provisioning { write_same_10: true, .. } => DiscardBy::WriteSame10,
        // A thin unit without the page takes UNMAP if it says how much.
        _ if limits.max_unmap.is_some() && limits.max_unmap_descriptors.is_some() => {
            DiscardBy::Unmap
        }
        _ => return None,
    };
    let max_blocks = match by {
        DiscardBy::Unmap => limits.max_unmap.unwrap_or(MOST_UNMAP_BLOCKS).min(MOST_UNMAP_BLOCKS),
        _ => max_same(limits),
    };
    let granularity = limits.unmap_granularity.unwrap_or(1);
    let alignment = limits.unmap_alignment.unwrap_or(0).checked_rem(granularity).unwrap_or(0);
    Some(Discard { by, max_blocks, granularity, alignment })
}

fn max_same(limits: &Limits) -> u32 {
    let most = u64::from(MOST_WRITE_SAME_BLOCKS);
    // The least of the two fits.
    limits.max_write_same.unwrap_or(most).min(most) as u32
}

pub(super) fn write_zeroes(
    limits: &Limits,
    provisioning: &Provisioning,
    zeros: bool,
    same_16: Option<Operation>,
    same_10: Option<Operation>,
) -> Option<WriteZeroes> {
    let supported = |operation: Option<Operation>, otherwise: bool| {
        operation.map_or(otherwise, |operation| operation.supported)
    };
    let sixteen = supported(same_16, provisioning.write_same_16 || limits.max_write_same.is_some());
    if !sixteen && !supported(same_10, provisioning.write_same_10) {
        return None;
    }
    Some(WriteZeroes {
        sixteen,
        without_data: sixteen && same_16.is_some_and(|operation| operation.without_data),
        may_unmap: zeros
            && if sixteen { provisioning.write_same_16 } else { provisioning.write_same_10 },
        max_blocks: max_same(limits),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::outcome::{Failure, Outcome};
    use fusion_mpt::scsi::ScsiStatus;
    use proptest::prelude::*;

    fn page(code: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&[0, code, length[0], length[1]], body].concat()
    }

    #[test]
    fn the_longest_naa_of_the_unit_itself_is_its_name() {
        let mut body = vec![2, 0x01, 0, 4, b'A', b'B', b'C', b'D'];
        body.extend([1, 0x02, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        body.extend([1, 0x03, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4]);
        body.extend([1, 0x13, 0, 16]);
        body.extend([0x60; 16]);
        let name = name(&page(0x83, &body)).expect("a name");
        assert_eq!(name.wwn_link(), "wwn-0x5000c50001020304");
        assert_eq!(name.scsi_link(), "scsi-35000c50001020304");
    }

    #[test]
    fn a_designator_that_is_cut_off_names_nothing() {
        assert_eq!(name(&page(0x83, &[1, 3, 0, 8, 0x50, 0])), None);
        assert_eq!(name(&page(0x83, &[1, 3, 0, 0])), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn limits_of_nought_are_none() {
        assert_eq!(Limits::parse(&page(0xb0, &[0; 60])), Limits::default());
        let mut body = [0; 60];
        body[4..8].copy_from_slice(&128u32.to_be_bytes());
        body[16..20].copy_from_slice(&77u32.to_be_bytes());
        body[28..32].copy_from_slice(&(1u32 << 31 | 5).to_be_bytes());
        body[32..40].copy_from_slice(&9u64.to_be_bytes());
        let limits = Limits::parse(&page(0xb0, &body));
        assert_eq!((limits.max_transfer, limits.max_unmap), (Some(128), Some(77)));
        assert_eq!((limits.unmap_alignment, limits.max_write_same), (Some(5), Some(9)));
    }

    #[test]
    fn a_thin_unit_is_given_blocks_back_in_the_way_that_it_says() {
        let limits = Limits { max_unmap: Some(100), ..Limits::default() };
        let by = |flags| {
            discard(&limits, &Provisioning::parse(&page(0xb2, &[0, flags, 2, 0]))).map(|d| d.by)
        };
        assert_eq!(by(0xe4), Some(DiscardBy::Unmap));
        assert_eq!(by(0x60), Some(DiscardBy::WriteSame16));
        assert_eq!(by(0x20), Some(DiscardBy::WriteSame10));
        assert_eq!(by(0), None);
        // It has the bit, and takes no block.
        let none = Limits::default();
        let says = |flags| Provisioning::parse(&page(0xb2, &[0, flags, 2, 0]));
        assert_eq!(discard(&none, &says(0x80)), None);
        assert_eq!(discard(&none, &says(0xc0)).map(|d| d.by), Some(DiscardBy::WriteSame16));
    }

    #[test]
    fn zeros_are_written_by_the_unit_where_it_knows_how() {
        let (limits, none) = (Limits::default(), Provisioning::default());
        assert_eq!(write_zeroes(&limits, &none, true, None, None), None);
        let can = |code| Operation::parse(&[0, 3, 0, 16, code, 0x0b]);
        let zeroes = write_zeroes(&limits, &none, true, Some(can(0x93)), None).expect("can");
        assert!(zeroes.sixteen && zeroes.without_data && !zeroes.may_unmap);
        let refused = Some(Operation::parse(&[0, 1]));
        let zeroes = write_zeroes(&limits, &none, true, refused, Some(can(0x41))).expect("can");
        assert!(!zeroes.sixteen && !zeroes.without_data);
        let thin = Provisioning { write_same_16: true, ..none };
        assert!(write_zeroes(&limits, &thin, true, None, None).expect("can").may_unmap);
        assert!(!write_zeroes(&limits, &thin, false, None, None).expect("can").may_unmap);
        assert_eq!(write_zeroes(&limits, &thin, true, refused, refused), None);
    }

    #[test]
    fn caching_and_protection_are_found_in_both_forms_of_mode_sense() {
        let all = Mode { write_protected: true, fua: true, write_cache: true };
        assert_eq!(Mode::parse_6(&[23, 0, 0x90, 0, 8, 18, 4]), all);
        assert_eq!(Mode::parse_10(&[0, 30, 0, 0x90, 0, 0, 0, 2, 9, 9, 8, 18, 4]), all);
        assert_eq!(Mode::parse_6(&[3, 0, 0, 0]), Mode::default());
        assert!(!Mode::parse_6(&[3, 0, 0, 200, 8, 18, 4]).write_cache);
    }

    #[test]
    fn a_cache_that_was_asked_for_in_vain_is_flushed_and_one_that_is_denied_is_not() {
        let ended = |key: u8| {
            let mut sense = vec![0; 18];
            (sense[0], sense[2], sense[7], sense[12]) = (0x70, key, 10, 0x24);
            let outcome = Outcome::Complete {
                status: ScsiStatus::CHECK_CONDITION,
                transferred: 0,
                sense_length: 18,
            };
            Ended { outcome, sense }
        };
        let lost = || Ended { outcome: Outcome::Failed(Failure::TimedOut), sense: Vec::new() };
        let cache = |first: Ended, then: Ended| {
            let mut answers = vec![then, first];
            let mode = mode(|_| Ok(Err(answers.pop().expect("two forms"))));
            mode.expect("an answer").write_cache
        };
        assert!(!cache(ended(5), ended(5)), "ILLEGAL REQUEST");
        assert!(cache(lost(), lost()));
        assert!(cache(ended(0xb), ended(5)), "ABORTED COMMAND");
        let answered = mode(|cdb| match cdb.as_bytes()[0] {
            0x1a => Ok(Err(lost())),
            _ => Ok(Ok(vec![0, 30, 0, 0, 0, 0, 0, 0, 8, 18, 0])),
        });
        assert!(!answered.expect("an answer").write_cache, "the other form says so");
    }

    proptest! {
        #[test]
        fn nothing_that_a_device_answers_trips_a_parser(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let limits = Limits::parse(&bytes);
            let provisioning = Provisioning::parse(&bytes);
            if let Some(discard) = discard(&limits, &provisioning) {
                prop_assert!(discard.max_blocks >= 1 && discard.granularity >= 1);
                prop_assert!(discard.alignment < discard.granularity);
            }
            let same = Some(Operation::parse(&bytes));
            if let Some(zeroes) = write_zeroes(&limits, &provisioning, true, same, same) {
                prop_assert!(zeroes.max_blocks >= 1);
            }
            prop_assert!(supported(&bytes).len() <= bytes.len());
            if let Some(name) = name(&bytes) {
                prop_assert!(name.hex().len() >= 16);
            }
            let _ = (Mode::parse_6(&bytes), Mode::parse_10(&bytes), does_not_rotate(&bytes));
        }
    }
}
