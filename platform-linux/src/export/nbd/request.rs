//! What a request asks for, and whether it may.

use super::exports::Export;
use super::wire::{CommandFlags, NbdError, RequestHeader, TransmissionFlags, command};
use crate::export::block::{Errno, Operation};

/// What is to be done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Carry it out, and flush after that, where the operation itself cannot promise what was asked.
    Run {
        /// What to do with its range.
        operation: Operation,
        /// A flush is to follow.
        then_flush: bool,
    },
    /// End the session when everything before it has been answered.
    Disconnect,
}

/// Whether the export takes this request.
///
/// # Errors
///
/// What the client is told.
pub(super) fn check(
    header: &RequestHeader,
    export: &Export,
    structured: bool,
) -> Result<Wish, NbdError> {
    use TransmissionFlags as Can;
    let can = |feature| export.flags.contains(feature);
    let offered = |feature| if can(feature) { Ok(()) } else { Err(NbdError::Invalid) };
    let fua = header.flags.contains(CommandFlags::FUA);
    let run = |operation| Wish::Run { operation, then_flush: false };
    let mut allowed = CommandFlags::empty();
    // Clients are known to set it on every command where it is offered.
    allowed.set(CommandFlags::FUA, can(Can::SEND_FUA));
    let wish = match header.command {
        command::READ => {
            allowed.set(CommandFlags::DF, structured);
            run(Operation::Read)
        }
        command::WRITE => run(Operation::Write { fua }),
        command::DISC => return Ok(Wish::Disconnect),
        command::FLUSH => {
            offered(Can::SEND_FLUSH)?;
            run(Operation::Flush)
        }
        command::TRIM => {
            offered(Can::SEND_TRIM)?;
            Wish::Run { operation: Operation::Discard, then_flush: fua }
        }
        command::WRITE_ZEROES => {
            offered(Can::SEND_WRITE_ZEROES)?;
            allowed |= CommandFlags::NO_HOLE;
            allowed.set(CommandFlags::FAST_ZERO, can(Can::SEND_FAST_ZERO));
            let may_unmap = !header.flags.contains(CommandFlags::NO_HOLE);
            Wish::Run { operation: Operation::WriteZeroes { may_unmap }, then_flush: fua }
        }
        _ => return Err(NbdError::Invalid),
    };
    if !allowed.contains(header.flags) {
        return Err(NbdError::Invalid);
    }
    if let Wish::Run { operation, .. } = wish {
        check_range(header, export, operation)?;
    }
    Ok(wish)
}

fn check_range(
    header: &RequestHeader,
    export: &Export,
    operation: Operation,
) -> Result<(), NbdError> {
    let RequestHeader { offset, length, .. } = *header;
    if operation == Operation::Flush {
        return if (offset, length) == (0, 0) { Ok(()) } else { Err(NbdError::Invalid) };
    }
    if operation.changes() && export.flags.contains(TransmissionFlags::READ_ONLY) {
        return Err(NbdError::NotPermitted);
    }
    let unaligned = (offset | u64::from(length)) & (u64::from(export.block_bytes) - 1) != 0;
    let too_long = operation.moves_data() && length > export.most_bytes;
    if length == 0 || unaligned || too_long {
        return Err(NbdError::Invalid);
    }
    if offset.checked_add(u64::from(length)).is_none_or(|end| end > export.bytes) {
        return Err(match operation {
            Operation::Write { .. } | Operation::WriteZeroes { .. } => NbdError::NoSpace,
            _ => NbdError::Invalid,
        });
    }
    Ok(())
}

impl From<Errno> for NbdError {
    /// The protocol knows few errors; what it does not know is an input/output error.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NO_MEMORY => Self::OutOfMemory,
            Errno::NO_SPACE => Self::NoSpace,
            Errno::READ_ONLY => Self::NotPermitted,
            // ENOTSUP is kept for fast zeroes that would be slow, and ours never are.
            Errno::INVALID | Errno::NOT_SUPPORTED => Self::Invalid,
            _ => Self::InputOutput,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(flags: TransmissionFlags) -> Export {
        Export {
            names: vec!["a".into()],
            description: String::new(),
            bytes: 1 << 20,
            block_bytes: 4096,
            preferred_bytes: 4096,
            most_bytes: 1 << 18,
            flags: flags | TransmissionFlags::HAS_FLAGS,
        }
    }

    fn header(command: u16, flags: CommandFlags, offset: u64, length: u32) -> RequestHeader {
        RequestHeader { flags, command, cookie: 1, offset, length }
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        let bare = export(TransmissionFlags::empty());
        let none = CommandFlags::empty();
        for request in [
            header(command::FLUSH, none, 0, 0),
            header(command::TRIM, none, 0, 4096),
            header(command::WRITE_ZEROES, none, 0, 4096),
            header(command::WRITE, CommandFlags::FUA, 0, 4096),
            header(command::READ, CommandFlags::DF, 0, 4096),
            header(5, none, 0, 4096),
            header(command::READ, CommandFlags::from_bits_retain(1 << 9), 0, 4096),
        ] {
            assert_eq!(check(&request, &bare, false), Err(NbdError::Invalid), "{request:?}");
        }
    }

    #[test]
    fn a_range_is_of_whole_blocks_and_within_the_export() {
        let all = export(TransmissionFlags::all());
        let writable = Export { flags: all.flags - TransmissionFlags::READ_ONLY, ..all.clone() };
        let ask = |export: &Export, command, offset, length| {
            check(&header(command, CommandFlags::empty(), offset, length), export, false).err()
        };
        let end = 1 << 20;
        assert_eq!(ask(&writable, command::READ, end - 4096, 4096), None);
        assert_eq!(ask(&writable, command::READ, end, 4096), Some(NbdError::Invalid));
        assert_eq!(ask(&writable, command::WRITE, end, 4096), Some(NbdError::NoSpace));
        assert_eq!(ask(&writable, command::WRITE, u64::MAX - 4095, 4096), Some(NbdError::NoSpace));
        assert_eq!(ask(&writable, command::READ, 512, 4096), Some(NbdError::Invalid));
        assert_eq!(ask(&writable, command::READ, 0, 0), Some(NbdError::Invalid));
        assert_eq!(ask(&writable, command::READ, 0, 1 << 19), Some(NbdError::Invalid));
        assert_eq!(ask(&writable, command::TRIM, 0, 1 << 19), None, "no data is moved");
        assert_eq!(ask(&all, command::WRITE, 0, 4096), Some(NbdError::NotPermitted));
        assert_eq!(ask(&writable, command::FLUSH, 0, 4096), Some(NbdError::Invalid));
    }

    #[test]
    fn a_forced_trim_ends_in_a_flush() {
        let all = export(TransmissionFlags::all() - TransmissionFlags::READ_ONLY);
        let forced = header(command::TRIM, CommandFlags::FUA, 0, 4096);
        let wish = Wish::Run { operation: Operation::Discard, then_flush: true };
        assert_eq!(check(&forced, &all, false), Ok(wish));
    }
}
