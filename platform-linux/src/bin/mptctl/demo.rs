//! temporary
pub(crate) fn run(
    _: &crate::cli::Global,
    _: &crate::cli::Demo,
) -> Result<(), fusion_mpt_linux::error::Error> {
    Ok(())
}
