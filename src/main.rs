//! Command line.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// Records are made by one thread and freed by another (a listener, a site's task, the journal, a stream), which the
/// system's allocator pays for at every such free: a third of what following a call costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hookswitch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
