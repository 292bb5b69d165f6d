//! No answer without a scenario: the statuses that the code gives are looked for in the scenarios.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_status_that_is_ever_answered_has_a_scenario_and_a_row_in_the_standards() {
    let given = statuses();
    assert!(given.len() > 15 && given.contains("200"), "the code is not where this test looks: {given:?}");
    let run = fs::read_to_string(root().join("tests/sipp/answers.rs")).unwrap();
    let mut asked = BTreeSet::new();
    for file in files(&root().join("tests/sipp"), "xml") {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if run.contains(&format!("\"{name}\"")) {
            asked.extend(numbers_after(&fs::read_to_string(&file).unwrap(), "<recv response=\""));
        }
    }
    assert_eq!(
        given.difference(&asked).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "no scenario of SIPp asks for these"
    );
    let page = fs::read_to_string(root().join("docs/standards.md")).unwrap();
    let shown = numbers_after(&page, "\n| ");
    assert_eq!(given, shown, "the table of answers in docs/standards.md");
}

/// Of all answers to requests: what the code refuses with, and what it answers else.
fn statuses() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["src/sip", "src/ingest/sip"] {
        for file in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for start in ["Refusal::new(", "reply.status("] {
                found.extend(numbers_after(code, start));
            }
        }
    }
    found
}

/// The three digits after each `start`.
fn numbers_after(text: &str, start: &str) -> BTreeSet<String> {
    let rest = text.match_indices(start).filter_map(|(at, _)| text.get(at + start.len()..at + start.len() + 4));
    let numbers =
        rest.filter(|rest| rest[..3].bytes().all(|b| b.is_ascii_digit()) && !rest.ends_with(char::is_numeric));
    numbers.map(|rest| rest[..3].to_owned()).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
