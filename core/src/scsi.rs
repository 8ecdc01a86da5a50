//! temporary
use crate::codes::codes;
codes! {
    /// SCSI status.
    #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
    pub struct ScsiStatus(u8) {
        GOOD = 0x00, "good";
        CHECK_CONDITION = 0x02, "check condition";
    }
}
/// LUN
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lun(pub [u8; 8]);
/// CDB
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 32],
    length: u8,
}
impl Cdb {
    /// bytes
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
    /// len
    #[must_use]
    pub const fn len(&self) -> u8 {
        self.length
    }
    /// e
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}
