//! Collects what the values of documented enums mean, from their doc comments, for the API's description: its derive macro
//! takes those of the enum itself only. Also builds again when a migration changes: they are compiled in.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use syn::{Attribute, Expr, ExprLit, Fields, Item, ItemEnum, Lit, Meta};

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
    fs::write(folder.join("meanings.rs"), table)
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
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Where the API's nouns are.
const DOCUMENTED: [&str; 5] = ["src/model", "src/http", "src/registry", "src/ingest", "src/switchboard"];
