//! x
mod arena;
pub use arena::MockDma;
