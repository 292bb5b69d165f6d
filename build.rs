//! Collects what the values of documented enums mean, from their doc comments, for the API's description: its derive macro
//! takes those of the enum itself only; and what the keys of the configuration mean, from those of the fields they are read
//! into, for its sample and its page. Also builds again when a migration changes: they are compiled in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use syn::{Attribute, Expr, ExprLit, Fields, Item, ItemEnum, ItemStruct, Lit, Meta};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=migrations");
    let mut table = String::from("&[\n");
    for folder in DOCUMENTED {
        println!("cargo:rerun-if-changed={folder}");
        for file in sources(Path::new(folder))? {
            let text = fs::read_to_string(&file)?;
            // A file that is no Rust is the compiler's to refuse.
            let Some(file) = text.contains("ToSchema").then(|| syn::parse_file(&text).ok()).flatten() else { continue };
            let enums = file.items.iter().filter_map(|item| match item {
                Item::Enum(item) if is_words(item) => Some(item),
                _ => None,
            });
            for item in enums {
                let meanings: Vec<String> =
                    item.variants.iter().map(|variant| first_paragraph(&variant.attrs)).collect();
                // Writing to a string can't fail.
                let _ = writeln!(table, "    (\"{}\", &{meanings:?}),", item.ident);
            }
        }
    }
    table.push_str("]\n");
    let folder = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(folder.join("meanings.rs"), table)?;
    fs::write(folder.join("keys.rs"), keys()?)
}

/// What the keys of the configuration mean: rows of (section, key, meaning), the key empty for that of the section.
fn keys() -> io::Result<String> {
    println!("cargo:rerun-if-changed={CONFIGURATION}");
    let mut table = String::from("&[\n");
    for file in sources(Path::new(CONFIGURATION))? {
        let Ok(file) = syn::parse_file(&fs::read_to_string(&file)?) else { continue };
        for item in file.items.iter().filter_map(|item| if let Item::Struct(item) = item { Some(item) } else { None }) {
            for (section, key, meaning) in keys_of(item) {
                // Writing to a string can't fail.
                let _ = writeln!(table, "    ({section:?}, {key:?}, {meaning:?}),");
            }
        }
    }
    table.push_str("]\n");
    Ok(table)
}

/// Those a struct documents: its own comment names the section, that of a field begins a line with each key.
fn keys_of(item: &ItemStruct) -> Vec<(String, String, String)> {
    let lines = doc_lines(&item.attrs);
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let section = match first.split_once("`[").and_then(|(_, rest)| rest.split_once("]`")) {
        Some((section, _)) => section.to_owned(),
        None if item.ident == "Config" => String::new(),
        None => return Vec::new(),
    };
    let mut keys = Vec::new();
    if let Some(rest) = first.strip_prefix(&format!("`[{section}]`: ")) {
        let rest = std::iter::once(rest).chain(lines.iter().skip(1).map(String::as_str)).collect::<Vec<_>>().join(" ");
        keys.push((section.clone(), String::new(), rest));
    }
    for field in &item.fields {
        let before = keys.len();
        for line in doc_lines(&field.attrs) {
            if let Some((key, text)) = begins_key(&line) {
                keys.push((section.clone(), key, text));
            } else if let Some(last) = keys.get_mut(before..).and_then(<[_]>::last_mut) {
                last.2.push(' ');
                last.2.push_str(&line);
            }
        }
    }
    keys
}

/// `` `key`: meaning `` or `` `key` (for whom): meaning ``, which becomes "For whom: meaning".
fn begins_key(line: &str) -> Option<(String, String)> {
    let (key, rest) = line.strip_prefix('`')?.split_once('`')?;
    if !key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return None;
    }
    let text = if let Some(text) = rest.strip_prefix(": ") {
        text.to_owned()
    } else {
        let (whom, text) = rest.strip_prefix(" (")?.split_once("): ")?;
        format!("{whom}: {text}")
    };
    Some((key.to_owned(), text))
}

fn doc_lines(attributes: &[Attribute]) -> Vec<String> {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect()
}

/// Every Rust file below a folder, in order.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// An enum whose values are plain words of the API.
fn is_words(item: &ItemEnum) -> bool {
    let described = item.attrs.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("derive") => list.tokens.to_string().contains("ToSchema"),
        _ => false,
    });
    described && item.variants.iter().all(|variant| matches!(variant.fields, Fields::Unit))
}

/// The first paragraph of a doc comment as one line.
fn first_paragraph(attributes: &[Attribute]) -> String {
    doc_lines(attributes).into_iter().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Where the API's nouns are.
const DOCUMENTED: [&str; 5] = ["src/model", "src/http", "src/registry", "src/ingest", "src/switchboard"];
/// Where the configuration is read.
const CONFIGURATION: &str = "src/config";
