//! A program that ends with its guard, and with all it has started.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// A running program, in a process group of its own. Dropping it ends the program: first kindly, then for good, and then
/// whatever it has left behind. When this test's process is gone before that, its watchman does the same.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    swept: bool,
}

impl Process {
    /// Starts `command`; what it prints is added to the file `log`, and it can read nothing.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file =
            || -> File { OpenOptions::new().create(true).append(true).open(log).expect("the log can be written") };
        let mut watched = watched(command);
        let child = watched.stdin(Stdio::piped()).stdout(file()).stderr(file()).spawn().expect("sh starts");
        Self { name: name.to_owned(), child, log: log.to_path_buf(), swept: false }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The memory it holds now (RSS), in KiB; 0 when it has ended.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Panics with what it printed when it has ended.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.ended() {
            let hint = if status.code() == Some(127) { "; .ci/tools installs what is missing" } else { "" };
            panic!("{} ended ({status}){hint}:\n{}", self.name, self.output());
        }
    }

    /// Sends it a signal: `INT`, `TERM`, …
    pub fn signal(&self, signal: &str) {
        kill(signal, &self.child.id().to_string());
    }

    /// Asks it to end, and ends it after [`PATIENCE`] if it has not; how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal("TERM");
        }
        let end = Instant::now() + PATIENCE;
        while self.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> ExitStatus {
        if !self.swept {
            // The program's number names its group for as long as the watchman is in it, so it is nobody else's.
            kill("KILL", &format!("-{}", self.child.id()));
            let end = Instant::now() + GONE;
            while Instant::now() < end && running().any(|(_, group)| group == self.child.id()) {
                thread::sleep(Duration::from_millis(5));
            }
            self.swept = true;
        }
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `command` with a watchman beside it, in a group of their own: a program's children outlive it when it is killed, as
/// Kamailio's do, and it outlives this process when that is killed. The watchman sees that by its standard input.
fn watched(command: &Command) -> Command {
    let mut watched = Command::new("sh");
    watched.args(["-c", WATCH, "sh"]).arg(command.get_program()).args(command.get_args()).process_group(0);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watched.env(name, value),
            None => watched.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        watched.current_dir(folder);
    }
    watched
}

/// To a process, or to a group if the number is negative. There may be none any more.
fn kill(signal: &str, whom: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, "--", whom]).stderr(Stdio::null()).status().expect("kill is installed");
}

/// The processes of the machine and their groups; without those that have ended and that nobody has taken note of yet.
fn running() -> impl Iterator<Item = (u32, u32)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        // proc_pid_stat(5): number, (name), state, parent, group, …
        let stat = fs::read(process.path().join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, _parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        (state != "Z").then_some((number, group.parse().ok()?))
    })
}

/// The shell becomes the program, so that its number and status are the program's own; the watchman is nobody's child, for
/// a program may wait for all of its own.
const WATCH: &str = r#"exec 3<&0 </dev/null
( (
    trap '' HUP INT TERM
    read -r _ <&3
    kill -TERM $$ 2>/dev/null
    for _ in $(seq 40); do kill -0 $$ 2>/dev/null && sleep 0.2; done
    kill -KILL 0
) >/dev/null 2>&1 & )
exec "$@" 3<&-"#;
const PATIENCE: Duration = Duration::from_secs(8);
/// What is killed is gone soon, and its ports are free then.
const GONE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::folder::Folder;

    /// A program that ends when it is told to, and a child of it that does not.
    const STUBBORN: &str =
        "(trap '' TERM; echo child $(exec sh -c 'echo $PPID'); sleep 300 & wait) & echo main $$; wait";

    fn start(folder: &Folder) -> (Process, Vec<u32>) {
        let process = Process::start("sh", Command::new("sh").args(["-c", STUBBORN]), &folder.join("sh.log"));
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let output = process.output();
            let numbers = output.lines().filter_map(|line| line.split_once(' ')?.1.parse().ok());
            let numbers: Vec<u32> = numbers.collect();
            if numbers.len() == 2 && still(&numbers) == numbers.len() {
                return (process, numbers);
            }
            assert!(Instant::now() < end, "{output}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn still(numbers: &[u32]) -> usize {
        running().filter(|(number, _)| numbers.contains(number)).count()
    }

    #[test]
    fn what_a_program_has_started_goes_with_it() {
        let folder = Folder::new("process");
        let (process, numbers) = start(&folder);
        let began = Instant::now();
        drop(process);
        assert_eq!(still(&numbers), 0, "{numbers:?}");
        assert!(began.elapsed() < PATIENCE, "the program itself ends when it is told to");
    }

    #[test]
    fn a_program_goes_with_a_test_that_panics() {
        let folder = Folder::new("process");
        let (process, numbers) = start(&folder);
        let panicked = thread::spawn(move || {
            let _process = process;
            panic!("as a test does");
        });
        assert!(panicked.join().is_err());
        assert_eq!(still(&numbers), 0, "{numbers:?}");
    }

    #[test]
    fn a_program_goes_when_nobody_is_left_to_end_it() {
        let folder = Folder::new("process");
        let (mut process, numbers) = start(&folder);
        // What becomes of the pipe when this process is killed.
        drop(process.child.stdin.take());
        let end = Instant::now() + PATIENCE;
        while still(&numbers) > 0 {
            assert!(Instant::now() < end, "{numbers:?}");
            let _noted = process.ended();
            thread::sleep(Duration::from_millis(20));
        }
    }
}
