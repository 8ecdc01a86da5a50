//! One logging facade: `defmt` where the feature is on, nothing elsewhere.
//!
//! Only slow paths log (bring-up, resets, lies told by the controller); the per-command path has
//! counters instead. Arguments are plain integers, so that no formatting code is linked.

/// Something a maintainer would want to know while looking for a fault.
macro_rules! debug {
    ($($arg:expr),* $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::debug!($($arg),*);
        #[cfg(not(feature = "defmt"))]
        { $(let _ = &$arg;)* }
    }};
}

/// Something that should not have happened, from which the driver goes on.
macro_rules! warning {
    ($($arg:expr),* $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($arg),*);
        #[cfg(not(feature = "defmt"))]
        { $(let _ = &$arg;)* }
    }};
}
