//! Takes scatter/gather lists apart: MPI elements with 32- and 64-bit addresses, and IEEE ones,
//! with chains (mpi.h and mpi2.h, "Scatter Gather Elements").
//!
//! Written from the headers, apart from the driver's encoder, so that the two judge each other. A
//! list is followed no further than the data goes, each chain counts against the chip's limit,
//! and nothing in it is believed before it is checked.

pub(crate) use crate::memory::Segment;

use crate::memory::DeviceMemory;

use super::message::{byte, le16, le32, le64};

/// What is wrong with a list, in words for the model's complaints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadSgl(pub(crate) &'static str);

/// Where a message's list is, and what bounds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    /// Bus address of the message.
    pub(crate) frame: u64,
    /// Bytes of the message's frame.
    pub(crate) frame_bytes: u32,
    /// Where in it the list begins.
    pub(crate) offset: u32,
    /// The message's `ChainOffset`, in its own units; 0 without chains.
    pub(crate) chain_offset: u8,
    /// IEEE elements, or MPI ones.
    pub(crate) ieee: bool,
    /// Whether the data comes from the host, as MPI elements say once more.
    pub(crate) from_host: bool,
    /// Bytes of data.
    pub(crate) data: u32,
    /// The longest chain segment.
    pub(crate) chain_bytes: u32,
    /// The most chain segments.
    pub(crate) chains: u32,
}

const MPI_TYPE: u8 = 0x30;
const MPI_SIMPLE: u8 = 0x10;
const MPI_CHAIN: u8 = 0x30;
const MPI_LAST_ELEMENT: u8 = 0x80;
const MPI_END_OF_BUFFER: u8 = 0x40;
const MPI_LOCAL: u8 = 0x08;
const MPI_HOST_TO_IOC: u8 = 0x04;
const MPI_64_BIT: u8 = 0x02;
const MPI_END_OF_LIST: u8 = 0x01;
const IEEE_CHAIN: u8 = 0x80;
const IEEE_END_OF_LIST: u8 = 0x40;
const IEEE_ADDRESS_SPACE: u8 = 0x03;

/// Appends the list's segments, up to the length of the data, to `segments`.
///
/// # Errors
///
/// [`BadSgl`] if it is malformed, too short for the data, or lies outside the host's memory.
pub(crate) fn decode(
    memory: &dyn DeviceMemory,
    list: &List,
    segments: &mut Vec<Segment>,
) -> Result<(), BadSgl> {
    let mut left = list.data;
    let (unit, widest) = if list.ieee { (16, 16) } else { (4, 12) };
    let mut base = list.frame;
    let mut at = list.offset;
    let mut end = list.frame_bytes;
    let mut chain_at = u32::from(list.chain_offset) * unit;
    let mut chains = 0;
    loop {
        let mut element = [0u8; 16];
        let is_chain = chain_at != 0 && at == chain_at && list.ieee;
        let size = if list.ieee {
            16
        } else {
            // An MPI element says how long it is.
            read(memory, base, at, end, &mut element[..4])?;
            if element[3] & MPI_64_BIT != 0 { 12 } else { 8 }
        };
        if !is_chain {
            read(memory, base, at, end, &mut element[..size])?;
            let simple = if list.ieee { ieee(&element)? } else { mpi(&element, list)? };
            let bytes = simple.segment.bytes.min(left);
            if bytes > 0 {
                segments.push(Segment { at: simple.segment.at, bytes });
                left -= bytes;
            }
            if left == 0 {
                return Ok(());
            }
            if simple.segment.bytes == 0 {
                return Err(BadSgl("an element of no bytes comes before the data's end"));
            }
            if simple.ends {
                return Err(BadSgl("the list ends before the data does"));
            }
            at += size as u32;
            // IEEE lists go on up to the chain's place; MPI ones say where they stop.
            if list.ieee || !simple.last {
                continue;
            }
            if chain_at == 0 {
                return Err(BadSgl(
                    "the last element comes before the data's end, without a chain",
                ));
            }
            if chain_at < at {
                return Err(BadSgl("the chain element lies over elements"));
            }
        }
        chains += 1;
        if chains > list.chains {
            return Err(BadSgl("there are more chain segments than MaxChainDepth"));
        }
        // A chain element may stand past the length that its segment states for the others.
        read(memory, base, chain_at, end.max(chain_at + widest), &mut element[..widest as usize])?;
        let chain = if list.ieee { ieee_chain(&element)? } else { mpi_chain(&element)? };
        if chain.bytes == 0 || chain.bytes > list.chain_bytes {
            return Err(BadSgl("a chain segment is empty, or longer than the facts allow"));
        }
        base = chain.at;
        at = 0;
        end = chain.bytes;
        chain_at = u32::from(chain.next) * unit;
    }
}

fn read(
    memory: &dyn DeviceMemory,
    base: u64,
    at: u32,
    end: u32,
    bytes: &mut [u8],
) -> Result<(), BadSgl> {
    if at as usize + bytes.len() > end as usize {
        return Err(BadSgl("the list runs past the end of its frame or chain segment"));
    }
    memory
        .read(base.wrapping_add(u64::from(at)), bytes)
        .map_err(|_| BadSgl("the list, or a chain of it, lies outside the host's memory"))
}

struct Simple {
    segment: Segment,
    /// A chain follows, or nothing.
    last: bool,
    /// Nothing follows.
    ends: bool,
}

struct Chain {
    at: u64,
    bytes: u32,
    next: u8,
}

fn mpi(element: &[u8], list: &List) -> Result<Simple, BadSgl> {
    let word = le32(element, 0);
    let flags = (word >> 24) as u8;
    let bytes = word & 0x00ff_ffff;
    if flags & MPI_TYPE != MPI_SIMPLE {
        return Err(BadSgl("an element is not a simple one where one must be"));
    }
    if flags & MPI_LOCAL != 0 {
        return Err(BadSgl("an element points into the controller's own memory"));
    }
    if bytes > 0 && list.data > 0 && (flags & MPI_HOST_TO_IOC != 0) != list.from_host {
        return Err(BadSgl("an element's direction is not the message's"));
    }
    let ends = flags & MPI_END_OF_LIST != 0;
    if bytes == 0 && !ends && flags & MPI_END_OF_BUFFER == 0 {
        return Err(BadSgl("an element has no bytes and does not end the list"));
    }
    let at = if flags & MPI_64_BIT != 0 { le64(element, 4) } else { le32(element, 4).into() };
    Ok(Simple { segment: Segment { at, bytes }, last: flags & MPI_LAST_ELEMENT != 0, ends })
}

fn mpi_chain(element: &[u8]) -> Result<Chain, BadSgl> {
    let flags = byte(element, 3);
    if flags & MPI_TYPE != MPI_CHAIN {
        return Err(BadSgl("there is no chain element where ChainOffset says"));
    }
    if flags & MPI_LOCAL != 0 {
        return Err(BadSgl("a chain points into the controller's own memory"));
    }
    let at = if flags & MPI_64_BIT != 0 { le64(element, 4) } else { le32(element, 4).into() };
    Ok(Chain { at, bytes: le16(element, 0).into(), next: byte(element, 2) })
}

fn ieee(element: &[u8]) -> Result<Simple, BadSgl> {
    let flags = byte(element, 15);
    if flags & IEEE_CHAIN != 0 {
        return Err(BadSgl("an element is not a simple one where one must be"));
    }
    if flags & IEEE_ADDRESS_SPACE != 0 {
        return Err(BadSgl("an element points elsewhere than into the host's memory"));
    }
    let ends = flags & IEEE_END_OF_LIST != 0;
    let segment = Segment { at: le64(element, 0), bytes: le32(element, 8) };
    Ok(Simple { segment, last: ends, ends })
}

fn ieee_chain(element: &[u8]) -> Result<Chain, BadSgl> {
    let flags = byte(element, 15);
    if flags & IEEE_CHAIN == 0 {
        return Err(BadSgl("there is no chain element where ChainOffset says"));
    }
    if flags & IEEE_ADDRESS_SPACE != 0 {
        return Err(BadSgl("a chain points elsewhere than into the host's memory"));
    }
    Ok(Chain { at: le64(element, 0), bytes: le32(element, 8), next: byte(element, 14) })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::memory::DmaFault;

    /// Memory from address 0 on.
    struct Bytes(RefCell<Vec<u8>>);

    impl DeviceMemory for Bytes {
        fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
            let fault = DmaFault { at, bytes: bytes.len() };
            let memory = self.0.borrow();
            let at = usize::try_from(at).map_err(|_| fault)?;
            let end = at.checked_add(bytes.len()).ok_or(fault)?;
            bytes.copy_from_slice(memory.get(at..end).ok_or(fault)?);
            Ok(())
        }
        fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
            Err(DmaFault { at, bytes: bytes.len() })
        }
    }

    const LIST: List = List {
        frame: 0,
        frame_bytes: 128,
        offset: 0x60,
        chain_offset: 0,
        ieee: false,
        from_host: false,
        data: 0x300,
        chain_bytes: 128,
        chains: 2,
    };

    fn decoded(puts: &[(usize, &[u8])], list: List) -> Result<Vec<(u64, u32)>, BadSgl> {
        let mut bytes = vec![0u8; 0x400];
        for (at, put) in puts {
            bytes[*at..at + put.len()].copy_from_slice(put);
        }
        let mut segments = Vec::new();
        decode(&Bytes(RefCell::new(bytes)), &list, &mut segments)?;
        Ok(segments.iter().map(|segment| (segment.at, segment.bytes)).collect())
    }

    fn mpi64(flags: u8, bytes: u32, at: u64) -> Vec<u8> {
        let word = u32::from(flags) << 24 | bytes;
        [&word.to_le_bytes()[..], &at.to_le_bytes()[..]].concat()
    }

    fn ieee64(at: u64, bytes: u32, next: u8, flags: u8) -> Vec<u8> {
        [&at.to_le_bytes()[..], &bytes.to_le_bytes()[..], &[0, 0, next, flags]].concat()
    }

    #[test]
    fn an_mpi_list_with_a_chain_is_followed() {
        let chain = 0x3200_0000u32 | 24;
        let puts = [
            (0x60, mpi64(0x92, 0x100, 7 << 32)),
            (0x6c, [&chain.to_le_bytes()[..], &0x200u64.to_le_bytes()[..]].concat()),
            (0x200, mpi64(0x12, 0x100, 0x1000)),
            (0x20c, mpi64(0xd3, 0x200, 0x2000)),
        ];
        let puts: Vec<(usize, &[u8])> = puts.iter().map(|(at, put)| (*at, &put[..])).collect();
        let list = List { chain_offset: 0x6c / 4, ..LIST };
        assert_eq!(
            decoded(&puts, list),
            Ok(vec![(7 << 32, 0x100), (0x1000, 0x100), (0x2000, 0x100)])
        );
        assert!(decoded(&puts, List { chains: 0, ..list }).is_err());
        assert!(decoded(&puts, List { from_host: true, ..list }).is_err());
        assert!(decoded(&puts, List { data: 0x500, ..list }).is_err(), "too short");
    }

    #[test]
    fn an_ieee_list_with_two_chains_is_followed() {
        let puts = [
            (0x60, ieee64(7 << 32, 0x100, 0, 0)),
            (0x70, ieee64(0x200, 32, 1, 0x80)),
            (0x200, ieee64(0x1000, 0x100, 0, 0)),
            (0x210, ieee64(0x300, 16, 0, 0x80)),
            (0x300, ieee64(0x2000, 0x100, 0, 0x40)),
        ];
        let puts: Vec<(usize, &[u8])> = puts.iter().map(|(at, put)| (*at, &put[..])).collect();
        let list = List { ieee: true, chain_offset: 7, ..LIST };
        let whole = vec![(7 << 32, 0x100), (0x1000, 0x100), (0x2000, 0x100)];
        assert_eq!(decoded(&puts, list), Ok(whole));
        assert!(decoded(&puts, List { chains: 1, ..list }).is_err());
        assert!(decoded(&puts, List { data: 0x301, ..list }).is_err());
        assert!(decoded(&puts, List { chain_bytes: 16, ..list }).is_err());
    }

    #[test]
    fn a_list_that_leaves_its_frame_or_the_memory_is_refused() {
        let element = mpi64(0x12, 0x10, 0x1000);
        let puts = [(0x60, &element[..]), (0x6c, &element[..])];
        assert_eq!(
            decoded(&puts, List { frame_bytes: 0x78, ..LIST }),
            Err(BadSgl("the list runs past the end of its frame or chain segment"))
        );
        assert!(decoded(&puts, List { frame: u64::MAX - 8, ..LIST }).is_err());
        assert!(decoded(&[(0x60, &[0; 12])], LIST).is_err(), "no element at all");
    }

    #[test]
    fn no_data_needs_one_empty_element() {
        let list = List { data: 0, ..LIST };
        assert_eq!(decoded(&[(0x60, &mpi64(0xd1, 0, 0)[..])], list), Ok(vec![]));
        let list = List { ieee: true, ..list };
        assert_eq!(decoded(&[(0x60, &ieee64(0, 0, 0, 0x40)[..])], list), Ok(vec![]));
    }
}
