//! Between a file and memory that is mapped into this process, by the system alone: nothing is held
//! in between, and no reference to memory that others write is formed.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;

use super::{TransferCause, TransferError};

/// Pieces handed to the system at a time; far fewer than it takes (`IOV_MAX`, 1024).
const PIECES: usize = 128;

/// A piece of mapped memory.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Its first byte.
    pub at: NonNull<u8>,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Reads the file's bytes from `offset` on into the pieces, in order, until all are full.
///
/// # Errors
///
/// [`TransferError`]: a file that ends too early, what reading it failed with, or memory that the
/// system could not reach, for instance past the end of the file that backs it.
///
/// # Safety
///
/// Each piece is mapped and writable until the call returns, and nobody holds a reference to it.
pub unsafe fn fill_from_file(
    pieces: &[Mapped],
    file: &File,
    offset: u64,
) -> Result<(), TransferError> {
    transfer(pieces, offset, io::ErrorKind::UnexpectedEof, |vectors, offset| {
        let (fd, count) = (file.as_raw_fd(), vectors.len() as libc::c_int);
        // SAFETY: the vectors name memory that the caller promises to be writable.
        unsafe { libc::preadv(fd, vectors.as_ptr(), count, offset) }
    })
}

/// Writes the pieces' bytes, in order, to the file from `offset` on.
///
/// # Errors
///
/// As [`fill_from_file`].
///
/// # Safety
///
/// Each piece is mapped and readable until the call returns, and nobody holds a unique reference
/// to it.
pub unsafe fn store_to_file(
    pieces: &[Mapped],
    file: &File,
    offset: u64,
) -> Result<(), TransferError> {
    transfer(pieces, offset, io::ErrorKind::WriteZero, |vectors, offset| {
        let (fd, count): (RawFd, _) = (file.as_raw_fd(), vectors.len() as libc::c_int);
        // SAFETY: the vectors name memory that the caller promises to be readable.
        unsafe { libc::pwritev(fd, vectors.as_ptr(), count, offset) }
    })
}

/// Calls `system` with what is left, again and again until nothing is.
fn transfer(
    pieces: &[Mapped],
    offset: u64,
    at_the_end: io::ErrorKind,
    system: impl Fn(&[libc::iovec], libc::off_t) -> isize,
) -> Result<(), TransferError> {
    let mut moved = 0;
    let stopped = |moved, error| Err(TransferError { moved, cause: TransferCause::Disk(error) });
    // The piece that is next, and how much of it is done.
    let (mut next, mut done) = (0, 0);
    loop {
        let mut vectors =
            [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; PIECES];
        let mut count = 0;
        for (index, piece) in pieces.iter().enumerate().skip(next).take(PIECES) {
            let skip = if index == next { done } else { 0 };
            vectors[count] = libc::iovec {
                iov_base: piece.at.as_ptr().wrapping_add(skip).cast(),
                iov_len: piece.bytes - skip,
            };
            count += 1;
        }
        if vectors[..count].iter().all(|vector| vector.iov_len == 0) {
            if next + count >= pieces.len() {
                return Ok(());
            }
            (next, done) = (next + count, 0);
            continue;
        }
        let Ok(position) = libc::off_t::try_from(offset + moved) else {
            return stopped(moved, io::ErrorKind::InvalidInput.into());
        };
        let mut step = match system(&vectors[..count], position) {
            0 => return stopped(moved, at_the_end.into()),
            step @ 1.. => step as usize,
            _ => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EFAULT) => {
                        return Err(TransferError { moved, cause: TransferCause::Memory });
                    }
                    _ => return stopped(moved, error),
                }
            }
        };
        moved += step as u64;
        while let Some(piece) = pieces.get(next)
            && step >= piece.bytes - done
        {
            step -= piece.bytes - done;
            (next, done) = (next + 1, 0);
        }
        done += step;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// `memory` cut into pieces of these lengths.
    fn cut(memory: &mut [u8], lengths: &[usize]) -> Vec<Mapped> {
        let mut at = NonNull::from(memory).cast::<u8>();
        let piece = |bytes: &usize| {
            let piece = Mapped { at, bytes: *bytes };
            // SAFETY: the lengths add up to no more than the memory has.
            at = unsafe { at.add(*bytes) };
            piece
        };
        lengths.iter().map(piece).collect()
    }

    #[test]
    fn pieces_of_any_length_and_number_are_filled_and_stored() {
        let bytes: Vec<u8> = (0..9000_u32).map(|at| (at % 251) as u8).collect();
        let source = file(&bytes);
        for lengths in [vec![8000], vec![0, 1, 0, 4096, 3, 0], vec![9; 800], vec![0; 300], vec![]] {
            let total: usize = lengths.iter().sum();
            let mut memory = vec![0; 8000];
            let pieces = cut(&mut memory, &lengths);
            // SAFETY: `memory` outlives the call and nobody looks at it meanwhile.
            unsafe { fill_from_file(&pieces, &source, 700) }.unwrap();
            assert_eq!(memory[..total], bytes[700..700 + total]);
            assert!(memory[total..].iter().all(|byte| *byte == 0));
            let copy = file(&[]);
            let pieces = cut(&mut memory, &lengths);
            // SAFETY: as above.
            unsafe { store_to_file(&pieces, &copy, 5) }.unwrap();
            let mut stored = vec![0; total];
            std::os::unix::fs::FileExt::read_exact_at(&copy, &mut stored, 5).unwrap();
            assert_eq!(stored, bytes[700..700 + total]);
        }
    }

    #[test]
    fn a_file_that_ends_too_early_says_how_much_was_moved() {
        let source = file(&[7; 1000]);
        let mut memory = vec![0; 2000];
        let pieces = cut(&mut memory, &[300, 1700]);
        // SAFETY: `memory` outlives the call and nobody looks at it meanwhile.
        let error = unsafe { fill_from_file(&pieces, &source, 0) }.unwrap_err();
        assert_eq!(error.moved, 1000);
        let TransferCause::Disk(cause) = error.cause else { panic!("{error:?}") };
        assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(memory[..1000], [7; 1000]);
    }

    #[test]
    fn a_file_that_may_not_be_written_is_the_disks_fault() {
        let read_only = File::open("/dev/zero").unwrap();
        let mut memory = vec![0; 10];
        let pieces = cut(&mut memory, &[10]);
        // SAFETY: `memory` outlives the call and nobody looks at it meanwhile.
        let error = unsafe { store_to_file(&pieces, &read_only, 0) }.unwrap_err();
        assert!(matches!(error, TransferError { moved: 0, cause: TransferCause::Disk(_) }));
    }
}
