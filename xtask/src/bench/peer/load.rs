//! What is asked of a disk, in the words of fio and of `mptctl perf`.

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) random: bool,
    pub(super) read: bool,
    pub(super) depth: u32,
    pub(super) bytes: u32,
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

const fn random(read: bool, depth: u32) -> Load {
    Load { random: true, read, depth, bytes: 4 * KIB }
}

const fn sequential(read: bool) -> Load {
    Load { random: false, read, depth: 8, bytes: MIB }
}

/// Every load that is measured.
pub(super) const LOADS: &[Load] = &[
    random(true, 1),
    random(true, 8),
    random(true, 32),
    random(false, 1),
    random(false, 8),
    random(false, 32),
    sequential(true),
    sequential(false),
];

/// How long each is, in seconds.
const SECONDS: u32 = 2;

impl Load {
    fn rw(self) -> &'static str {
        match (self.random, self.read) {
            (true, true) => "randread",
            (true, false) => "randwrite",
            (false, true) => "read",
            (false, false) => "write",
        }
    }

    /// As a part of figures' names.
    pub(super) fn name(self) -> String {
        if self.random {
            format!("{}.qd{}", self.rw(), self.depth)
        } else {
            format!("{}.1m", self.rw())
        }
    }

    /// For people.
    pub(super) fn words(self) -> String {
        let what = if self.read { "read" } else { "write" };
        if self.random {
            format!("4 KiB random {what}, depth {}", self.depth)
        } else {
            format!("1 MiB sequential {what}, depth {}", self.depth)
        }
    }

    /// fio on a block device for a while.
    pub(super) fn fio(self, device: &str) -> String {
        format!("{} --time_based --runtime={SECONDS} --size=64m --minimal", self.fio_on(device))
    }

    /// fio on a block device for so many commands.
    pub(super) fn fio_for(self, device: &str, ios: u64) -> String {
        let bytes = ios * u64::from(self.bytes);
        format!("{} --io_size={bytes} --size=64m --norandommap --minimal", self.fio_on(device))
    }

    fn fio_on(self, device: &str) -> String {
        let Self { depth, bytes, .. } = self;
        let rw = self.rw();
        format!(
            "fio --name=peer --filename={device} --ioengine=libaio --direct=1 --iodepth={depth} \
             --bs={bytes} --rw={rw}"
        )
    }

    /// Which field of fio's terse output has the I/O per second.
    pub(super) const fn fio_field(self) -> usize {
        if self.read { 8 } else { 49 }
    }

    /// `mptctl perf` for a while.
    pub(super) fn perf(self) -> String {
        format!("{} --time {SECONDS}", self.perf_words())
    }

    /// `mptctl perf` for so many commands.
    pub(super) fn perf_for(self, ios: u64) -> String {
        format!("{} --count {ios}", self.perf_words())
    }

    fn perf_words(self) -> String {
        let Self { depth, bytes, .. } = self;
        let (percent, yes) = if self.read { (100, "") } else { (0, " --yes") };
        let order = if self.random { "random" } else { "sequential" };
        format!("perf --depth {depth} --block-size {bytes} --read {percent} --pattern {order}{yes}")
    }
}
