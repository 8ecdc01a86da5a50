//! What stands in a block, and what may stand there: before and after a power cut.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Blocks that are never written after the start.
pub const STATIC: std::ops::Range<u64> = 0..64;
/// Blocks that commands write.
pub const WRITTEN: std::ops::Range<u64> = 4096..4096 + 192;
/// Blocks that cannot be read: each has sense data of its own, for its address is in it.
pub const DEFECTS: std::ops::Range<u64> = 8192..8192 + 64;

/// The bytes of version `version` of a block: nothing else on any disk equals them.
pub fn block(target: u16, lba: u64, version: u32) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let seed = lba << 24 ^ u64::from(version) ^ u64::from(target) << 56;
    for (index, chunk) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let word =
            (seed.wrapping_add(index << 48) ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&(word ^ word >> 29).to_le_bytes());
    }
    bytes
}

/// Versions count up for each block; version 0 is what stood there at the start.
#[derive(Debug, Clone, Default)]
struct Versions {
    newest: u32,
    /// What a read may find now: more than one after a write that failed.
    now: Vec<u32>,
    /// What a read may find once the power has been cut.
    after_cut: Vec<u32>,
}

/// A note of what a flush promises, made when it is sent.
#[derive(Debug, Clone)]
pub struct Promise(Vec<((u16, u64), u32)>);

/// What the disks hold, as far as a host can know it.
#[derive(Debug, Clone, Default)]
pub struct Shadow {
    blocks: BTreeMap<(u16, u64), Versions>,
    /// Disks that hold nobody knows what.
    unknown: BTreeSet<u16>,
    /// The power may be cut at any time: what was not flushed may be lost.
    pub volatile: bool,
}

impl Shadow {
    fn at(&mut self, target: u16, lba: u64) -> &mut Versions {
        self.blocks.entry((target, lba)).or_insert_with(|| Versions {
            newest: 0,
            now: vec![0],
            after_cut: vec![0],
        })
    }

    /// A write of these blocks is about to be sent; its version.
    pub fn begin_write(&mut self, target: u16, lba: u64, blocks: u32) -> u32 {
        let range = lba..lba + u64::from(blocks);
        let newest = range.clone().map(|lba| self.at(target, lba).newest).max();
        let version = newest.unwrap_or(0) + 1;
        for lba in range {
            let versions = self.at(target, lba);
            versions.newest = version;
            versions.now.push(version);
            versions.after_cut.push(version);
        }
        version
    }

    /// A write was refused before it was sent.
    pub fn refuse_write(&mut self, target: u16, lba: u64, blocks: u32, version: u32) {
        for lba in lba..lba + u64::from(blocks) {
            let versions = self.at(target, lba);
            versions.now.retain(|one| *one != version);
            versions.after_cut.retain(|one| *one != version);
        }
    }

    /// A write ended well: nothing older can be read any more.
    pub fn end_write(&mut self, target: u16, lba: u64, blocks: u32, version: u32) {
        for lba in lba..lba + u64::from(blocks) {
            self.at(target, lba).now.retain(|one| *one >= version);
        }
    }

    /// A flush is about to be sent: what it will promise if it ends well.
    pub fn begin_flush(&self, target: u16) -> Promise {
        let of_target = self.blocks.iter().filter(|((of, _), _)| *of == target);
        let oldest = |versions: &Versions| versions.now.iter().min().copied().unwrap_or(0);
        Promise(of_target.map(|(at, versions)| (*at, oldest(versions))).collect())
    }

    /// A flush ended well: a power cut cannot bring back what is older than it promised.
    pub fn end_flush(&mut self, promise: &Promise) {
        if self.volatile {
            // A cut that nobody has noticed yet may have lost before the flush what it promised.
            return;
        }
        for ((target, lba), oldest) in &promise.0 {
            self.at(*target, *lba).after_cut.retain(|one| one >= oldest);
        }
    }

    /// The power was cut: whatever may have survived may be there.
    pub fn power_cut(&mut self) {
        for versions in self.blocks.values_mut() {
            versions.now.clone_from(&versions.after_cut);
        }
    }

    /// The disk is about to be exchanged: what it holds is not known any more.
    pub fn forget(&mut self, target: u16) {
        self.unknown.insert(target);
        self.blocks.retain(|(of, _), _| *of != target);
    }

    /// Whether it is known what the disk holds.
    pub fn knows(&self, target: u16) -> bool {
        !self.unknown.contains(&target)
    }

    /// Whether these are bytes that may stand in the block; else what they are.
    pub fn compare(&mut self, target: u16, lba: u64, bytes: &[u8]) -> Result<(), String> {
        let volatile = self.volatile;
        if !self.knows(target) {
            return Ok(());
        }
        let Versions { newest, now, after_cut } = self.at(target, lba);
        let now = if volatile { after_cut } else { now };
        if now.iter().any(|version| bytes == block(target, lba, *version)) {
            return Ok(());
        }
        let found = (0..=*newest).find(|version| bytes == block(target, lba, *version));
        let found = found.map_or_else(|| describe(bytes), |version| format!("version {version}"));
        Err(format!(
            "block {lba} of disk {target} should hold a version of {now:?} and holds {found}"
        ))
    }

    /// Blocks that were ever written.
    pub fn written(&self) -> Vec<(u16, u64)> {
        self.blocks.keys().copied().collect()
    }
}

/// Bytes that are no version of the block they were found for.
fn describe(bytes: &[u8]) -> String {
    for target in 0..4 {
        for lba in STATIC.chain(WRITTEN) {
            if let Some(version) = (0..8).find(|version| bytes == block(target, lba, *version)) {
                return format!("version {version} of block {lba} of disk {target}");
            }
        }
    }
    format!("{:02x?}..., which nobody wrote", bytes.get(..16).unwrap_or(bytes))
}
