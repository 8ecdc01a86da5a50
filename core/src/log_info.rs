//! To come.
/// A
#[derive(Debug)]
pub struct LogInfo;
