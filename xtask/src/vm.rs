//! Virtual machines in which our own driver, `mptctl`, works on a controller, beside the kernel's.
//!
//! A guest is made as those in [`crate::guests`] are, with an IOMMU and hugepages ([`guest`]) and
//! with `mptctl` as it is built from here ([`payload`]). [`by_hand`] runs a script in one,
//! [`group`] the cases of the tier, and [`monitor`] asks a guest's QEMU what a driver does to the
//! controller's registers.

pub(crate) mod by_hand;
pub(crate) mod cases;
pub(crate) mod group;
pub(crate) mod guest;
pub(crate) mod monitor;
pub(crate) mod payload;
pub(crate) mod subject;
pub(crate) mod yard;
