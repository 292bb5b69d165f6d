//! The office: Kamailio, phone 101 on UDP, phone 102 on TCP, and what they are relayed to.

use std::time::Duration;

use crate::support::baresip::{Account, Phone};
use crate::support::folder::Folder;
use crate::support::kamailio::Kamailio;
use crate::support::sipp::{Scenario, Sipp};

/// Everything of the office, in the order in which it has to end.
#[derive(Debug)]
pub struct Office {
    /// Phone 101, on UDP.
    pub p101: Phone,
    /// Phone 102, on TCP.
    pub p102: Phone,
    /// The proxy.
    pub kamailio: Kamailio,
}

impl Office {
    /// Opens the office; Kamailio relays registrations to the URI `replica` and copies calls to the URI `mirror`.
    pub async fn open(folder: &Folder, replica: &str, mirror: &str) -> Self {
        Self::open_with(folder, replica, mirror, &[]).await
    }

    /// The same with switches of Kamailio's configuration set.
    pub async fn open_with(folder: &Folder, replica: &str, mirror: &str, switches: &[&str]) -> Self {
        let kamailio = Kamailio::start_with(folder, replica, mirror, switches).await;
        let account = |extension, transport| Account {
            extension,
            domain: DOMAIN,
            proxy: kamailio.address,
            transport,
            expires_s: 60,
        };
        let (p101, p102) =
            tokio::join!(Phone::start(folder, account("101", "udp")), Phone::start(folder, account("102", "tcp")));
        Self { p101, p102, kamailio }
    }

    /// Somebody outside, +14155550100, calls `number` as `tests/sipp/<scenario>.xml` says.
    pub fn call_from_outside(&self, folder: &Folder, scenario: &str, number: &str) -> Sipp {
        self.trunk(scenario, number, Duration::from_secs(1)).start(folder)
    }

    /// Somebody outside waits for calls, lets them ring for a second and answers.
    pub fn await_call_outside(&self, folder: &Folder) -> Sipp {
        Scenario { target: None, ..self.trunk("trunk-answers", "", Duration::from_secs(1)) }.start(folder)
    }

    fn trunk<'a>(&self, file: &'a str, number: &'a str, pause: Duration) -> Scenario<'a> {
        let (target, source) = (Some(self.kamailio.address), Some(self.kamailio.trunk));
        Scenario { target, source, service: number, pause, ..Scenario::new(file) }
    }
}

/// The domain of the phones' addresses-of-record.
pub const DOMAIN: &str = "office.example";
