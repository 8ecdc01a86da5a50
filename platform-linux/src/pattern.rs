//! Data that knows where it belongs, so that a block in the wrong place is noticed as well as a
//! damaged one.

/// What a range of blocks should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Zeros.
    Zeros,
    /// Bytes computed from the seed, the block's address and the place in it.
    Seed(u64),
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "zeros" => Ok(Self::Zeros),
            _ => text.parse().map(Self::Seed).map_err(|_| {
                format!("\"{text}\" is no pattern; use \"zeros\" or a number, which seeds one")
            }),
        }
    }
}

impl Pattern {
    /// Fills `bytes`, whole blocks of `block_bytes` from `lba` on.
    pub fn fill(self, lba: u64, block_bytes: usize, bytes: &mut [u8]) {
        match self {
            Self::Zeros => bytes.fill(0),
            Self::Seed(seed) => {
                for (block, lba) in bytes.chunks_mut(block_bytes.max(1)).zip(lba..) {
                    let mut random = Random::new(seed ^ lba.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    for word in block.chunks_mut(8) {
                        for (to, from) in word.iter_mut().zip(random.next().to_le_bytes()) {
                            *to = from;
                        }
                    }
                }
            }
        }
    }
}

/// A small generator of numbers that look random and can be repeated: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and is no iterator")]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// Puts `items` in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Where two equally long pieces of data first differ.
#[must_use]
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other {
        return None;
    }
    one.iter().zip(other).position(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_in_the_wrong_place_or_from_another_run_is_noticed() {
        let block = |seed, lba| {
            let mut bytes = [0u8; 512];
            Pattern::Seed(seed).fill(lba, 512, &mut bytes);
            bytes
        };
        assert_ne!(block(1, 5), block(1, 6));
        assert_ne!(block(1, 5), block(2, 5));
        assert_eq!(block(1, 5), block(1, 5));
        let mut two = [0u8; 1024];
        Pattern::Seed(1).fill(5, 512, &mut two);
        assert_eq!(two[512..], block(1, 6));
    }

    #[test]
    fn a_shuffle_loses_nothing_and_repeats() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(7), shuffled(7));
        assert_ne!(shuffled(7), shuffled(8));
        let mut sorted = shuffled(7);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::new(3);
        assert!((0..1000).all(|_| random.below(10) < 10));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"axc"), Some(1));
    }
}
