//! To come.

pub mod sge;
