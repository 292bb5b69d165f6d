//! Requests of our own for one connection: whoever has something to ask the phone behind it leaves it here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A connection's letter box.
#[derive(Debug)]
pub(super) struct Mail {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
    letters: Mutex<Vec<Arc<[u8]>>>,
    came: Notify,
}

impl Mail {
    pub(super) fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        Self { local, peer, letters: Mutex::default(), came: Notify::new() }
    }

    /// Leaves a message; false when there are too many that were not sent yet.
    pub(super) fn post(&self, letter: Arc<[u8]>) -> bool {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if letters.len() >= LETTERS_MAX {
            return false;
        }
        letters.push(letter);
        self.came.notify_one();
        true
    }

    /// Waits until there is something. Safe to cancel.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> Vec<Arc<[u8]>> {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A phone has one at a time; a proxy that bundles phones may have some.
const LETTERS_MAX: usize = 64;
