//! Reply coalescing: one interrupt for several replies, as IOC page 1 sets it (mpi2_cnfg.h,
//! "IOC Page 1").
//!
//! The firmware holds a vector's interrupt back until so many replies wait for it, or until the
//! first of them has waited for so long. It does so for a group of eight vectors at a time: a reply
//! outside the group lets the held ones go (controllers.md 5).

/// `Flags`: replies are coalesced at all.
const REPLY_COALESCING: u32 = 1;
/// Unit of `CoalescingTimeout`.
const TIMEOUT_UNIT_NS: u64 = 500;
/// Vectors of a group.
const GROUP: u32 = 8;

/// What the page says before a host writes it: LSI's advice for these chips, 4 replies or 160 us
/// (controllers.md 5).
pub(crate) const DEFAULT_FLAGS: u32 = REPLY_COALESCING;
/// `CoalescingTimeout` of that page.
pub(crate) const DEFAULT_TIMEOUT: u32 = 320;
/// `CoalescingDepth` of that page.
pub(crate) const DEFAULT_DEPTH: u8 = 4;

/// Interrupts that are held back, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coalescing {
    /// Replies that make an interrupt; 1 where nothing is held back.
    depth: u32,
    timeout_ns: u64,
    /// Groups whose replies are coalesced, a bit for each; all, if the page does not choose.
    groups: u32,
    /// A bit for each vector that is held back, of one group.
    held: u128,
    replies: u32,
    since: u64,
}

impl Coalescing {
    /// As IOC page 1 says.
    pub(crate) fn new(flags: u32, timeout: u32, depth: u8, product_specific: u32) -> Self {
        let on = flags & REPLY_COALESCING != 0 && timeout > 0;
        // A depth of 0 stands for no limit but the time's.
        let depth = if depth == 0 { u32::MAX } else { depth.into() };
        Self {
            depth: if on { depth } else { 1 },
            timeout_ns: u64::from(timeout) * TIMEOUT_UNIT_NS,
            // Bit 31 says that the others choose among the groups (mpt3sas, "performance mode").
            groups: if product_specific >> 31 != 0 { product_specific } else { u32::MAX },
            held: 0,
            replies: 0,
            since: 0,
        }
    }

    /// A reply has been posted for `vector`; the vectors to fire.
    pub(crate) fn reply(&mut self, vector: u8, now: u64) -> u128 {
        let bit = 1u128.checked_shl(vector.into()).unwrap_or(0);
        let group = u32::from(vector) / GROUP;
        let chosen = 1u32.checked_shl(group).is_some_and(|group| self.groups & group != 0);
        if self.depth == 1 || !chosen {
            return bit | self.let_go();
        }
        let others = self.held & !(0xffu128 << (group * GROUP).min(120));
        let gone = if others != 0 { self.let_go() } else { 0 };
        if self.held == 0 {
            self.since = now;
        }
        self.held |= bit;
        self.replies += 1;
        if self.replies >= self.depth { gone | self.let_go() } else { gone }
    }

    /// The vectors that have been held back for long enough.
    pub(crate) fn due(&mut self, now: u64) -> u128 {
        if self.deadline().is_some_and(|deadline| deadline <= now) { self.let_go() } else { 0 }
    }

    /// When something held back is due, if anything is.
    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.held != 0).then(|| self.since.saturating_add(self.timeout_ns))
    }

    fn let_go(&mut self) -> u128 {
        self.replies = 0;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Coalescing {
        Coalescing::new(DEFAULT_FLAGS, DEFAULT_TIMEOUT, DEFAULT_DEPTH, 0)
    }

    #[test]
    fn every_fourth_reply_interrupts_under_load() {
        let mut coalescing = usual();
        let fired: Vec<u128> = (0..8).map(|at| coalescing.reply(0, at)).collect();
        assert_eq!(fired, [0, 0, 0, 1, 0, 0, 0, 1]);
    }

    #[test]
    fn a_reply_is_held_back_for_160_us_and_no_longer() {
        let mut coalescing = usual();
        assert_eq!(coalescing.reply(3, 1_000), 0);
        assert_eq!(coalescing.deadline(), Some(161_000));
        assert_eq!(coalescing.due(160_999), 0);
        assert_eq!(coalescing.due(161_000), 1 << 3);
        assert_eq!(coalescing.deadline(), None);
    }

    #[test]
    fn a_reply_of_another_group_lets_the_first_go() {
        let mut coalescing = usual();
        assert_eq!(coalescing.reply(7, 0), 0);
        assert_eq!(coalescing.reply(8, 0), 1 << 7);
        assert_eq!(coalescing.reply(127, 0), 1 << 8);
        assert_eq!(coalescing.due(u64::MAX), 1 << 127);
    }

    #[test]
    fn groups_that_were_not_chosen_are_not_held_back() {
        let mut coalescing = Coalescing::new(DEFAULT_FLAGS, DEFAULT_TIMEOUT, 4, 0x8000_0001);
        assert_eq!(coalescing.reply(0, 0), 0);
        assert_eq!(coalescing.reply(9, 0), 1 << 9 | 1);
        assert_eq!(coalescing.reply(9, 0), 1 << 9);
    }

    #[test]
    fn without_the_flag_or_the_time_each_reply_interrupts() {
        for mut coalescing in [Coalescing::new(0, 320, 4, 0), Coalescing::new(1, 0, 4, 0)] {
            assert_eq!(coalescing.reply(0, 0), 1);
            assert_eq!(coalescing.reply(0, 0), 1);
        }
    }
}
