//! Every key there is, from the code that reads it: what it takes comes from the reader, what it means from the comment of the
//! field it is read into (`build.rs` collects those), and how it looks in a file from `sample.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Config;
use super::read::{self, Asked, Notes, Section, Takes};

/// The annotated configuration: what holds is set, what does not is commented out.
#[must_use]
pub fn sample() -> String {
    let keys = keys();
    let mut shown = BTreeSet::new();
    let mut text = String::from(HEAD);
    for block in TEMPLATE.split("\n\n") {
        text.push('\n');
        let mut section = String::new();
        let mut indent = "";
        for line in block.lines() {
            let (mark, bare) = line.strip_prefix('#').map_or(("", line), |bare| ("#", bare));
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                (section, indent) = (general(name), mark);
                if shown.insert(section.clone()) {
                    explain(&mut text, meaning(&section, ""), "");
                }
                let _ = writeln!(text, "{line}");
            } else if mark == "#" && bare.starts_with(' ') {
                let _ = writeln!(text, "{line}");
            } else {
                let (name, value) = bare.split_once(" = ").map_or((bare, None), |(name, value)| (name, Some(value)));
                set(&mut text, &keys, &mut shown, (&section, name), (mark, value));
            }
        }
        // What has a default of its own need not be in the template.
        if indent.is_empty() && !section.is_empty() && !section.contains("NAME") {
            for key in keys.iter().filter(|key| key.section == section) {
                if !shown.contains(&key.path()) {
                    set(&mut text, &keys, &mut shown, (&section, &key.name), ("", None));
                }
            }
        }
    }
    text
}

/// The same as a page for people (Markdown).
#[must_use]
pub fn page() -> String {
    let keys = keys();
    let values = values();
    let mut text = String::from(PAGE_HEAD);
    let mut section = None;
    for key in &keys {
        if section != Some(&key.section) {
            section = Some(&key.section);
            if !key.section.is_empty() {
                let _ = writeln!(text, "\n## `[{}]`\n", key.section);
                let _ = writeln!(text, "{}", sentence(meaning(&key.section, "")));
            }
            text.push_str("\n| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        }
        let default = match &key.takes {
            Takes::Number { default, .. } => default.to_string(),
            Takes::Word { default: Some(word), .. } => format!("`\"{word}\"`"),
            _ => values.get(&key.path()).map(|value| format!("`{value}`")).unwrap_or_default(),
        };
        let meaning = sentence(meaning(&key.section, &key.name)).replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {default} | {meaning} |", key.name, taken(&key.takes));
    }
    text
}

/// A key and what it takes; NAME stands for any name.
struct Key {
    section: String,
    name: String,
    takes: Takes,
}

impl Key {
    fn path(&self) -> String {
        path(&self.section, &self.name)
    }
}

/// Every key the code asks for, section by section, in the order it does so.
fn keys() -> Vec<Key> {
    let mut notes = Notes::default();
    let tree = read::parse(ALL_KINDS, &mut notes.problems);
    let _config = Config::read(Section::top(tree, &mut notes), Vec::new());
    let mut sections: Vec<(String, Vec<Key>)> = Vec::new();
    for Asked { path, takes } in notes.asked {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let (section, name) = (general(section), name.to_owned());
        let is_table = takes == Takes::Section && section.contains("NAME");
        if section == "listeners" || section == "feeds" || (takes == Takes::Section && !is_table) {
            continue;
        }
        let at = sections.iter().position(|(known, _)| *known == section).unwrap_or_else(|| {
            sections.push((section.clone(), Vec::new()));
            sections.len() - 1
        });
        let Some((_, keys)) = sections.get_mut(at) else { continue };
        if !keys.iter().any(|key| key.name == name) {
            keys.push(Key { section, name, takes });
        }
    }
    let order = |section: &str| ORDER.iter().position(|known| *known == section).unwrap_or(ORDER.len());
    sections.sort_by_key(|(section, _)| order(section));
    sections.into_iter().flat_map(|(_, keys)| keys).collect()
}

/// What the template sets, by path, where it is no example.
fn values() -> BTreeMap<String, &'static str> {
    let mut section = "";
    let mut values = BTreeMap::new();
    for line in TEMPLATE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            // Each of the three default listeners has its own.
            if !section.contains('.') {
                values.insert(path(section, name), value);
            }
        }
    }
    values
}

/// Writes a key, after what it means when that has not been said yet.
fn set(
    text: &mut String,
    keys: &[Key],
    shown: &mut BTreeSet<String>,
    (section, name): (&str, &str),
    (mark, value): (&str, Option<&str>),
) {
    let key = keys.iter().find(|key| key.section == section && key.name == name);
    if shown.insert(path(section, name)) {
        let range = match key.map(|key| &key.takes) {
            Some(Takes::Number { min, max, .. }) => format!(" From {min} to {max}."),
            _ => String::new(),
        };
        explain(text, meaning(section, name), &range);
    }
    let value = match (value, key.map(|key| &key.takes)) {
        (Some(value), _) => value.to_owned(),
        (None, Some(Takes::Number { default, .. })) => default.to_string(),
        (None, _) => String::new(),
    };
    let _ = writeln!(text, "{mark}{name} = {value}");
}

/// A paragraph of comment lines.
fn explain(text: &mut String, meaning: &str, more: &str) {
    let mut line = String::from("#");
    for word in format!("{}{more}", sentence(meaning)).split_whitespace() {
        if line.chars().count() + word.chars().count() >= WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

fn meaning(section: &str, key: &str) -> &'static str {
    let found = MEANINGS.iter().find(|(of, name, _)| *of == section && *name == key);
    found.map_or("", |(_, _, meaning)| *meaning)
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn taken(takes: &Takes) -> String {
    match takes {
        Takes::Text => "a string".to_owned(),
        Takes::Word { words, .. } => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Takes::List => "strings".to_owned(),
        Takes::Number { min, max, .. } => format!("{min} to {max}"),
        Takes::Section => "names and strings".to_owned(),
    }
}

/// The path of a section with NAME in the place of the name its file gives it.
fn general(section: &str) -> String {
    match section.split_once('.') {
        Some((kind @ ("listeners" | "feeds"), rest)) => match rest.split_once('.') {
            Some((_, rest)) => format!("{kind}.NAME.{rest}"),
            None => format!("{kind}.NAME"),
        },
        _ => section.to_owned(),
    }
}

fn path(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// (section, key, meaning); a section's own has no key.
const MEANINGS: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/keys.rs"));
const TEMPLATE: &str = include_str!("sample.toml");
/// Has every reader ask for its keys.
const ALL_KINDS: &str = "[listeners.hep]\n[feeds.asterisk]\n[feeds.freeswitch]\n[feeds.subscription]\n";
/// Of the sections, in the sample and on the page.
const ORDER: [&str; 10] =
    ["", "database", "http", "ops", "log", "listeners.NAME", "feeds.NAME", "registrar", "limits", "retention"];
/// Of the sample's lines.
const WIDTH: usize = 120;
const HEAD: &str = "\
# hookswitch: the configuration as it is when nothing is set. What is commented out is an example; an empty file, or none,
# works. `hookswitch --print-defaults` prints this, docs/configuration.md is the same as a page.
#
# Read from --config FILE, else from /etc/hookswitch/hookswitch.toml. Each key can also be set by an environment variable:
# HOOKSWITCH_ + its path with __ between levels, e.g. HOOKSWITCH_DATABASE__URL. `hookswitch check FILE` names every mistake.
";
const PAGE_HEAD: &str = "\
# Configuration

<!-- Made by `hookswitch --print-defaults=markdown` from the code that reads the keys; `make config` writes it anew. -->

One TOML file: what `--config` names, else `/etc/hookswitch/hookswitch.toml`; none is needed. Each key can also be set by an
environment variable, `HOOKSWITCH_` and its path with `__` between levels (`HOOKSWITCH_DATABASE__URL`), which goes before the
file; a comma parts the strings of a list there. A key that does not exist is a mistake, as is a number out of its bounds:
`hookswitch check FILE` names all mistakes at once, each with its line, its key and what to write instead, and ends with code 1
when there is one. `hookswitch --print-defaults` prints an annotated file with all of this.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_the_code_reads_is_documented_once_and_every_documented_key_is_read() {
        let read: BTreeSet<String> = keys().iter().map(Key::path).collect();
        let mut documented = BTreeSet::new();
        for (section, key, meaning) in MEANINGS {
            assert!(!meaning.is_empty(), "{section} {key}");
            assert!(documented.insert(path(section, key)), "{section}.{key} is documented twice");
        }
        let sections: BTreeSet<String> = keys().into_iter().map(|key| key.section).filter(|s| !s.is_empty()).collect();
        assert!(sections.iter().all(|section| documented.remove(&format!("{section}."))), "{sections:?}");
        assert_eq!(read, documented);
        assert!(read.len() > 60, "{}", read.len());
    }

    #[test]
    fn the_sample_shows_every_key_and_each_number_with_its_default() {
        let sample = sample();
        for key in keys() {
            let shown = |prefix: &str| sample.lines().any(|line| line.starts_with(&format!("{prefix}{} = ", key.name)));
            assert!(shown("") || shown("#"), "{} is not in the sample", key.path());
            if let Takes::Number { default, .. } = key.takes {
                let line = format!("{} = {default}", key.name);
                assert!(sample.lines().any(|shown| shown.trim_start_matches('#') == line), "{line}");
            }
        }
        assert!(sample.lines().all(|line| line.chars().count() <= 125 || line.contains(" = ")), "{sample}");
    }
}
