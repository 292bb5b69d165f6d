//! What a server and its children cost: time on a processor, and memory.

use std::fs;
use std::time::Duration;

/// Time the process and all its descendants have spent on a processor so far.
pub fn cpu_of(root: u32) -> Duration {
    let ticks: u64 = family(root).iter().map(|process| process.ticks).sum();
    // proc(5) counts in ticks of a hundredth of a second on every Linux there is.
    Duration::from_millis(ticks * 10)
}

/// Bytes the process itself has in memory.
pub fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

struct Running {
    id: u32,
    parent: u32,
    ticks: u64,
}

fn family(root: u32) -> Vec<Running> {
    let mut others: Vec<Running> =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| read(&entry)).collect();
    let mut family: Vec<Running> = others.extract_if(.., |process| process.id == root).collect();
    let mut known = 0;
    while known < family.len() {
        let parent = family[known].id;
        family.extend(others.extract_if(.., |process| process.parent == parent));
        known += 1;
    }
    family
}

/// `proc_pid_stat(5)`: number, (name), state, parent, …; user and system time are fields 14 and 15.
fn read(entry: &fs::DirEntry) -> Option<Running> {
    let id = entry.file_name().to_str()?.parse().ok()?;
    let stat = String::from_utf8_lossy(&fs::read(entry.path().join("stat")).ok()?).into_owned();
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Running { id, parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}
