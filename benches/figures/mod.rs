//! What benchmarks that keep their figures share: what a server costs, and the page the figures are kept on.
#![allow(dead_code, reason = "each benchmark uses the part it needs")]

pub mod cost;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Whether only a little is to be offered, to see that all of it works; the page is left as it is then.
pub fn is_quick() -> bool {
    std::env::var_os("QUICK").is_some()
}

/// The parts of a benchmark named on its command line, in their own order; all of `known` when none is.
pub fn parts(known: &[&'static str]) -> Vec<&'static str> {
    // cargo adds words of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for word in &named {
        assert!(known.contains(&&**word), "there is no part {word:?}; there are {}", known.join(", "));
    }
    known.iter().copied().filter(|part| named.is_empty() || named.iter().any(|word| word == part)).collect()
}

/// Shows the tables of a part and, unless little was offered, puts them in place of those before on the page.
pub fn keep(part: &str, tables: &str) {
    let tables = format!("{}\n\n{tables}", machine());
    println!("{tables}");
    if is_quick() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let begin = format!("<!-- figures: {part} -->\n");
    let (head, rest) = text.split_once(&begin).expect("the page has the part's mark");
    let (_, tail) = rest.split_once(END).expect("the page has the mark of its end");
    std::fs::write(&path, format!("{head}{begin}{tables}{END}{tail}")).expect("the page can be written");
}

/// Lets this process have as many files open as the system grants; how many that is.
pub fn open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not, the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// How long all but one in `one_in` took at most; `sorted` by length.
pub fn all_but(one_in: usize, sorted: &[Duration]) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last - last / one_in).copied().unwrap_or_default()
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn machine() -> String {
    let of = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = of("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim_start_matches("version: ").to_owned()
    };
    let load = of("/proc/loadavg");
    format!(
        "{cores} cores, {}; Linux {}; hookswitch {}; {}; {}; load when it ended: {}.",
        cpu.trim_start_matches([' ', '\t', ':']),
        of("/proc/sys/kernel/osrelease").trim(),
        env!("CARGO_PKG_VERSION"),
        version("kamailio", "-v"),
        version("psql", "--version"),
        load.split(' ').next().unwrap_or_default()
    )
}

const END: &str = "<!-- end of figures -->";
