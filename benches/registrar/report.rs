//! The page of figures.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::Registrar;

/// What was found about one registrar, the median of its rounds.
pub struct Row {
    name: &'static str,
    rate: f64,
    half: Duration,
    p99: Duration,
    lost: usize,
    costs: Vec<(&'static str, Duration)>,
}

/// What was found with so many phones.
pub struct Memory {
    /// Phones, each with one binding.
    pub users: usize,
    /// Bytes that the daemon holds more than without any.
    pub resident: u64,
    /// Time on a processor for a refresh, the database's included.
    pub cost: Duration,
    /// From the signal to stop until the new process answers.
    pub restart: Duration,
}

impl Row {
    pub fn of(registrar: &Registrar) -> Self {
        let rounds = &registrar.rounds;
        let of = |value: &dyn Fn(&crate::Round) -> Duration| median(rounds.iter().map(value).collect());
        let mut rates: Vec<f64> = rounds.iter().map(|round| round.outcome.rate()).collect();
        rates.sort_by(f64::total_cmp);
        let costs = registrar.processes.iter().enumerate();
        Self {
            name: registrar.name,
            rate: rates[rates.len() / 2],
            half: of(&|round| round.outcome.all_but(2)),
            p99: of(&|round| round.outcome.all_but(100)),
            lost: rounds.iter().map(|round| round.outcome.lost + round.outcome.refused).sum(),
            costs: costs.map(|(at, (name, _))| (*name, of(&|round| round.costs[at].1))).collect(),
        }
    }
}

/// The tables, as Markdown.
pub fn page(rows: &[Row], memory: &[Memory]) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{}\n", machine());
    let _ = writeln!(
        page,
        "| registrar | REGISTERs/s | half within | 99 % within | lost or refused | processor time each |\n\
         | --- | --- | --- | --- | --- | --- |"
    );
    for row in rows {
        let sum: Duration = row.costs.iter().map(|(_, cost)| *cost).sum();
        let parts: Vec<String> = row.costs.iter().map(|(name, cost)| format!("{name} {:.1}", micros(*cost))).collect();
        let Row { name, rate, half, p99, lost, .. } = row;
        let (half, p99) = (micros(*half) / 1e3, micros(*p99) / 1e3);
        let _ = writeln!(
            page,
            "| {name} | {rate:.0} | {half:.1} ms | {p99:.1} ms | {lost} | {:.1} µs ({}) |",
            micros(sum),
            parts.join(", ")
        );
    }
    let _ = writeln!(
        page,
        "\n| phones | memory each | processor time of a refresh, Postgres included | restart |\n| --- | --- | --- | --- |"
    );
    for Memory { users, resident, cost, restart } in memory {
        let each = *resident / u64::try_from(*users).unwrap_or(1);
        let _ = writeln!(page, "| {users} | {each} bytes | {:.1} µs | {:.1} s |", micros(*cost), restart.as_secs_f64());
    }
    page
}

/// Puts the tables in place of those before, between the page's two marks.
pub fn write(path: &Path, tables: &str) {
    let text = std::fs::read_to_string(path).expect("the page is there");
    let (head, rest) = text.split_once(BEGIN).expect("the page has its mark");
    let (_, tail) = rest.split_once(END).expect("the page has its other mark");
    std::fs::write(path, format!("{head}{BEGIN}\n{tables}{END}{tail}")).expect("the page can be written");
}

fn machine() -> String {
    let of = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = of("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = |program: &str, argument: &str| {
        let output = std::process::Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim_start_matches("version: ").to_owned()
    };
    let load = of("/proc/loadavg");
    format!(
        "{cores} cores, {}; {}; {}; load when it ended: {}.",
        cpu.trim_start_matches([' ', '\t', ':']),
        version("kamailio", "-v"),
        version("psql", "--version"),
        load.split(' ').next().unwrap_or_default()
    )
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const BEGIN: &str = "<!-- figures -->";
const END: &str = "<!-- end of figures -->";
