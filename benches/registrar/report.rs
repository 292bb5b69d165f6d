//! The rows that parts show of what they measured.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::{median, micros, millis};
use crate::measure::{Registrar, Round};

/// What was found about one registrar, the median of its rounds.
#[derive(Debug)]
pub struct Row {
    name: String,
    rate: f64,
    half: Duration,
    p99: Duration,
    lost: usize,
    costs: Vec<(&'static str, Duration)>,
}

impl Row {
    pub fn of(registrar: &Registrar) -> Self {
        Self::new(registrar.name.clone(), &registrar.rounds)
    }

    pub fn new(name: String, rounds: &[Round]) -> Self {
        let of = |value: &dyn Fn(&Round) -> Duration| median(rounds.iter().map(value).collect());
        let mut rates: Vec<f64> = rounds.iter().map(|round| round.outcome.rate()).collect();
        rates.sort_by(f64::total_cmp);
        let processes = rounds[0].costs.iter().enumerate();
        Self {
            name,
            rate: rates[rates.len() / 2],
            half: of(&|round| round.outcome.all_but(2)),
            p99: of(&|round| round.outcome.all_but(100)),
            lost: rounds.iter().map(|round| round.outcome.lost + round.outcome.refused).sum(),
            costs: processes.map(|(at, (name, _))| (*name, of(&|round| round.costs[at].1))).collect(),
        }
    }

    /// Time on a processor for a REGISTER, of all processes.
    pub fn cost(&self) -> Duration {
        self.costs.iter().map(|(_, cost)| *cost).sum()
    }
}

/// The rows as a Markdown table; `what` heads their names.
pub fn table(what: &str, rows: &[Row]) -> String {
    let mut table = format!(
        "| {what} | REGISTERs/s | half within | 99 % within | lost or refused | processor time each |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for row in rows {
        let parts: Vec<String> = row.costs.iter().map(|(name, cost)| format!("{name} {:.1}", micros(*cost))).collect();
        let Row { name, rate, half, p99, lost, .. } = row;
        // Writing to a String can't fail.
        let _ = writeln!(
            table,
            "| {name} | {rate:.0} | {:.1} ms | {:.1} ms | {lost} | {:.1} µs ({}) |",
            millis(*half),
            millis(*p99),
            micros(row.cost()),
            parts.join(", ")
        );
    }
    table
}
