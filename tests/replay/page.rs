//! docs/replay.md lists every field of every line that `--json` prints, with the words of the code.

use hookswitch::ingest::capture::Skipped;
use hookswitch::ingest::replay::{
    CallRecord, ContactRecord, DeviceRecord, Links, Names, QueueEvent, Registration, Totals,
};
use serde_json::Value;
use utoipa::PartialSchema;

/// A row of the page for each field of a schema.
fn rows<T: PartialSchema>() -> Vec<String> {
    let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let properties = schema["properties"].as_object().expect("it is an object");
    let row = |(name, property): (&String, &Value)| {
        let words = described(property).unwrap_or_else(|| panic!("{name} has no words: {property}"));
        format!("| `{name}` | {} |", words.replace('\n', " "))
    };
    properties.iter().map(row).collect()
}

/// A field that may be null has its words with what it else is.
fn described(property: &Value) -> Option<String> {
    let own = property["description"].as_str();
    let within = || property["oneOf"].as_array()?.iter().find_map(|one| one["description"].as_str());
    own.or_else(within).map(str::to_owned)
}

#[test]
fn every_field_is_on_the_page_in_the_words_of_the_code() {
    let page = std::fs::read_to_string("docs/replay.md").expect("the page is there");
    let fields = [
        ("names", rows::<Names>()),
        ("registration", rows::<Registration>()),
        ("queue", rows::<QueueEvent>()),
        ("call", rows::<CallRecord>()),
        ("device", rows::<DeviceRecord>()),
        ("contact", rows::<ContactRecord>()),
        ("totals", rows::<Totals>()),
        ("skipped", rows::<Skipped>()),
    ];
    let missing: Vec<String> = fields
        .into_iter()
        .flat_map(|(name, rows)| rows.into_iter().map(move |row| format!("{name}: {row}")))
        .filter(|row| !page.contains(row.split_once(": ").map_or("", |(_, row)| row)))
        .collect();
    assert!(missing.is_empty(), "docs/replay.md lacks\n{}", missing.join("\n"));
}

#[test]
fn the_links_file_on_the_page_is_good() {
    let page = std::fs::read_to_string("docs/replay.md").expect("the page is there");
    let shown = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it shows one");
    let links = Links::parse(shown).expect("it is good");
    assert!(!links.users.is_empty() && !links.queues.is_empty() && !links.pbx.queue_rules.is_empty());
}
