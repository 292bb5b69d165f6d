//! A page of the documentation as a list of fenced blocks, and somebody who follows it.
//!
//! `sh`: run it. `text`: the block above prints this, in these lines; `…` stands for anything. `text WORD`: the last
//! command that holds WORD and still runs prints this. `toml`: a configuration that is good. `baresip`: an account of
//! a phone that registers. `console` and others: for people.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use hookswitch::config::Config;

use crate::support::baresip::Phone;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::wait::until;

/// The fenced blocks of a page: info string and text.
pub struct Page(Vec<(String, String)>);

/// Somebody with a terminal beside a running daemon.
pub struct Session<'f> {
    folder: &'f Folder,
    /// What the page says → where it is here.
    addresses: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    running: Vec<Run>,
    phones: Vec<Phone>,
}

struct Run {
    text: String,
    process: Process,
}

impl Page {
    /// Reads a page of the repository.
    pub fn read(path: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        let page = std::fs::read_to_string(&path).expect("the page is there");
        let mut blocks = Vec::new();
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            let Some(info) = line.strip_prefix("```") else { continue };
            let mut text = String::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                writeln!(text, "{line}").expect("a string can be written");
            }
            blocks.push((info.trim().to_owned(), text));
        }
        Self(blocks)
    }

    /// The texts of the blocks with this info string.
    pub fn blocks(&self, info: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |block| block.0 == info).map(|block| block.1.as_str())
    }
}

impl<'f> Session<'f> {
    /// A terminal whose `hookswitch` is the one under test, and which knows its configuration and token.
    pub fn new(folder: &'f Folder, daemon: &Daemon) -> Self {
        let token = std::fs::read_to_string(daemon.data.join("admin-token")).expect("the first token is filed");
        let run = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_hookswitch"));
        let script = folder.write("bin/hookswitch", run);
        std::fs::set_permissions(script, Permissions::from_mode(0o755)).expect("it is our file");
        let programs = folder.join("bin").display().to_string();
        Self {
            folder,
            addresses: vec![
                ("127.0.0.1:5060", daemon.registrar.to_string()),
                ("127.0.0.1:8080", daemon.http.to_string()),
                ("127.0.0.1:9464", daemon.ops.to_string()),
            ],
            environment: vec![
                ("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default())),
                ("HOOKSWITCH_CONFIG", daemon.config.display().to_string()),
                ("HOOKSWITCH_TOKEN", token.trim().to_owned()),
            ],
            running: Vec::new(),
            phones: Vec::new(),
        }
    }

    /// Does what the page says, from top to bottom.
    pub async fn follow(&mut self, page: &Page) {
        let mut blocks = page.0.iter().peekable();
        while let Some((info, text)) = blocks.next() {
            let text = self.here(text);
            match info.split_once(' ').unwrap_or((info, "")) {
                ("sh", _) => {
                    self.run(&text);
                    if blocks.peek().is_none_or(|next| next.0 != "text") {
                        self.ends().await;
                    }
                }
                ("text", word) => self.prints(word, &text).await,
                ("toml", _) => drop(Config::parse(&text, std::iter::empty()).expect("a good configuration")),
                ("baresip", _) => self.phones.push(Phone::start_with(self.folder, "102", &text).await),
                _ => {}
            }
        }
        for Run { text, process } in &mut self.running {
            let ended = process.ended();
            assert!(ended.is_none_or(|status| status.success()), "{text}{ended:?}\n{}", process.output());
        }
    }

    fn here(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    /// Runs a block in a shell that has the variables the blocks before it set.
    fn run(&mut self, text: &str) {
        let (name, kept) = (format!("block-{}", self.running.len()), self.folder.join("variables"));
        let kept = kept.display();
        // Only a block that ends hands its variables on.
        let script = format!("set -e -a\n[ ! -e '{kept}' ] || . '{kept}'\n{text}export -p > '{kept}'\n");
        let mut bash = Command::new("bash");
        bash.arg(self.folder.write(&name, script)).current_dir(self.folder.path());
        bash.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        let process = Process::start(&name, &mut bash, &self.folder.join(format!("{name}.log")));
        self.running.push(Run { text: text.to_owned(), process });
    }

    async fn ends(&mut self) {
        let Run { text, process } = self.running.last_mut().expect("a block was run");
        let status = until(&format!("this ends: {text}"), async || process.ended()).await;
        assert!(status.success(), "{text}{status}\n{}", process.output());
    }

    async fn prints(&self, word: &str, expected: &str) {
        let mut runs = self.running.iter().rev();
        let run = runs.find(|run| run.text.contains(word)).expect("a block with this word was run");
        until(&format!("{}prints\n{expected}", run.text), async || {
            let output = run.process.output();
            let mut lines = output.lines();
            expected.lines().all(|pattern| lines.any(|line| fits(line, pattern))).then_some(())
        })
        .await;
    }
}

/// Whether a line is what the pattern says; `…` stands for anything.
fn fits(line: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    // A pattern that ends in `…` leaves the rest open.
    rest.is_empty() || last == Some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
        assert!(fits("101 is registered", "101 is registered"));
        assert!(!fits("101 is registered for 300 s", "101 is registered"));
        assert!(fits("a: {\"x\":1,\"y\":2}", "a: {…\"y\":2…"));
        assert!(!fits("a: {\"x\":1}", "a: {…\"y\":2…"));
        assert!(!fits("b", "…a"));
    }
}
