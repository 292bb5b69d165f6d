//! The map of the code, kept: imports go one way, the core knows neither runtime nor database nor clock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file: the top-level module it belongs to, and its code without comments, line by line.
struct Source {
    path: PathBuf,
    module: String,
    /// How many modules lie between it and the root of the crate.
    depth: usize,
    lines: Vec<String>,
}

#[test]
fn every_top_level_module_has_its_place() {
    let found: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let placed: BTreeSet<String> = PROGRAM.iter().chain(&LAYERS).chain(&ASIDE).map(|&name| name.to_owned()).collect();
    assert_eq!(found, placed, "a module is new or gone: give it its place in this test, and in the map of the code");
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        let allowed = allowed(&source.module);
        // Only the program sees the library from outside; elsewhere that word is a text.
        let roots: &[&str] =
            if PROGRAM.contains(&&*source.module) { &["crate::", "hookswitch::"] } else { &["crate::"] };
        for line in &source.lines {
            let named = roots.iter().flat_map(|root| after(line, root));
            let far = named.filter(|name| *name != source.module && !allowed.contains(name));
            wrong.extend(far.map(|name| format!("{}: {name:?} in {line}", source.path.display())));
            // Only an inner `mod` is indented, and one deeper.
            let depth = source.depth + usize::from(line.starts_with(' '));
            if line.matches("super::").count() >= depth && line.contains(&"super::".repeat(depth)) {
                wrong.push(format!("{}: climbs out of its module in {line}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_names_no_runtime_no_database_no_metrics_and_reads_no_clock() {
    let mut wrong = Vec::new();
    for source in sources().into_iter().filter(|source| CORE.contains(&source.module.as_str())) {
        for line in &source.lines {
            let bad = words(line).find(|word| {
                CLOCKS.contains(word) || *word == "metrics" || OUTSIDE.iter().any(|name| word.starts_with(name))
            });
            wrong.extend(bad.map(|word| format!("{}: {word} in {line}", source.path.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rsip_is_named_in_one_file() {
    let named: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|source| source.lines.iter().any(|line| words(line).any(|word| word == "rsip")))
        .map(|source| source.path)
        .collect();
    assert_eq!(named, [Path::new("sip/client.rs")]);
}

/// What a module may import besides itself: the layers below it and what stands beside them. The core has only layers.
fn allowed(module: &str) -> Vec<&'static str> {
    if PROGRAM.contains(&module) {
        return LAYERS.iter().chain(&ASIDE).chain(&["cli"]).copied().collect();
    }
    if ASIDE.contains(&module) {
        return ASIDE.iter().chain(&["model"]).copied().collect();
    }
    let at = LAYERS.iter().position(|layer| *layer == module).expect("it has its place");
    let below = LAYERS[at + 1..].iter();
    if CORE.contains(&module) { below.copied().collect() } else { below.chain(&ASIDE).copied().collect() }
}

/// The word that follows each `start`; `{` when a list does, which hides what it names.
fn after<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let whole_word = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
    line.match_indices(start).filter(move |(at, _)| whole_word(*at)).map(move |(at, _)| {
        let rest = &line[at + start.len()..];
        words(rest).next().filter(|word| rest.starts_with(word)).unwrap_or(&rest[..rest.len().min(1)])
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    assert!(sources.len() > 50, "the sources are not where this test looks");
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.extend(read(root, &path));
        }
    }
}

/// The root of the crate has no module and is left out.
fn read(root: &Path, path: &Path) -> Option<Source> {
    let text = fs::read_to_string(path).expect("UTF-8");
    let path = path.strip_prefix(root).expect("below the root").to_path_buf();
    let mut modules: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    modules.retain(|module| module != "mod" && module != "lib");
    let module = modules.first()?.clone();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect();
    Some(Source { path, module, depth: modules.len(), lines })
}

/// The command line: it may use everything, and nothing uses it.
const PROGRAM: [&str; 2] = ["main", "cli"];
/// From the top down.
const LAYERS: [&str; 8] = ["lifecycle", "http", "ingest", "registry", "store", "switchboard", "sip", "model"];
/// Beside the layers: they know the model and one another.
const ASIDE: [&str; 10] =
    ["accept", "activation", "census", "clock", "config", "data_dir", "metrics", "sealing", "supervision", "telemetry"];
const CORE: [&str; 3] = ["switchboard", "sip", "model"];
/// Crates by the start of their names.
const OUTSIDE: [&str; 4] = ["tokio", "sqlx", "axum", "dashmap"];
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "Clock", "Zoned"];
