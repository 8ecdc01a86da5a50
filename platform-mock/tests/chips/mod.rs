//! Checks on every software controller.

#![allow(unused_macros, unused_imports, reason = "each test file uses its part of it")]

/// Makes a test of each check on each chip.
macro_rules! on_every_chip {
    ($($name:ident = $check:ident;)*) => {
        mod sas1068 { use super::*; $(#[test] fn $name() { $check::<Mpi1>(Chip::SAS1068) })* }
        mod sas2008 { use super::*; $(#[test] fn $name() { $check::<Mpi2>(Chip::SAS2008) })* }
        mod sas3008 { use super::*; $(#[test] fn $name() { $check::<Mpi2>(Chip::SAS3008) })* }
        mod sas3816 { use super::*; $(#[test] fn $name() { $check::<Mpi2>(Chip::SAS3816) })* }
    };
}
pub(crate) use on_every_chip;

/// Runs a check on each chip, within one test.
macro_rules! on_each {
    ($check:ident) => {
        $check::<Mpi1>(Chip::SAS1068);
        $check::<Mpi2>(Chip::SAS2008);
        $check::<Mpi2>(Chip::SAS3008);
        $check::<Mpi2>(Chip::SAS3816);
    };
}
pub(crate) use on_each;
