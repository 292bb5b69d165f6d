//! docs/replay.md lists every field of every line that `--json` prints, with the words of the code.

use hookswitch::ingest::capture::Skipped;
use hookswitch::ingest::replay::{
    CallRecord, ContactRecord, DeviceRecord, Links, Names, QueueEvent, Registration, Totals,
};
use serde_json::Value;
use utoipa::PartialSchema;

/// A table of the fields of a schema.
fn table<T: PartialSchema>() -> String {
    let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let mut rows = String::from("| field | what it is |\n| --- | --- |\n");
    let properties = schema["properties"].as_object().expect("it is an object");
    for (name, property) in properties {
        let words = described(property).unwrap_or_else(|| panic!("{name} has no words: {property}"));
        rows += &format!("| `{name}` | {} |\n", words.replace('\n', " "));
    }
    rows
}

fn described(property: &Value) -> Option<String> {
    property["description"].as_str().map(str::to_owned)
}

#[test]
fn every_field_is_on_the_page_in_the_words_of_the_code() {
    let page = std::fs::read_to_string("docs/replay.md").expect("the page is there");
    let mut missing = Vec::new();
    for (name, table) in [
        ("names", table::<Names>()),
        ("registration", table::<Registration>()),
        ("queue", table::<QueueEvent>()),
        ("call", table::<CallRecord>()),
        ("device", table::<DeviceRecord>()),
        ("contact", table::<ContactRecord>()),
        ("totals", table::<Totals>()),
        ("skipped", table::<Skipped>()),
    ] {
        if !page.contains(&table) {
            missing.push(format!("{name}:\n{table}"));
        }
    }
    assert!(missing.is_empty(), "docs/replay.md lacks\n{}", missing.join("\n"));
}

#[test]
fn the_links_file_on_the_page_is_good() {
    let page = std::fs::read_to_string("docs/replay.md").expect("the page is there");
    let shown = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it shows one");
    let links = Links::parse(shown).expect("it is good");
    assert!(!links.users.is_empty() && !links.queues.is_empty() && !links.pbx.queue_rules.is_empty());
}
