//! `hookswitch replay`: what a capture would have made the daemon do.

mod table;

use std::fs;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use hookswitch::clock::{Clock, Stopwatch};
use hookswitch::ingest::capture::Captures;
use hookswitch::ingest::replay::{Links, News, Replay};

use table::Table;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Captures: pcap, pcapng, HEP dumps; several are read as one, in the order of their stamps. `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Who has which phone (TOML or JSON): then offers and their reasons are shown too.
    #[arg(long, value_name = "FILE")]
    links: Option<PathBuf>,
    /// One JSON object a line instead of a table; docs/replay.md has the fields.
    #[arg(long)]
    json: bool,
}

/// Where findings go.
enum Output<W: Write> {
    Table(Box<Table<W>>),
    Json(W),
}

/// Replays the files. The code tells whether all of them could be read.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let links = match &arguments.links {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
            Links::parse(&text).with_context(|| path.display().to_string())?
        }
        None => Links::default(),
    };
    let mut captures = match Captures::open(&arguments.files) {
        Ok(captures) => captures,
        Err(error) => {
            complain(&error);
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let out = BufWriter::with_capacity(OUTPUT_LEN, io::stdout().lock());
    let mut output = if arguments.json {
        Output::Json(out)
    } else {
        Output::Table(Box::new(Table::new(out, arguments.links.is_some())))
    };
    replay(&mut captures, &links, &mut output).or_else(|error| match error.downcast_ref::<io::Error>() {
        // Whoever read the output has seen enough.
        Some(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        _ => Err(error),
    })
}

fn replay<W: Write>(captures: &mut Captures, links: &Links, output: &mut Output<W>) -> anyhow::Result<ExitCode> {
    let mut replay = Replay::new(links)?;
    let mut progress = Progress::new();
    let (mut records, mut code) = (0_u64, ExitCode::SUCCESS);
    loop {
        match captures.next_record() {
            Ok(Some((at_us, record))) => replay.take(at_us, record),
            Ok(None) => break,
            Err(error) => {
                progress.clear();
                complain(&error);
                code = ExitCode::from(if error.is_partial() { PARTIAL } else { UNREADABLE });
                continue;
            }
        }
        records += 1;
        for news in replay.news() {
            output.write(&news)?;
        }
        if records.is_multiple_of(PROGRESS_EVERY) {
            progress.show(captures.progress(), replay.messages());
        }
    }
    progress.clear();
    for news in replay.finish() {
        output.write(&news)?;
    }
    output.finish()?;
    Ok(code)
}

impl<W: Write> Output<W> {
    fn write(&mut self, news: &News) -> anyhow::Result<()> {
        match self {
            Self::Table(table) => table.write(news)?,
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, news).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.finish(),
            Self::Json(out) => out.flush(),
        }
    }
}

/// A line that says how far it is, where somebody looks at a terminal and it takes long.
struct Progress {
    started: Stopwatch,
    /// Milliseconds at which it was shown last.
    shown_ms: u128,
    is_terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { started: Clock::stopwatch(), shown_ms: 0, is_terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, (done, total): (u64, u64), messages: u64) {
        let elapsed_ms = self.started.elapsed().as_millis();
        if !self.is_terminal || elapsed_ms < self.shown_ms + PROGRESS_MS {
            return;
        }
        self.shown_ms = elapsed_ms;
        let (done, total) = (done / 1_000_000, total / 1_000_000);
        eprint!("\r\x1b[K{done} of {total} MB, {messages} SIP messages");
    }

    fn clear(&mut self) {
        if self.shown_ms > 0 {
            eprint!("\r\x1b[K");
            self.shown_ms = 0;
        }
    }
}

fn complain(error: &dyn std::fmt::Display) {
    eprintln!("hookswitch: {error}");
}

/// A file could not be read or is of no known kind.
const UNREADABLE: u8 = 2;
/// A file breaks off or is damaged; what was whole before was replayed.
const PARTIAL: u8 = 3;
const OUTPUT_LEN: usize = 256 * 1024;
const PROGRESS_EVERY: u64 = 16_384;
const PROGRESS_MS: u128 = 250;
