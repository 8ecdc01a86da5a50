//! Chance that can be had again.

use fusion_mpt_mock::faults::Random;

/// The seed of this run: `FAULT_SEED`, or 1.
///
/// # Panics
///
/// If `FAULT_SEED` is no number.
pub fn of_run() -> u64 {
    match std::env::var("FAULT_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("FAULT_SEED={text} is no number")),
        Err(_) => 1,
    }
}

/// Chance of its own for each name.
pub fn chance(seed: u64, name: &str) -> Random {
    let mixed = name.bytes().fold(seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
    });
    Random::new(mixed)
}
