//! Virtual machines with stock kernels, whose own drivers judge the controllers we model.
//!
//! What a machine is made of is fetched and built once and kept under xtask's scratch folder:
//! a QEMU ([`qemu`]), the kernels and the programs of Debian packages ([`packages`]), and from
//! these an initramfs for each kernel ([`images`]). A [`machine::Machine`] boots one and drives it
//! from here, command by command; [`controller`] puts a controller in front of it; [`group`] runs
//! cases that share a boot. The cases themselves are in [`cases`]; [`comparison`] compares our
//! SAS1068's answers with those of QEMU's own, and [`speed`] our controller's
//! speed with that of QEMU's own. [`workshop`] holds it all together.

pub(crate) mod accelerator;
pub(crate) mod agent;
pub(crate) mod cases;
pub(crate) mod comparison;
pub(crate) mod console;
pub(crate) mod controller;
pub(crate) mod cpio;
pub(crate) mod disk;
pub(crate) mod emulator;
pub(crate) mod group;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod kernel_log;
pub(crate) mod libraries;
pub(crate) mod machine;
pub(crate) mod modules;
pub(crate) mod packages;
pub(crate) mod qemu;
pub(crate) mod rig;
pub(crate) mod socket_folder;
pub(crate) mod speed;
pub(crate) mod workshop;
