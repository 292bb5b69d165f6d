//! TOML and environment as one tree that remembers where each value came from, and a reader that collects every
//! mistake instead of stopping at the first.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::advice;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// Nowhere: a default.
    Default,
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// Key path with dots; empty when the text as a whole is at fault.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Line(line) => write!(f, "line {line}: ")?,
            Origin::Variable(name) => write!(f, "environment {name}: ")?,
            Origin::Default => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Where.
    pub origin: Origin,
    /// What.
    pub value: Value,
}

/// What a key holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string; every environment variable is one.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A list.
    List(Vec<Spot>),
    /// A section.
    Table(Tree),
    /// Anything else TOML has, by the name of its type; no key of ours takes it.
    Other(&'static str),
}

/// A section's keys.
pub type Tree = BTreeMap<String, Spot>;

/// What reading a configuration leaves besides its values.
#[derive(Debug, Default)]
pub struct Notes {
    /// Mistakes so far.
    pub problems: Vec<Problem>,
    /// Every key that was asked for, whether it was there or not.
    pub asked: Vec<Asked>,
    unknown: Vec<Unknown>,
}

/// A key that the code reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its path, `database.url`.
    pub path: String,
    /// What may stand there.
    pub takes: Takes,
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A string.
    Text,
    /// One of these words.
    Word {
        /// All of them.
        words: Vec<&'static str>,
        /// Which it is when nothing is said, unless that depends.
        default: Option<&'static str>,
    },
    /// A string or a list of them.
    List,
    /// A whole number.
    Number {
        /// What it is when nothing is said.
        default: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Keys of its own.
    Section,
}

#[derive(Debug)]
struct Unknown {
    origin: Origin,
    key: String,
    known: Vec<String>,
}

impl Notes {
    /// All mistakes in the order of the file; what no line is to blame for comes last.
    pub fn finish(mut self) -> Vec<Problem> {
        for Unknown { origin, key, known } in std::mem::take(&mut self.unknown) {
            let what = advice::unknown_key(&key, &known, &self.asked);
            self.problems.push(Problem { origin, key, what });
        }
        self.problems.sort_by_key(|problem| match problem.origin {
            Origin::Line(line) => line,
            _ => usize::MAX,
        });
        self.problems
    }
}

/// Reads TOML, syntax mistakes going to `problems`; what could be read is in the tree all the same.
pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Tree {
    let line_of = |offset: usize| text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = error.span().map_or(Origin::Default, |span| Origin::Line(line_of(span.start)));
        problems.push(Problem { origin, key: String::new(), what: error.message().to_owned() });
    }
    tree(table.get_ref(), &line_of)
}

/// Lays environment variables over the tree: `HOOKSWITCH_DATABASE__URL` is `database.url`. A variable without `__`
/// that is no top-level key is not ours to judge (orchestrators set such names) and comes back in the answer.
pub fn overlay(
    tree: &mut Tree,
    variables: impl Iterator<Item = (String, String)>,
    top: &[&str],
    reserved: &[&str],
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut unknown = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let Some((last, sections)) = path.split_last() else { continue };
        if sections.is_empty() && (reserved.contains(&last.as_str()) || !top.contains(&last.as_str())) {
            if !reserved.contains(&last.as_str()) {
                unknown.push(name);
            }
            continue;
        }
        let origin = Origin::Variable(name.clone());
        match descend(tree, sections, &origin) {
            Some(section) => {
                section.insert(last.clone(), Spot { origin, value: Value::Text(value) });
            }
            None => problems.push(Problem {
                origin,
                key: path.join("."),
                what: "runs through a key that is a value, not a section".into(),
            }),
        }
    }
    unknown
}

/// One section being read. Keys are taken out of it; what is left at the end nobody knows.
pub struct Section<'a> {
    path: String,
    /// Where its header stands.
    header: Origin,
    tree: Tree,
    /// Keys asked for so far.
    asked: Vec<String>,
    notes: &'a mut Notes,
}

impl<'a> Section<'a> {
    /// The top of the tree.
    pub fn top(tree: Tree, notes: &'a mut Notes) -> Self {
        Self { path: String::new(), header: Origin::Default, tree, asked: Vec::new(), notes }
    }

    /// Names of the keys still here.
    pub fn names(&self) -> Vec<String> {
        self.tree.keys().cloned().collect()
    }

    /// The section called `name`; an empty one when it is absent.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        self.asks(name, Takes::Section);
        let path = self.key(name);
        let (header, tree) = match self.tree.remove(name) {
            None => (self.header.clone(), Tree::new()),
            Some(Spot { origin, value: Value::Table(tree) }) => (origin, tree),
            Some(spot) => {
                let what = format!("is a section; write [{path}] and its keys below");
                self.notes.problems.push(Problem { origin: spot.origin.clone(), key: path.clone(), what });
                (spot.origin, Tree::new())
            }
        };
        Section { path, header, tree, asked: Vec::new(), notes: self.notes }
    }

    /// Reads a string.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.asks(name, Takes::Text);
        self.take_text(name)
    }

    /// Reads a string and parses it; the parser's error says what is wrong with it.
    pub fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let origin = self.origin(name);
        let text = self.text(name)?;
        parse(&text).map_err(|what| self.problem(&origin, name, what)).ok()
    }

    /// Reads one of some words. `what` is what they are called, `default` what the caller makes of none.
    pub fn word<T: Copy>(
        &mut self,
        name: &str,
        what: &str,
        words: &[(&'static str, T)],
        default: Option<&'static str>,
    ) -> Option<T> {
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        self.asks(name, Takes::Word { words: known.clone(), default });
        let origin = self.origin(name);
        let text = self.take_text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.problem(&origin, name, advice::unknown_word(&text, what, &known));
        }
        found.map(|(_, value)| *value)
    }

    /// Reads a list of strings (one string is a list of one; a comma in an environment variable parts two) and parses
    /// each of them. Absent when the key is.
    pub fn list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        self.asks(name, Takes::List);
        let spot = self.tree.remove(name)?;
        let items = match spot.value {
            Value::List(items) => items,
            Value::Text(text) if matches!(spot.origin, Origin::Variable(_)) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Spot { origin: spot.origin.clone(), value: Value::Text(item.to_owned()) })
                .collect(),
            Value::Text(text) => vec![Spot { origin: spot.origin, value: Value::Text(text) }],
            other => return self.wrong(&spot.origin, name, "a list of strings", &other),
        };
        let mut parsed = Vec::with_capacity(items.len());
        for item in items {
            match item.value {
                Value::Text(text) => match parse(&text) {
                    Ok(value) => parsed.push(value),
                    Err(what) => self.problem(&item.origin, name, what),
                },
                other => {
                    self.wrong::<()>(&item.origin, name, "a list of strings", &other);
                }
            }
        }
        Some(parsed)
    }

    /// Reads a whole number within `range`, else `default`.
    pub fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let (min, max) = (*range.start(), *range.end());
        self.asks(name, Takes::Number { default, min, max });
        let Some(spot) = self.tree.remove(name) else { return default };
        let number = match &spot.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) if matches!(spot.origin, Origin::Variable(_)) => text.trim().parse().ok(),
            other => {
                let meant = if let Value::Text(text) = other { advice::number_meant(name, text) } else { None };
                let write = meant.map(|number| format!("; write {name} = {number}")).unwrap_or_default();
                let what = format!("must be a whole number{}, not {}{write}", advice::unit(name), other.kind());
                self.problem(&spot.origin, name, what);
                return default;
            }
        };
        if let Some(number) = number.filter(|n| range.contains(n)) {
            return number;
        }
        let what = format!("must be a whole number{} from {min} to {max}", advice::unit(name));
        self.problem(&spot.origin, name, what);
        default
    }

    /// Whether a key is still here.
    pub fn has(&self, name: &str) -> bool {
        self.tree.contains_key(name)
    }

    /// Where a key that is still here was written.
    pub fn origin(&self, name: &str) -> Origin {
        self.tree.get(name).map_or(Origin::Default, |spot| spot.origin.clone())
    }

    /// Records a mistake in one of this section's keys; one in a key that is not there stands at the section's header.
    pub fn problem(&mut self, origin: &Origin, name: &str, what: impl Into<String>) {
        let key = self.key(name);
        let origin = if *origin == Origin::Default { &self.header } else { origin };
        self.notes.problems.push(Problem { origin: origin.clone(), key, what: what.into() });
    }

    /// Ends the section: every key nobody asked for is a mistake.
    pub fn finish(mut self) {
        for (name, spot) in std::mem::take(&mut self.tree) {
            let key = self.key(&name);
            self.notes.unknown.push(Unknown { origin: spot.origin, key, known: self.asked.clone() });
        }
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        let spot = self.tree.remove(name)?;
        match spot.value {
            Value::Text(text) => Some(text),
            Value::Integer(number) => {
                let what = format!("must be a string, not a number; write {name} = \"{number}\"");
                self.problem(&spot.origin, name, what);
                None
            }
            other => self.wrong(&spot.origin, name, "a string", &other),
        }
    }

    fn asks(&mut self, name: &str, takes: Takes) {
        let path = self.key(name);
        self.notes.asked.push(Asked { path, takes });
        self.asked.push(name.to_owned());
    }

    fn key(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    fn wrong<T>(&mut self, origin: &Origin, name: &str, wanted: &str, found: &Value) -> Option<T> {
        self.problem(origin, name, format!("must be {wanted}, not {}", found.kind()));
        None
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",

            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Other(kind) => kind,
        }
    }
}

fn tree(table: &DeTable<'_>, line_of: &impl Fn(usize) -> usize) -> Tree {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), spot(value, key.span().start, line_of))).collect()
}

/// `start` is where the key begins: a section's own span covers only its header.
fn spot(value: &Spanned<DeValue<'_>>, start: usize, line_of: &impl Fn(usize) -> usize) -> Spot {
    let origin = Origin::Line(line_of(start));
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Boolean(_) => Value::Other("true or false"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| spot(item, item.span().start, line_of)).collect()),
        DeValue::Table(inner) => Value::Table(tree(inner, line_of)),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Spot { origin, value }
}

fn descend<'t>(mut tree: &'t mut Tree, sections: &[String], origin: &Origin) -> Option<&'t mut Tree> {
    for name in sections {
        let spot = tree
            .entry(name.clone())
            .or_insert_with(|| Spot { origin: origin.clone(), value: Value::Table(Tree::new()) });
        let Value::Table(inner) = &mut spot.value else { return None };
        tree = inner;
    }
    Some(tree)
}

const PREFIX: &str = "HOOKSWITCH_";
