//! The atomics in which contexts meet: `core`'s, or loom's while its tests (`loom_*`) try every
//! interleaving of what uses them. `cargo xtask test host --filter loom` runs those.

#[cfg(not(all(test, loom)))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[cfg(all(test, loom))]
#[allow(
    unsafe_code,
    reason = "a critical section and a cell for the tests, of which loom proves them"
)]
pub(crate) mod model;

/// Makes a function `const`, but for loom, whose atomics are made at run time.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident() -> $result:ty $body:block) => {
        #[cfg(not(all(test, loom)))]
        $(#[$meta])*
        $visibility const fn $name() -> $result $body

        #[cfg(all(test, loom))]
        $(#[$meta])*
        $visibility fn $name() -> $result $body
    };
}
pub(crate) use const_unless_loom;
