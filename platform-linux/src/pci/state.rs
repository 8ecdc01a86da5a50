//! In whose hands a controller is.

use serde::Serialize;

use super::controller::Controller;
use super::holders::{self, Holders};
use super::system::System;
use super::usage::Usage;
use super::user_driver::Lent;
use crate::error::Error;

/// In whose hands a controller is.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// A driver of the kernel has it.
    Kernel(Holders),
    /// It is lent to user space.
    UserSpace(Lent),
    /// No driver has it.
    Free,
}

impl System {
    /// Every controller and in whose hands it is.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when PCI devices cannot be listed.
    pub fn status(&self) -> Result<Vec<(Controller, State)>, Error> {
        let controllers = self.controllers()?;
        let usage = Usage::read(self);
        let with_state = |controller| {
            let state = state(self, &usage, &controller);
            (controller, state)
        };
        Ok(controllers.into_iter().map(with_state).collect())
    }

    /// In whose hands one controller is.
    #[must_use]
    pub fn state(&self, controller: &Controller) -> State {
        state(self, &Usage::read(self), controller)
    }
}

fn state(system: &System, usage: &Usage, controller: &Controller) -> State {
    if controller.driver.is_none() {
        return State::Free;
    }
    match system.lent(controller, &usage.open) {
        Some(lent) => State::UserSpace(lent),
        None => State::Kernel(holders::holders(system, usage, controller)),
    }
}
