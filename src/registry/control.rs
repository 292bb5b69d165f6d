//! The way back to a PBX that may be changed: commands go to whichever of its feeds takes them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::feeds::Feeds;
use crate::model::PbxId;

/// Where each PBX takes commands.
#[derive(Debug, Default)]
pub(super) struct Controls(Mutex<HashMap<PbxId, mpsc::Sender<ControlRequest>>>);

/// Something to be changed on a PBX, and where the answer goes. It counts only when the PBX's own event confirms it.
#[derive(Debug)]
pub struct ControlRequest {
    /// What.
    pub command: Command,
    /// Told when the PBX has accepted or refused; the text says why not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// What can be changed on a PBX whose `control` is on (promise 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Puts a device into a queue.
    AddMember {
        /// The queue's name on the PBX.
        queue: String,
        /// The device's user part.
        user: String,
        /// What the PBX shows for it.
        name: Option<String>,
        /// Order of preference.
        penalty: u32,
    },
    /// Changes a member's order of preference.
    SetPenalty {
        /// The queue's name on the PBX.
        queue: String,
        /// The device's user part.
        user: String,
        /// Lower ones are called first.
        penalty: u32,
    },
    /// Takes a device out of a queue.
    RemoveMember {
        /// The queue's name on the PBX.
        queue: String,
        /// The device's user part.
        user: String,
    },
    /// Holds calls back from a member, or no longer.
    Pause {
        /// The queue's name on the PBX; none = all it is in.
        queue: Option<String>,
        /// The device's user part.
        user: String,
        /// Whether to pause.
        paused: bool,
        /// Why.
        reason: Option<String>,
    },
}

impl Feeds {
    /// Where commands for a PBX go; none while no feed of it takes any.
    #[must_use]
    pub fn control(&self, pbx: PbxId) -> Option<mpsc::Sender<ControlRequest>> {
        let controls = self.controls.0.lock().unwrap_or_else(PoisonError::into_inner);
        controls.get(&pbx).filter(|sender| !sender.is_closed()).cloned()
    }

    /// A feed that can change its PBX takes commands from here on. The newest one gets them.
    #[must_use]
    pub fn take_control(&self, pbx: PbxId) -> mpsc::Receiver<ControlRequest> {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        self.controls.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pbx, sender);
        receiver
    }
}

/// Commands a PBX may be behind.
const COMMANDS_MAX: usize = 64;
