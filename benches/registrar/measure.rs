//! A registrar under load, and what a run of the load took out of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::WINDOW;
use crate::figures::cost;
use crate::load::{Load, Outcome, offer};
use crate::wallet::Wallet;

/// A registrar, its users, and what was found about it.
#[derive(Debug)]
pub struct Registrar {
    pub name: String,
    pub address: SocketAddr,
    pub processes: Processes,
    /// What its users' names begin with.
    pub prefix: &'static str,
    /// The passwords of its users, if they have any.
    pub wallet: Option<Wallet>,
    /// How often each user has registered.
    pub round: usize,
    pub rounds: Vec<Round>,
}

/// Processes a registrar consists of, with their descendants: itself, and the database's.
pub type Processes = Vec<(&'static str, u32)>;

/// One run of the load.
#[derive(Debug)]
pub struct Round {
    pub outcome: Outcome,
    /// Time on a processor for each REGISTER, of each process.
    pub costs: Vec<(&'static str, Duration)>,
}

/// Reads what processes have spent since it was made.
#[derive(Debug)]
pub struct Meter {
    processes: Processes,
    before: Vec<Duration>,
}

impl Registrar {
    /// A registrar nobody has registered with.
    pub fn new(name: impl Into<String>, address: SocketAddr, processes: Processes) -> Self {
        Self { name: name.into(), address, processes, prefix: "u", wallet: None, round: 0, rounds: Vec::new() }
    }

    /// Has `users` send `requests` REGISTERs over UDP.
    pub fn run(&mut self, users: usize, requests: usize) -> Round {
        let Self { address: to, prefix, round: first_round, .. } = *self;
        let load = Load { to, prefix, users, requests, window: WINDOW, first_round };
        self.round += requests.div_ceil(users);
        let meter = Meter::start(&self.processes);
        let outcome = offer(&load, self.wallet.as_mut());
        meter.stop(outcome)
    }
}

impl Round {
    /// Of all processes together.
    pub fn cost(&self) -> Duration {
        self.costs.iter().map(|(_, cost)| *cost).sum()
    }
}

impl Meter {
    pub fn start(processes: &Processes) -> Self {
        Self { processes: processes.clone(), before: spent(processes) }
    }

    /// What it took to come to `outcome`.
    pub fn stop(self, outcome: Outcome) -> Round {
        // What is written after the answer belongs to it as well.
        std::thread::sleep(Duration::from_millis(300));
        let each = u32::try_from(outcome.waits.len() + outcome.lost).expect("some hundred thousand").max(1);
        let costs = spent(&self.processes).into_iter().zip(self.before);
        let costs = costs.map(|(after, before)| after.saturating_sub(before) / each);
        Round { outcome, costs: self.processes.iter().map(|(name, _)| *name).zip(costs).collect() }
    }
}

fn spent(processes: &Processes) -> Vec<Duration> {
    processes.iter().map(|(_, process)| cost::cpu_of(*process)).collect()
}
