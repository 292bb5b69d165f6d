//! A program that ends with its guard.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// A running program. Dropping it ends the program: first kindly, then for good.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// `program`, to be started so that it ends even if this test's process is killed, when the system has a way to say so.
pub fn command(program: &str) -> Command {
    if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "TERM", program]);
        command
    } else {
        Command::new(program)
    }
}

impl Process {
    /// Starts `command`; what it prints is added to the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file =
            || -> File { OpenOptions::new().create(true).append(true).open(log).expect("the log can be written") };
        let child =
            command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().unwrap_or_else(|error| {
                panic!("{name} can't be started ({error}); .ci/tools installs what is missing")
            });
        Self { name: name.to_owned(), child, log: log.to_path_buf() }
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Panics with what it printed when it has ended.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}):\n{}", self.name, self.output());
        }
    }

    /// Asks it to end, and ends it after [`PATIENCE`] if it has not; how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(status) = self.ended() {
            return status;
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

const SETPRIV: &str = "/usr/bin/setpriv";
const PATIENCE: Duration = Duration::from_secs(8);
