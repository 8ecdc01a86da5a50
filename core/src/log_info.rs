//! temporary
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogInfo(pub u32);
impl core::fmt::Display for LogInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
