//! The PCI side of Linux: which controllers there are, who uses them, and whose driver has them.

pub mod address;
