//! The handshake: greeting, client flags, and options until the client has chosen an export. Bytes
//! in, bytes out; sockets are somebody else's.

use super::exports::{Export, Exports};
use super::wire::{
    FIXED_NEWSTYLE, GREETING_MAGIC, NO_ZEROES, OPTION_MAGIC, OPTION_REPLY_MAGIC, Reader,
    TransmissionFlags, info, option, reply,
};

/// The most data an option may come with, in bytes: a name is at most 4096, and the longest option
/// that we know has one name and a few numbers.
const MOST_OPTION_BYTES: usize = 8 << 10;
/// Options that one client may try. Those that probe a server send about five.
const MOST_OPTIONS: u32 = 256;
/// The longest string of the protocol, in bytes.
const LONGEST_STRING: usize = 4096;

/// What comes next on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes of the client.
    More,
    /// Requests for the export with this key; replies are structured or simple.
    Transmission { export: usize, structured: bool },
    /// The end, once what was said has been sent.
    Close,
}

/// One connection's handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Haggling {
    flags_seen: bool,
    fixed: bool,
    no_zeroes: bool,
    structured: bool,
    options: u32,
    /// New sessions are no longer let begin.
    pub(super) shutting_down: bool,
}

impl Haggling {
    /// What the server says first, 18 bytes.
    pub(super) fn greeting() -> Vec<u8> {
        let mut bytes = GREETING_MAGIC.to_be_bytes().to_vec();
        bytes.extend(OPTION_MAGIC.to_be_bytes());
        bytes.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
        bytes
    }

    /// Takes what is complete at the front of `input`, and puts what is to be said into `output`.
    /// Returns how many bytes of the input are done with, and what comes next.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        exports: &Exports,
        output: &mut Vec<u8>,
    ) -> (usize, Next) {
        let mut reader = Reader(input);
        let mut taken = 0;
        loop {
            let next = self.one(&mut reader, exports, output);
            if let Some(next) = next {
                if next != Next::More {
                    taken = input.len() - reader.0.len();
                }
                return (taken, next);
            }
            taken = input.len() - reader.0.len();
        }
    }

    /// One message; `None` when it has been dealt with and another may follow.
    fn one(
        &mut self,
        reader: &mut Reader<'_>,
        exports: &Exports,
        output: &mut Vec<u8>,
    ) -> Option<Next> {
        if !self.flags_seen {
            let Some(flags) = reader.u32() else { return Some(Next::More) };
            if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
                return Some(Next::Close);
            }
            self.fixed = flags & u32::from(FIXED_NEWSTYLE) != 0;
            self.no_zeroes = flags & u32::from(NO_ZEROES) != 0;
            self.flags_seen = true;
            return None;
        }
        let Some(magic) = reader.u64() else { return Some(Next::More) };
        if magic != OPTION_MAGIC {
            return Some(Next::Close);
        }
        let (Some(kind), Some(length)) = (reader.u32(), reader.u32()) else {
            return Some(Next::More);
        };
        self.options += u32::from(reader.0.len() >= length as usize);
        if length as usize > MOST_OPTION_BYTES || self.options > MOST_OPTIONS {
            return Some(Next::Close);
        }
        let Some(data) = reader.bytes(length as usize) else { return Some(Next::More) };
        if kind == option::EXPORT_NAME {
            return Some(self.export_name(data, exports, output));
        }
        if !self.fixed {
            // Without the fix the protocol has no way to say no.
            return Some(Next::Close);
        }
        self.option(kind, data, exports, output)
    }

    fn option(
        &mut self,
        kind: u32,
        data: &[u8],
        exports: &Exports,
        output: &mut Vec<u8>,
    ) -> Option<Next> {
        let mut answer = |what: u32, data: &[u8]| put_reply(output, kind, what, data);
        match kind {
            option::ABORT => {
                answer(reply::ACK, &[]);
                return Some(Next::Close);
            }
            _ if self.shutting_down => {
                answer(reply::ERR_SHUTDOWN, b"the server is shutting down");
            }
            option::LIST if data.is_empty() => {
                for export in exports.iter() {
                    let Some(name) = export.names.first() else { continue };
                    let mut text = (name.len() as u32).to_be_bytes().to_vec();
                    text.extend(name.as_bytes());
                    text.extend(export.description.as_bytes());
                    answer(reply::SERVER, &text);
                }
                answer(reply::ACK, &[]);
            }
            option::LIST => answer(reply::ERR_INVALID, b"a list takes no data"),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                answer(reply::ACK, &[]);
            }
            option::STRUCTURED_REPLY => {
                answer(reply::ERR_INVALID, b"structured replies take no data");
            }
            option::INFO | option::GO => {
                let Some((name, wanted)) = parse_info(data) else {
                    answer(reply::ERR_INVALID, b"the option's data is not well formed");
                    return None;
                };
                let Some((key, export)) = exports.find(name) else {
                    answer(reply::ERR_UNKNOWN, b"there is no export of this name");
                    return None;
                };
                for information in self.information(export, &wanted) {
                    answer(reply::INFO, &information);
                }
                answer(reply::ACK, &[]);
                if kind == option::GO {
                    return Some(Next::Transmission { export: key, structured: self.structured });
                }
            }
            _ => answer(reply::ERR_UNSUP, b"this server does not know the option"),
        }
        None
    }

    /// `NBD_OPT_EXPORT_NAME`, which knows no errors.
    fn export_name(&self, name: &[u8], exports: &Exports, output: &mut Vec<u8>) -> Next {
        let found = if self.shutting_down { None } else { exports.find(name) };
        let Some((key, export)) = found else { return Next::Close };
        output.extend(export.bytes.to_be_bytes());
        output.extend(self.flags_of(export).bits().to_be_bytes());
        if !self.no_zeroes {
            output.extend([0; 124]);
        }
        Next::Transmission { export: key, structured: self.structured }
    }

    fn flags_of(&self, export: &Export) -> TransmissionFlags {
        let mut flags = export.flags;
        flags.set(TransmissionFlags::SEND_DF, self.structured);
        flags
    }

    /// What a client is told of an export: always its size and flags, else what it asked for. Block
    /// sizes are told to everyone, so that those who see the reply need not guess.
    fn information(&self, export: &Export, wanted: &[u16]) -> Vec<Vec<u8>> {
        let of = |kind: u16, parts: &[&[u8]]| {
            let mut bytes = kind.to_be_bytes().to_vec();
            parts.iter().for_each(|part| bytes.extend(*part));
            bytes
        };
        let flags = self.flags_of(export).bits();
        let sizes = [export.block_bytes, export.preferred_bytes, export.most_bytes];
        let [least, preferred, most] = sizes.map(u32::to_be_bytes);
        let mut all = vec![
            of(info::EXPORT, &[&export.bytes.to_be_bytes(), &flags.to_be_bytes()]),
            of(info::BLOCK_SIZE, &[&least, &preferred, &most]),
        ];
        if let (true, Some(name)) = (wanted.contains(&info::NAME), export.names.first()) {
            all.push(of(info::NAME, &[name.as_bytes()]));
        }
        if wanted.contains(&info::DESCRIPTION) {
            all.push(of(info::DESCRIPTION, &[export.description.as_bytes()]));
        }
        all
    }
}

/// Takes the data of `NBD_OPT_INFO` and `NBD_OPT_GO` apart: the name, and what is asked for.
fn parse_info(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let mut reader = Reader(data);
    let length = reader.u32()? as usize;
    if length > LONGEST_STRING {
        return None;
    }
    let name = reader.bytes(length)?;
    let count = reader.u16()?;
    let wanted = (0..count).map(|_| reader.u16()).collect::<Option<Vec<u16>>>()?;
    reader.0.is_empty().then_some((name, wanted))
}

fn put_reply(output: &mut Vec<u8>, option: u32, what: u32, data: &[u8]) {
    output.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    output.extend(option.to_be_bytes());
    output.extend(what.to_be_bytes());
    output.extend((data.len() as u32).to_be_bytes());
    output.extend(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exports() -> Exports {
        let mut exports = Exports::default();
        for (at, name) in ["5000c500aaaa0001", "5000c500aaaa0002"].into_iter().enumerate() {
            exports.put(
                at,
                Export {
                    names: vec![name.into(), format!("target{at}")],
                    description: "A disk".into(),
                    bytes: 1 << 30,
                    block_bytes: 4096,
                    preferred_bytes: 4096,
                    most_bytes: 4 << 20,
                    flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH,
                },
            );
        }
        exports
    }

    fn option(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn an_old_client_gets_its_export_by_name_and_the_padding() {
        let (mut haggling, mut output) = (Haggling::default(), Vec::new());
        let mut input = vec![0, 0, 0, 0];
        input.extend(option(1, b"target1"));
        let (taken, next) = haggling.advance(&input, &exports(), &mut output);
        assert_eq!(
            (taken, next),
            (input.len(), Next::Transmission { export: 1, structured: false })
        );
        assert_eq!((output.len(), &output[..8]), (8 + 2 + 124, &(1_u64 << 30).to_be_bytes()[..]));
    }

    #[test]
    fn a_name_that_is_not_there_is_refused_and_another_may_be_tried() {
        let (mut haggling, mut output) = (Haggling::default(), Vec::new());
        let mut input = vec![0, 0, 0, 3];
        input.extend(option(7, b"\0\0\0\x02ab\0\0"));
        let first = input.len();
        input.extend(option(7, b"\0\0\0\0\0\x01\0\x03"));
        let (taken, next) = haggling.advance(&input[..first], &exports(), &mut output);
        assert_eq!((taken, next), (first, Next::More));
        assert_eq!(output[12..16], [0x80, 0, 0, 6], "NBD_REP_ERR_UNKNOWN");
        let (_, next) = haggling.advance(&input[first..], &exports(), &mut output);
        assert_eq!(next, Next::Transmission { export: 0, structured: false });
    }

    #[test]
    fn an_option_is_left_in_the_input_until_it_is_whole() {
        let (mut haggling, mut output) = (Haggling::default(), Vec::new());
        let mut input = vec![0, 0, 0, 3];
        input.extend(option(3, &[]));
        assert_eq!(haggling.advance(&input[..9], &exports(), &mut output), (4, Next::More));
        assert!(output.is_empty());
        let (taken, next) = haggling.advance(&input[4..], &exports(), &mut output);
        assert_eq!((taken, next), (16, Next::More));
        assert!(output.windows(16).any(|name| name == b"5000c500aaaa0002"));
    }

    #[test]
    fn what_no_client_sends_closes_the_connection() {
        for input in [
            vec![0, 0, 0, 4],
            [vec![0, 0, 0, 1], b"GET / HTTP/1.1\r\n".to_vec()].concat(),
            [vec![0, 0, 0, 1], b"IHAVEOPT\0\0\0\x03\xff\xff\xff\xff".to_vec()].concat(),
            [vec![0, 0, 0, 0], option(3, &[])].concat(),
            [vec![0, 0, 0, 1], option(1, b"nothing")].concat(),
        ] {
            let (mut haggling, mut output) = (Haggling::default(), Vec::new());
            let (_, next) = haggling.advance(&input, &exports(), &mut output);
            assert_eq!((next, output.len()), (Next::Close, 0), "{input:?}");
        }
    }

    #[test]
    fn a_client_that_haggles_for_ever_is_dropped() {
        let (mut haggling, mut output) = (Haggling::default(), Vec::new());
        assert_eq!(haggling.advance(&[0, 0, 0, 3], &exports(), &mut output).1, Next::More);
        let unknown = option(99, b"?");
        let tries = (0..1000)
            .take_while(|_| haggling.advance(&unknown, &exports(), &mut output).1 == Next::More)
            .count();
        assert_eq!(tries, MOST_OPTIONS as usize);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_within_bounds_however_they_are_cut(
            flags in 0u32..4,
            options in proptest::collection::vec(
                (0u32..12, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            cut in 1usize..40,
        ) {
            let mut stream = flags.to_be_bytes().to_vec();
            options.iter().for_each(|(kind, data)| stream.extend(option(*kind, data)));
            stream.extend(noise);
            let (mut haggling, mut output, exports) = (Haggling::default(), Vec::new(), exports());
            let (mut pending, mut whole) = (Vec::new(), Vec::new());
            let mut next = Next::More;
            for piece in stream.chunks(cut) {
                pending.extend(piece);
                let taken;
                (taken, next) = haggling.advance(&pending, &exports, &mut output);
                pending.drain(..taken);
                if next != Next::More {
                    break;
                }
            }
            let (_, at_once) = Haggling::default().advance(&stream, &exports, &mut whole);
            prop_assert_eq!(next, at_once);
            prop_assert_eq!(&output, &whole);
            prop_assert!(output.len() < 4096);
        }
    }
}
