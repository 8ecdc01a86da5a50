//! The kernel's generic netlink, as far as its NBD client wants it: messages of attributes to a
//! family that is asked for by name (`linux/netlink.h`, `linux/genetlink.h`). Numbers are in the
//! machine's own byte order.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with};

/// `NLMSG_ERROR`: an errno, or 0 for an acknowledgement.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// `GENL_ID_CTRL`: the family that knows all others.
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// Bytes of a message's header, and of that of a generic one behind it.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// Attributes of a message that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds bytes.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number of 32 bits.
    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number of 64 bits.
    pub(super) fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a string, with the zero that ends it.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds attributes in an attribute.
    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }
}

/// A family of generic netlink, and a socket to it.
#[derive(Debug)]
pub(super) struct Family {
    socket: OwnedFd,
    id: u16,
    sequence: u32,
}

impl Family {
    /// Asks for the family with this name.
    ///
    /// # Errors
    ///
    /// [`Errno::NOENT`] when there is none, and what the system refuses with.
    pub(super) fn open(name: &str) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(GENERIC))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        let mut family = Self { socket, id: CONTROL, sequence: 0 };
        let wanted = Attributes::default().text(CONTROL_FAMILY_NAME, name);
        let answer = family.call(CONTROL_GET_FAMILY, &wanted)?;
        let id = attribute(&answer, CONTROL_FAMILY_ID).and_then(<[u8]>::first_chunk);
        family.id = id.copied().map(u16::from_ne_bytes).ok_or(Errno::NOENT)?;
        Ok(family)
    }

    /// Sends a command and waits for its end; returns the attributes of the answer, if one came.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub(super) fn call(&mut self, command: u8, attributes: &Attributes) -> Result<Vec<u8>, Errno> {
        self.sequence += 1;
        let request = message(self.id, command, self.sequence, attributes);
        send(&self.socket, &request, SendFlags::empty())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let received = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?.1,
            };
            let mut rest = buffer.get(..received).unwrap_or_default();
            while let Some(message) = Message::parse(&mut rest) {
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == ERROR {
                    let error = message.payload.first_chunk().copied().map(i32::from_ne_bytes);
                    return match error.unwrap_or(-Errno::IO.raw_os_error()) {
                        0 => Ok(answer),
                        error => Err(Errno::from_raw_os_error(error.saturating_neg())),
                    };
                }
                let attributes = message.payload.get(GENERIC_HEADER..).unwrap_or_default();
                answer.extend_from_slice(attributes);
            }
        }
    }
}

fn message(family: u16, command: u8, sequence: u32, attributes: &Attributes) -> Vec<u8> {
    let length = (HEADER + GENERIC_HEADER + attributes.0.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(family.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    // Version 1, and two reserved bytes.
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(&attributes.0);
    bytes
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message<'b> {
    kind: u16,
    sequence: u32,
    payload: &'b [u8],
}

impl<'b> Message<'b> {
    /// Takes one from the front; `None` when nothing whole is left.
    fn parse(rest: &mut &'b [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let payload = rest.get(HEADER..length)?;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*rest.get(8..)?.first_chunk()?);
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Self { kind, sequence, payload })
    }
}

/// The value of the first attribute of this kind.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?) & !NESTED;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let inner = Attributes::default().u32(1, 7);
        let Attributes(bytes) =
            Attributes::default().text(10, "name").nested(7, &inner).u64(2, 1 << 40);
        assert_eq!(bytes.len(), 12 + 12 + 12);
        assert_eq!(attribute(&bytes, 10), Some(&b"name\0"[..]));
        let nested = attribute(&bytes, 7).expect("there");
        assert_eq!(attribute(nested, 1), Some(&7u32.to_ne_bytes()[..]));
        assert_eq!(attribute(&bytes, 2), Some(&(1u64 << 40).to_ne_bytes()[..]));
        assert_eq!(attribute(&bytes, 3), None);
    }

    #[test]
    fn a_family_that_is_not_there_is_said_not_to_be() {
        // Netlink itself may be shut off where tests run.
        if let Err(error) = Family::open("no-such-family") {
            assert!(
                matches!(error, Errno::NOENT | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT),
                "{error}"
            );
        } else {
            panic!("a family of that name");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut rest = &bytes[..];
            while let Some(message) = Message::parse(&mut rest) {
                prop_assert!(message.payload.len() + HEADER <= bytes.len());
                attribute(message.payload, 1);
            }
        }
    }
}
