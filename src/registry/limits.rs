//! How much the registry will hold.

use std::time::Duration;

use crate::store::Retention;

/// Bounds on what the registry holds and how long it waits. Each refusal they cause is counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Accounts.
    pub accounts_max: usize,
    /// Sites, PBXs and queues of one account, each.
    pub phone_systems_max: usize,
    /// Users of one account.
    pub users_max: usize,
    /// Tokens of one account.
    pub tokens_max: usize,
    /// Devices of one account.
    pub devices_max: usize,
    /// Devices that may appear by themselves in one account in a second, on average.
    pub devices_per_second_max: u32,
    /// Devices that may appear by themselves in one account at once, after a quiet time.
    pub devices_burst_max: u32,
    /// Links that last, of one user or of one device.
    pub links_max: usize,
    /// Calls that live at once.
    pub live_calls_max: usize,
    /// Calls, reasons and transitions that wait for the database.
    pub history_max: usize,
    /// How long history is kept.
    pub retention: Retention,
    /// How long [`Registry::committed`](super::Registry::committed) waits.
    pub commit_wait: Duration,
    /// How long after a start no passive binding counts as gone, in milliseconds.
    pub restart_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            accounts_max: 10_000,
            phone_systems_max: 1_000,
            users_max: 100_000,
            tokens_max: 10_000,
            devices_max: 100_000,
            devices_per_second_max: 2_000,
            devices_burst_max: 20_000,
            links_max: 1_000,
            live_calls_max: 100_000,
            history_max: 100_000,
            retention: Retention::default(),
            commit_wait: Duration::from_millis(800),
            restart_grace_ms: 600_000,
        }
    }
}
