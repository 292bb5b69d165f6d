//! User agents, shared: a thousand phones of one firmware keep one string.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The strings that are shared. Bounded, since phones choose them.
#[derive(Debug, Default)]
pub(super) struct Agents {
    known: Mutex<HashSet<Arc<str>>>,
}

impl Agents {
    /// The shared copy of `agent`, without NUL; past the bound, its own.
    pub(super) fn intern(&self, agent: Arc<str>) -> Arc<str> {
        let agent = if agent.contains('\0') { agent.replace('\0', "").into() } else { agent };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.get(&agent) {
            return shared.clone();
        }
        if known.len() >= AGENTS_MAX {
            // Those that no phone uses any more make room.
            known.retain(|shared| Arc::strong_count(shared) > 1);
        }
        if known.len() < AGENTS_MAX {
            known.insert(agent.clone());
        }
        agent
    }
}

/// Most strings shared; real sites have some dozens.
const AGENTS_MAX: usize = 4_096;
