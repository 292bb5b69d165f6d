//! What the program says of itself: its configuration's defaults, completions for shells, manual pages.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueEnum};

use hookswitch::config;

use super::Arguments;

/// How the configuration is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A file to begin with.
    Toml,
    /// The page of the documentation.
    Markdown,
}

/// Prints every key with its default and its meaning.
pub fn print_defaults(format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Toml => config::sample(),
        Format::Markdown => config::page(),
    };
    print(text.as_bytes())
}

/// Prints what a shell needs to complete our command line.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "hookswitch", &mut script);
    print(&script)
}

/// Prints hookswitch(1), or writes it and a page for each command into a folder.
pub fn man(folder: Option<&Path>) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page).context("can't make the page")?;
        return print(&page);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .with_context(|| format!("can't write to {}", folder.display()))
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    std::io::stdout().write_all(text).context("nobody reads what is printed")
}
