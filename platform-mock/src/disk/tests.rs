use std::io::ErrorKind;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

const TB: u64 = 1_000_000_000_000;

fn read(disk: &Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xEE; length];
    disk.read(offset, &mut bytes).unwrap();
    bytes
}

fn file_disk(bytes: u64) -> (tempfile::TempDir, Disk) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::create(&folder.path().join("disk"), bytes).unwrap();
    (folder, disk)
}

#[test]
fn a_disk_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Disk>();
}

#[test]
fn a_thin_disk_of_66_tb_holds_its_first_and_last_bytes() {
    let (_folder, file) = file_disk(4 * TB);
    for mut disk in [Disk::memory(66 * TB), file] {
        let end = disk.bytes();
        disk.write(0, b"first").unwrap();
        disk.write(end - 4, b"last").unwrap();
        assert_eq!(read(&disk, 0, 6), b"first\0");
        assert_eq!(read(&disk, end - 5, 5), b"\0last");
        assert_eq!(read(&disk, end / 2, 3), [0; 3]);
        disk.discard(0, end).unwrap();
        assert_eq!(read(&disk, 0, 5), [0; 5]);
        assert_eq!(read(&disk, end - 4, 4), [0; 4]);
    }
}

#[test]
fn the_largest_disk_there_is_reads_and_writes_its_last_byte() {
    let mut disk = Disk::memory(u64::MAX);
    disk.write(u64::MAX - 1, &[7]).unwrap();
    assert_eq!(read(&disk, u64::MAX - 2, 2), [0, 7]);
    disk.discard(0, u64::MAX).unwrap();
    assert_eq!(read(&disk, u64::MAX - 1, 1), [0]);
}

#[test]
fn an_access_outside_the_disk_is_refused_and_changes_nothing() {
    let mut disk = Disk::memory(1000);
    for (offset, length) in [(999, 2), (1000, 1), (u64::MAX, 1), (u64::MAX, 2)] {
        let bytes = vec![1; length];
        let error = disk.write(offset, &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(disk.read(offset, &mut vec![0; length]).is_err());
        assert!(disk.discard(offset, length as u64).is_err());
        assert!(disk.write_zeroes(offset, length as u64).is_err());
        assert!(disk.write_through(offset, &bytes).is_err());
        assert!(disk.read_with(offset, length, &mut |_| panic!()).is_err());
    }
    disk.write(1000, &[]).unwrap();
    assert_eq!(disk.dirty_bytes(), 0);
}

#[test]
fn a_memory_disk_hands_out_its_pages_in_order_and_zeros_for_holes() {
    let mut disk = Disk::memory(1 << 20);
    disk.write(4096, &[5; 4096]).unwrap();
    let mut pieces = Vec::new();
    disk.read_with(4000, 8192, &mut |piece| {
        pieces.push((piece.len(), piece[0]));
    })
    .unwrap();
    assert_eq!(pieces, [(96, 0), (4096, 5), (4000, 0)]);
}

#[test]
fn turning_the_write_cache_off_flushes_it_and_writes_go_straight_through() {
    let mut disk = Disk::memory(1 << 20);
    disk.write(0, &[1; 512]).unwrap();
    assert_eq!(disk.dirty_bytes(), 512);
    disk.set_write_cache(false).unwrap();
    assert!(!disk.write_cache());
    disk.write(512, &[2; 512]).unwrap();
    assert_eq!(disk.dirty_bytes(), 0);
    disk.power_cut(&mut |_| false).unwrap();
    assert_eq!(read(&disk, 511, 2), [1, 2]);
}

#[test]
fn a_power_cut_asks_once_for_each_dirty_block_and_never_for_a_clean_one() {
    for (atomic, expected) in [(512, vec![0, 512, 8192]), (4096, vec![0, 8192])] {
        let mut disk = Disk::memory(1 << 20);
        disk.set_atomic_bytes(atomic);
        disk.write(4096, &[9; 4096]).unwrap();
        disk.flush().unwrap();
        disk.write(0, &[1; 1024]).unwrap();
        disk.write(0, &[2; 1024]).unwrap();
        disk.write(8200, &[3; 8]).unwrap();
        let mut asked = Vec::new();
        disk.power_cut(&mut |offset| {
            asked.push(offset);
            offset == 0
        })
        .unwrap();
        assert_eq!(asked, expected);
        assert_eq!(read(&disk, 0, 1), [2]);
        assert_eq!(read(&disk, 512, 1), [if atomic == 512 { 0 } else { 2 }]);
        assert_eq!(read(&disk, 8200, 8), [0; 8]);
        assert_eq!(read(&disk, 4096, 1), [9]);
        assert_eq!(disk.dirty_bytes(), 0);
    }
}

#[test]
fn a_full_write_cache_destages_its_oldest_page() {
    let mut disk = Disk::memory(1 << 20);
    disk.set_write_cache_bytes(2 * 4096);
    for page in 0..3 {
        disk.write(page * 4096, &[1; 4096]).unwrap();
    }
    assert_eq!(disk.dirty_bytes(), 2 * 4096);
    disk.power_cut(&mut |_| false).unwrap();
    assert_eq!(read(&disk, 0, 1), [1]);
    assert_eq!(read(&disk, 4096, 1), [0]);
    assert_eq!(read(&disk, 8192, 1), [0]);
}

#[test]
fn a_file_disk_keeps_its_bytes_and_has_the_files_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    {
        let mut disk = Disk::create(&path, 102_400).unwrap();
        disk.write(102_399, b"x").unwrap();
        disk.flush().unwrap();
    }
    let error = Disk::create(&path, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let mut disk = Disk::open(&path).unwrap();
    assert_eq!(disk.bytes(), 102_400);
    assert_eq!(read(&disk, 102_399, 1), b"x");
    disk.grow(200_000).unwrap();
    assert!(disk.grow(102_400).is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 200_000);
    assert_eq!(read(&disk, 102_399, 2), b"x\0");
}

/// Elsewhere than on Linux a discard writes zeros.
#[cfg(target_os = "linux")]
#[test]
fn a_discard_gives_a_files_blocks_back() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let mut disk = Disk::create(&path, 8 << 20).unwrap();
    disk.write(0, &vec![1; 8 << 20]).unwrap();
    disk.flush().unwrap();
    let allocated = || std::fs::metadata(&path).unwrap().blocks();
    assert!(allocated() >= 8 << 11);
    disk.discard(0, 8 << 20).unwrap();
    disk.flush().unwrap();
    assert!(allocated() < 1 << 11);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 << 20);
}

#[test]
fn a_read_only_file_is_write_protected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, [7; 4096]).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let mut disk = Disk::open(&path).unwrap();
    assert!(disk.is_write_protected());
    disk.set_write_protected(false);
    assert!(disk.is_write_protected());
    assert_eq!(read(&disk, 0, 1), [7]);
    let error = disk.write(0, &[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    disk.flush().unwrap();
}

#[test]
fn a_file_cut_short_behind_our_back_is_a_read_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = Disk::create(&path, 1 << 20).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(disk.read(8192, &mut [0; 512]).is_err());
    let mut seen = 0;
    let result = disk.read_with(0, 64 << 10, &mut |piece| seen += piece.len());
    assert!(result.is_err());
    assert_eq!(seen, 0);
}

#[test]
fn a_file_cut_short_is_not_written_flushed_or_found_good_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let mut disk = Disk::create(&path, 1 << 20).unwrap();
    disk.write(0, &[1; 8192]).unwrap();
    let cut = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    cut.set_len(4096).unwrap();
    let error = disk.write(16384, &[1; 512]).unwrap_err();
    assert!(error.to_string().contains("4096 of its 1048576 bytes left"), "{error}");
    let mut data = vec![1; 512];
    assert!(disk.write_from(0, 512, &mut data, 0, false).is_err());
    assert!(disk.write_through(0, &[1; 512]).is_err());
    assert!(disk.discard(0, 512).is_err());
    assert!(disk.flush().is_err());
    assert_eq!(disk.verify(0, 4096), Ok(()));
    assert_eq!(disk.verify(0, 8192), Err(4096));
    assert_eq!(disk.verify(8192, 512), Err(8192));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096, "nobody enlarged it again");
    cut.set_len(1 << 20).unwrap();
    disk.write(16384, &[1; 512]).unwrap();
    disk.flush().unwrap();
}

#[test]
fn a_file_that_is_unlinked_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let mut disk = Disk::create(&path, 1 << 20).unwrap();
    std::fs::remove_file(&path).unwrap();
    disk.write(4096, &[7; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(read(&disk, 4096, 512), [7; 512]);
}

#[test]
fn what_cannot_be_a_disk_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let refusal = |path: &Path| Disk::open(path).unwrap_err().to_string();
    assert!(refusal(&path).contains("create it"), "{}", refusal(&path));
    assert!(refusal(folder.path()).contains("name a file"), "{}", refusal(folder.path()));
    for (bytes, words) in
        [(0, "0 bytes are less than one block"), (511, "truncate -s 512"), (1000, "-s 1024")]
    {
        std::fs::write(&path, vec![0; bytes]).unwrap();
        assert!(refusal(&path).contains(words), "{}", refusal(&path));
    }
    std::fs::write(&path, [0; 1024]).unwrap();
    assert_eq!(Disk::open(&path).unwrap().bytes(), 1024);
}

/// A buffer whose memory ends before its length says so.
struct Short(Vec<u8>);

impl DataBuffer for Short {
    fn len(&self) -> u64 {
        1 << 30
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DataError> {
        self.0.write(offset, bytes)
    }
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        self.0.read(offset, bytes)
    }
}

#[test]
fn a_transfer_says_which_side_stopped_it_and_how_far_it_came() {
    let (_folder, file) = file_disk(1 << 20);
    for mut disk in [Disk::memory(1 << 20), file] {
        disk.write(0, &[1; 65536]).unwrap();
        let mut short = Short(vec![2; 40_000]);
        let error = disk.write_from(4096, 50_000, &mut short, 0, false).unwrap_err();
        assert!(matches!(error.cause, TransferCause::Memory));
        let moved = error.moved as usize;
        assert!((16 << 10..=40_000).contains(&moved), "{moved}");
        assert_eq!(read(&disk, 4096, moved), vec![2; moved]);
        assert_eq!(read(&disk, 4096 + moved as u64, 512), [1; 512]);
        let mut short = Short(vec![0; 40_000]);
        let error = disk.read_to(0, 50_000, &mut short, 0).unwrap_err();
        assert!(matches!(error.cause, TransferCause::Memory));
        assert_eq!(short.0[..error.moved as usize], read(&disk, 0, error.moved as usize));
        let outside = disk.read_to(1 << 20, 1, &mut short, 0).unwrap_err();
        assert!(matches!(outside.cause, TransferCause::Disk(_)));
        disk.set_write_protected(true);
        let protected = disk.write_from(0, 1, &mut short, 0, false).unwrap_err();
        assert!(protected.to_string().contains("write-protected"), "{protected}");
    }
}

#[test]
fn the_write_cache_never_holds_more_than_its_limit() {
    for mut disk in [Disk::memory(1 << 30), file_disk(1 << 30).1] {
        disk.set_write_cache_bytes(64 << 10);
        for page in 0..1000 {
            disk.write(page * 8192, &[1; 4096]).unwrap();
            assert!(disk.dirty_bytes() <= 64 << 10, "{}", disk.dirty_bytes());
        }
        assert!(disk.cache.held_pages() <= 17, "{}", disk.cache.held_pages());
        // The oldest went to the medium first.
        disk.power_cut(&mut |_| false).unwrap();
        assert_eq!(read(&disk, 983 * 8192, 4096), [1; 4096]);
        assert_eq!(read(&disk, 984 * 8192, 4096), [0; 4096]);
    }
}

/// Not a benchmark: only what would turn a tree walk into an allocation or a scan fails here.
#[test]
fn reading_4_kib_from_memory_is_quick() {
    let mut disk = Disk::memory(66 * TB);
    for page in 0..64 {
        disk.write(page * TB, &[1; 4096]).unwrap();
    }
    let mut bytes = [0; 4096];
    let started = Instant::now();
    for round in 0..102_400_u64 {
        disk.read((round % 64) * TB, &mut bytes).unwrap();
    }
    let each = started.elapsed().as_nanos() / 102_400;
    println!("{each} ns per 4 KiB read");
    assert!(each < 20_000, "{each} ns per 4 KiB read");
}

const BYTES: u64 = 10 * 4096 + 700;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, usize, u8),
    WriteThrough(u64, usize, u8),
    WriteFrom(u64, usize, u8, bool),
    Discard(u64, u64),
    Zero(u64, u64),
    Flush,
    WriteCache(bool),
    PowerCut(u64),
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    let aligned = (0..BYTES / 512, 1..20_u64)
        .prop_map(|(first, count)| (first * 512, (count * 512).min(BYTES - first * 512)));
    let any = (0..BYTES, 0..9000_u64).prop_map(|(at, length)| (at, length.min(BYTES - at)));
    prop_oneof![aligned, any]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (range(), any::<u8>()).prop_map(|((at, n), fill)| Step::Write(at, n as usize, fill)),
        2 => (range(), any::<u8>())
            .prop_map(|((at, n), fill)| Step::WriteThrough(at, n as usize, fill)),
        4 => (range(), any::<u8>(), any::<bool>())
            .prop_map(|((at, n), fill, fua)| Step::WriteFrom(at, n as usize, fill, fua)),
        2 => range().prop_map(|(at, n)| Step::Discard(at, n)),
        1 => range().prop_map(|(at, n)| Step::Zero(at, n)),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::WriteCache),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// Some blocks survive, chosen by `seed`.
fn survives(seed: u64, offset: u64) -> bool {
    (seed ^ (offset / 512).wrapping_mul(0x9E37_79B9_7F4A_7C15)).count_ones().is_multiple_of(2)
}

/// A disk as two arrays: what reads return, and what is on the stable medium.
struct Reference {
    current: Vec<u8>,
    stable: Vec<u8>,
    atomic: usize,
    cached: bool,
}

impl Reference {
    fn write(&mut self, at: u64, bytes: &[u8], through: bool) {
        let range = at as usize..at as usize + bytes.len();
        self.current[range.clone()].copy_from_slice(bytes);
        if through || !self.cached {
            self.stable[range].copy_from_slice(bytes);
        }
    }

    fn power_cut(&mut self, seed: u64) {
        let blocks = self.current.chunks_mut(self.atomic);
        for (index, (now, old)) in blocks.zip(self.stable.chunks_mut(self.atomic)).enumerate() {
            if survives(seed, (index * self.atomic) as u64) {
                old.copy_from_slice(now);
            } else {
                now.copy_from_slice(old);
            }
        }
    }
}

fn run(disk: &mut Disk, steps: &[Step], atomic: usize) {
    disk.set_atomic_bytes(atomic);
    let zeros = vec![0; BYTES as usize];
    let mut reference =
        Reference { current: zeros.clone(), stable: zeros.clone(), atomic, cached: true };
    for step in steps {
        match *step {
            Step::Write(at, length, fill) => {
                disk.write(at, &vec![fill; length]).unwrap();
                reference.write(at, &vec![fill; length], false);
            }
            Step::WriteThrough(at, length, fill) => {
                disk.write_through(at, &vec![fill; length]).unwrap();
                reference.write(at, &vec![fill; length], true);
            }
            Step::WriteFrom(at, length, fill, through) => {
                let mut data = vec![!fill; 7];
                data.resize(7 + length, fill);
                disk.write_from(at, length as u64, &mut data, 7, through).unwrap();
                reference.write(at, &vec![fill; length], through);
            }
            Step::Discard(at, length) => {
                disk.discard(at, length).unwrap();
                reference.write(at, &zeros[..length as usize], false);
            }
            Step::Zero(at, length) => {
                disk.write_zeroes(at, length).unwrap();
                reference.write(at, &zeros[..length as usize], false);
            }
            Step::Flush => {
                disk.flush().unwrap();
                reference.stable = reference.current.clone();
            }
            Step::WriteCache(on) => {
                disk.set_write_cache(on).unwrap();
                if !on {
                    reference.stable = reference.current.clone();
                }
                reference.cached = on;
            }
            Step::PowerCut(seed) => {
                disk.power_cut(&mut |offset| survives(seed, offset)).unwrap();
                reference.power_cut(seed);
            }
        }
        let mut handed_out = Vec::new();
        disk.read_with(0, BYTES as usize, &mut |piece| handed_out.extend_from_slice(piece))
            .unwrap();
        assert!(handed_out == reference.current, "read_with after {step:?}");
        assert!(read(disk, 0, BYTES as usize) == reference.current, "read after {step:?}");
        let mut moved = vec![0; 3 + BYTES as usize];
        disk.read_to(0, BYTES, &mut moved, 3).unwrap();
        assert!(moved[3..] == reference.current, "read_to after {step:?}");
    }
}

fn atomic() -> impl Strategy<Value = usize> {
    prop_oneof![Just(512), Just(4096)]
}

proptest! {
    #[test]
    fn a_memory_disk_reads_and_loses_exactly_what_the_reference_does(
        steps in prop::collection::vec(step(), 1..40), atomic in atomic()
    ) {
        run(&mut Disk::memory(BYTES), &steps, atomic);
    }

    #[test]
    fn a_file_disk_reads_and_loses_exactly_what_the_reference_does(
        steps in prop::collection::vec(step(), 1..20), atomic in atomic()
    ) {
        let (_folder, mut disk) = file_disk(BYTES);
        run(&mut disk, &steps, atomic);
    }

    #[test]
    fn with_a_tiny_cache_every_sector_is_old_or_new_and_what_was_flushed_stays(
        flushed in prop::collection::vec(range(), 1..10),
        // Whole sectors, so that a sector destaged between two writes is not a third version.
        unflushed in prop::collection::vec((0..80_u64, 1..20_u64), 1..10),
        seed in any::<u64>(),
    ) {
        let mut disk = Disk::memory(BYTES);
        disk.set_write_cache_bytes(2 * 4096);
        for (at, length) in flushed {
            disk.write(at, &vec![1; length as usize]).unwrap();
        }
        disk.flush().unwrap();
        let old = read(&disk, 0, BYTES as usize);
        for (first, count) in unflushed {
            let length = (count * 512).min(BYTES - first * 512) as usize;
            disk.write(first * 512, &vec![2; length]).unwrap();
        }
        let new = read(&disk, 0, BYTES as usize);
        disk.power_cut(&mut |offset| survives(seed, offset)).unwrap();
        let after = read(&disk, 0, BYTES as usize);
        for ((old, new), after) in old.chunks(512).zip(new.chunks(512)).zip(after.chunks(512)) {
            prop_assert!(after == old || after == new);
        }
    }
}
