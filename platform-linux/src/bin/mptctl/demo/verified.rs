//! Verified I/O: write known patterns to random places, flush, read them back in another order,
//! compare byte by byte; then look into the image file itself.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host};
use fusion_mpt_linux::image::Image;
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::pattern::{Pattern, Random, first_difference};
use serde::Serialize;

use super::pump::{Piece, Pump};
use crate::cli::Global;
use crate::progress::Progress;

/// The longest piece, in bytes. Each piece lies in a place of this size of its own.
const PIECE_BYTES: usize = 64 << 10;

/// What was verified on one disk.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) target: u16,
    pub(crate) commands: u64,
    pub(crate) bytes: u64,
    pub(crate) flushed: bool,
    /// The image file was read directly and holds the same.
    pub(crate) image_compared: bool,
}

/// Writes, flushes, reads back and compares about `bytes` bytes.
pub(crate) fn run(
    global: &Global,
    host: &mut dyn Host,
    disk: &Disk,
    bytes: u64,
    seed: u64,
) -> Result<Verified, Error> {
    let mut random = Random::new(seed ^ u64::from(disk.target.0) << 32);
    let pieces = choose(disk, bytes, PIECE_BYTES, &mut random);
    let pattern = Pattern::Seed(random.next());
    let buffer = host.allocate(Pump::buffer_bytes(PIECE_BYTES))?;
    let image = host.images().iter().find(|image| image.serial == disk.serial).cloned();

    write(global, host, disk, &pieces, pattern, &buffer)?;
    disk.flush(host)?;
    let mut order = pieces.clone();
    random.shuffle(&mut order);
    read_back(global, host, disk, &order, pattern, &buffer)?;
    if let Some(image) = &image {
        compare_image(global, image, disk, &pieces, pattern)?;
    }
    Ok(Verified {
        target: disk.target.0,
        commands: pieces.len() as u64 * 2 + 1,
        bytes: pieces.iter().map(|piece| piece.bytes(disk) as u64).sum(),
        flushed: true,
        image_compared: image.is_some(),
    })
}

/// Pieces of random length, at most `most_bytes`, at random places, in random order, no two of them in
/// one place.
pub(super) fn choose(
    disk: &Disk,
    bytes: u64,
    most_bytes: usize,
    random: &mut Random,
) -> Vec<Piece> {
    let block_bytes = u64::from(disk.block_bytes.max(1));
    let most = (most_bytes as u64 / block_bytes).clamp(1, disk.blocks.max(1));
    let mut left = bytes / block_bytes;
    let places = places(disk.blocks / most, left, random);
    let mut pieces = Vec::new();
    for place in places {
        if left == 0 {
            break;
        }
        let blocks = (1 + random.below(most)).min(left);
        let lba = place * most + random.below(most - blocks + 1);
        pieces.push(Piece { lba, blocks: blocks as u32 });
        left -= blocks;
    }
    pieces
}

/// At least as many of the places below `count` as are `wanted`, or all, no two the same, in random
/// order. A disk of some TiB has more places than there is memory to list them in.
fn places(count: u64, wanted: u64, random: &mut Random) -> Vec<u64> {
    if count / 4 <= wanted {
        let mut places: Vec<u64> = (0..count).collect();
        random.shuffle(&mut places);
        return places;
    }
    let mut taken = HashSet::new();
    let mut places = Vec::new();
    while (places.len() as u64) < wanted {
        let place = random.below(count);
        if taken.insert(place) {
            places.push(place);
        }
    }
    places
}

fn progress(global: &Global, what: &str, disk: &Disk, pieces: &[Piece]) -> Progress {
    let what = format!("{what} target {}", disk.target.0);
    Progress::new(!global.quiet && !global.json, &what, pieces.len() as u64, "commands")
}

fn write(
    global: &Global,
    host: &mut dyn Host,
    disk: &Disk,
    pieces: &[Piece],
    pattern: Pattern,
    buffer: &Buffer,
) -> Result<(), Error> {
    let mut data = vec![0; PIECE_BYTES];
    let mut before = |piece: &Piece, offset: usize| {
        if let Some(data) = data.get_mut(..piece.bytes(disk)) {
            pattern.fill(piece.lba, disk.block_bytes as usize, data);
            buffer.write(offset, data);
        }
    };
    let progress = progress(global, "writing", disk, pieces);
    let mut pump = Pump { disk, direction: Direction::Write, piece_bytes: PIECE_BYTES, progress };
    pump.run(host, pieces, buffer, &mut before, &mut |_, _| Ok(()))
}

fn read_back(
    global: &Global,
    host: &mut dyn Host,
    disk: &Disk,
    pieces: &[Piece],
    pattern: Pattern,
    buffer: &Buffer,
) -> Result<(), Error> {
    let mut found = vec![0; PIECE_BYTES];
    // What an earlier transfer left in the buffer must not pass for this one's data.
    let stale = vec![0xa5; PIECE_BYTES];
    let mut before = |piece: &Piece, offset: usize| {
        if let Some(stale) = stale.get(..piece.bytes(disk)) {
            buffer.write(offset, stale);
        }
    };
    let mut after = |piece: &Piece, offset: usize| match found.get_mut(..piece.bytes(disk)) {
        Some(found) => {
            buffer.read(offset, found);
            compare(disk, piece, pattern, found, "was read back")
        }
        None => Ok(()),
    };
    let progress = progress(global, "reading back", disk, pieces);
    let mut pump = Pump { disk, direction: Direction::Read, piece_bytes: PIECE_BYTES, progress };
    pump.run(host, pieces, buffer, &mut before, &mut after)
}

/// Reads the image past the controller and compares it: what was flushed must be there.
fn compare_image(
    global: &Global,
    image: &Image,
    disk: &Disk,
    pieces: &[Piece],
    pattern: Pattern,
) -> Result<(), Error> {
    let file = File::open(&image.path)
        .map_err(|error| Error::file("open the image", &image.path, &error))?;
    let mut progress = progress(global, "comparing the image of", disk, pieces);
    let mut found = vec![0; PIECE_BYTES];
    for (piece, done) in pieces.iter().zip(1..) {
        interrupt::check()?;
        let Some(found) = found.get_mut(..piece.bytes(disk)) else { continue };
        file.read_exact_at(found, piece.lba * u64::from(disk.block_bytes))
            .map_err(|error| Error::file("read the image", &image.path, &error))?;
        compare(disk, piece, pattern, found, "is in the image file")?;
        progress.at(done, String::new);
    }
    progress.end();
    Ok(())
}

pub(super) fn compare(
    disk: &Disk,
    piece: &Piece,
    pattern: Pattern,
    found: &[u8],
    how: &str,
) -> Result<(), Error> {
    let block_bytes = disk.block_bytes as usize;
    let mut expected = vec![0; found.len()];
    pattern.fill(piece.lba, block_bytes, &mut expected);
    match first_difference(&expected, found) {
        None => Ok(()),
        Some(byte) => Err(Error::failed(format!(
            "DATA DIFFERS: block {} of target {}, byte {}: {:#04x} was written, {:#04x} {how}; do not trust this disk, controller or driver with data",
            piece.lba + (byte / block_bytes) as u64,
            disk.target.0,
            byte % block_bytes,
            expected.get(byte).copied().unwrap_or_default(),
            found.get(byte).copied().unwrap_or_default(),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::targets::TargetId;

    fn disk(blocks: u64, block_bytes: u32) -> Disk {
        Disk {
            target: TargetId(0),
            lun: 0,
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
            serial: String::new(),
            device_type: 0,
            blocks,
            block_bytes,
            write_cache: None,
        }
    }

    #[test]
    fn pieces_lie_on_the_disk_and_never_on_each_other() {
        for (blocks, block_bytes) in
            [(131_072, 512), (16_384, 4096), (1, 512), (7, 4096), (200, 512), (1 << 40, 512)]
        {
            let disk = disk(blocks, block_bytes);
            let mut pieces = choose(&disk, 16 << 20, PIECE_BYTES, &mut Random::new(5));
            assert!(!pieces.is_empty());
            pieces.sort_by_key(|piece| piece.lba);
            let mut end = 0;
            for piece in pieces {
                assert!(piece.lba >= end && piece.blocks > 0, "{piece:?}");
                assert!(piece.bytes(&disk) <= PIECE_BYTES);
                end = piece.lba + u64::from(piece.blocks);
            }
            assert!(end <= blocks);
        }
    }

    #[test]
    fn one_wrong_bit_is_told_with_its_block_and_byte() {
        let disk = disk(100, 512);
        let piece = Piece { lba: 10, blocks: 2 };
        let mut data = vec![0; 1024];
        Pattern::Seed(9).fill(10, 512, &mut data);
        assert_eq!(compare(&disk, &piece, Pattern::Seed(9), &data, "x"), Ok(()));
        data[515] ^= 1;
        let error = compare(&disk, &piece, Pattern::Seed(9), &data, "x").expect_err("differs");
        assert!(error.to_string().contains("block 11 of target 0, byte 3"), "{error}");
    }
}
