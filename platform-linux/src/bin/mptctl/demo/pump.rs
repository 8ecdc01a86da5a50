//! Many transfers, several at a time, each looked at when it has ended.

use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::disk::{Disk, refused};
use fusion_mpt_linux::ended::Ended;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host, Request};
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::silence::{self, Silence};
use fusion_mpt_linux::tries::Tries;

use crate::progress::Progress;

/// Transfers outstanding at once.
const DEPTH: usize = 32;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) lba: u64,
    pub(crate) blocks: u32,
}

impl Piece {
    /// Its length in bytes on `disk`.
    pub(crate) const fn bytes(&self, disk: &Disk) -> usize {
        self.blocks as usize * disk.block_bytes as usize
    }
}

/// Reads or writes pieces of a disk.
pub(crate) struct Pump<'p> {
    pub(crate) disk: &'p Disk,
    pub(crate) direction: Direction,
    /// The longest piece, in bytes.
    pub(crate) piece_bytes: usize,
    pub(crate) progress: Progress,
}

impl Pump<'_> {
    /// Bytes of the buffer that [`Pump::run`] wants.
    pub(crate) const fn buffer_bytes(piece_bytes: usize) -> usize {
        DEPTH * piece_bytes
    }

    /// Transfers all `pieces`. `before` is called before each is sent and `after` when it has
    /// come back whole, with where its data is in `buffer`.
    pub(crate) fn run(
        &mut self,
        host: &mut dyn Host,
        pieces: &[Piece],
        buffer: &Buffer,
        before: &mut dyn FnMut(&Piece, usize),
        after: &mut dyn FnMut(&Piece, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut free: Vec<usize> = (0..DEPTH).rev().collect();
        let mut flights = [Piece { lba: 0, blocks: 0 }; DEPTH];
        let mut tries = [Tries::of_many(); DEPTH];
        let mut again: Vec<usize> = Vec::new();
        let mut waiting = pieces.iter();
        let mut ended: Vec<(usize, Ended)> = Vec::new();
        let mut done = 0u64;
        let mut silence = Silence::begin(host);
        while done < pieces.len() as u64 {
            interrupt::check()?;
            while let Some(slot) = again.pop().or_else(|| {
                let slot = free.pop()?;
                let Some((piece, flight)) = waiting.next().zip(flights.get_mut(slot)) else {
                    free.push(slot);
                    return None;
                };
                *flight = *piece;
                if let Some(tries) = tries.get_mut(slot) {
                    *tries = Tries::of_many();
                }
                before(piece, slot * self.piece_bytes);
                Some(slot)
            }) {
                let Some(piece) = flights.get(slot) else { break };
                if !self.submit(host, slot, piece, buffer)? {
                    again.push(slot);
                    break;
                }
            }
            let found = host.poll(&mut |completion| {
                let sense = completion.sense.to_vec();
                ended.push((
                    completion.cookie as usize,
                    Ended { outcome: completion.outcome, sense },
                ));
            })?;
            if found > 0 {
                silence.end(host);
            } else if silence.is_too_long(host) {
                return Err(Error::failed(format!(
                    "target {} has answered nothing for {} s; the controller is reset now",
                    self.disk.target.0,
                    silence::LIMIT.as_secs()
                )));
            } else {
                host.pause();
            }
            for (slot, ended) in ended.drain(..) {
                let Some(piece) = flights.get(slot) else { continue };
                let whole = ended.transferred() as usize == piece.bytes(self.disk);
                if ended.outcome.is_good() && whole {
                    after(piece, slot * self.piece_bytes)?;
                    done += 1;
                    free.push(slot);
                } else if tries.get_mut(slot).is_some_and(|tries| tries.again(&ended)) {
                    host.note_sent_again(u64::from(ended.was_ended_by_recovery()));
                    again.push(slot);
                } else {
                    let cdb = self.cdb(piece);
                    return Err(refused(self.disk.target, cdb.as_bytes(), &ended));
                }
            }
            self.progress.at(done, String::new);
        }
        self.progress.end();
        Ok(())
    }

    fn cdb(&self, piece: &Piece) -> Cdb {
        match self.direction {
            Direction::Write => Cdb::write(piece.lba, piece.blocks),
            _ => Cdb::read(piece.lba, piece.blocks),
        }
    }

    fn submit(
        &self,
        host: &mut dyn Host,
        slot: usize,
        piece: &Piece,
        buffer: &Buffer,
    ) -> Result<bool, Error> {
        let cdb = self.cdb(piece);
        host.submit(&Request {
            target: self.disk.target,
            lun: self.disk.lun,
            cdb: cdb.as_bytes(),
            direction: self.direction,
            buffer: Some(buffer),
            offset: slot * self.piece_bytes,
            bytes: piece.bytes(self.disk) as u32,
            cookie: slot as u64,
        })
    }
}
