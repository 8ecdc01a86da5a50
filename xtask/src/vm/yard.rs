//! What the guests of a run are made of: the workshop's pieces, and images with `mptctl` in them.

use crate::guests::images::Image;
use crate::guests::packages::KERNELS;
use crate::guests::workshop::Workshop;
use crate::vm::payload;

/// All that guests with `mptctl` are made of; shared by those that run at once.
pub(crate) struct Yard<'a> {
    pub(crate) workshop: &'a Workshop,
    /// One for each of [`KERNELS`].
    images: Vec<Image>,
}

impl<'a> Yard<'a> {
    /// Puts the workshop's `mptctl` into each image.
    pub(crate) fn provide(workshop: &'a Workshop) -> Result<Self, String> {
        let folder = workshop.disks.join("images");
        let add = |image| payload::add_mptctl(image, &workshop.mptctl, &folder);
        let images = workshop.images.iter().map(add).collect::<Result<_, _>>()?;
        Ok(Self { workshop, images })
    }

    /// The image of the kernel with that name.
    pub(crate) fn image(&self, kernel: &str) -> Result<&Image, String> {
        let index = KERNELS.iter().position(|known| known.name == kernel);
        let image = index.and_then(|index| self.images.get(index));
        image.ok_or_else(|| format!("there is no kernel {kernel}"))
    }
}
