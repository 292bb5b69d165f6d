//! The fuzz targets over their seeds and over some thousand mutations of them, the same ones each time, so that a target can't
//! rot. `make fuzz` goes on from there with coverage to guide it.

mod mutate;
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use mutate::Mutator;
use targets::{ALL, Target};

/// Runs one target; a panic says which input made it.
fn run(target: Target, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    assert!(outcome.is_ok(), "{} fails on {}", target.name, input.escape_ascii());
}

fn seeds_and_mutations(name: &str) {
    let target = ALL.into_iter().find(|target| target.name == name).expect("it is a target");
    let seeds = (target.seeds)();
    run(target, b"");
    for seed in &seeds {
        run(target, seed);
    }
    let mut mutator = Mutator::default();
    for _ in 0..MUTATIONS {
        run(target, &mutator.mutated(&seeds));
    }
}

#[test]
fn authorization_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("authorization");
}

#[test]
fn capture_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("capture");
}

#[test]
fn cloud_event_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("cloud_event");
}

#[test]
fn dialog_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("dialog");
}

#[test]
fn digest_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("digest");
}

#[test]
fn event_socket_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("event_socket");
}

#[test]
fn framing_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("framing");
}

#[test]
fn hep_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("hep");
}

#[test]
fn notification_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("notification");
}

#[test]
fn manager_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("manager");
}

#[test]
fn registrar_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("registrar");
}

#[test]
fn scan_stands_its_seeds_and_their_mutations() {
    seeds_and_mutations("scan");
}

#[test]
fn every_target_has_its_program_and_a_test_here() {
    let names: BTreeSet<String> = ALL.iter().map(|target| target.name.to_owned()).collect();
    let programs = fs::read_dir("tests/fuzz/fuzz_targets").expect("the programs are there");
    let programs = programs.map(|entry| entry.expect("an entry").path());
    let programs = programs.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(names, programs);
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").expect("the crate of the programs");
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in its Cargo.toml");
        let calls = include_str!("main.rs").matches(&format!("seeds_and_mutations(\"{name}\")")).count();
        assert_eq!(calls, 1, "{name} has no test of its own");
    }
}

/// `make fuzz` compiles them as a crate of its own, which nothing else here does.
#[test]
fn the_crate_of_the_programs_has_all_that_the_targets_stand_on() {
    let targets = fs::read_dir("tests/fuzz/targets").expect("the targets are there");
    let mut sources: Vec<PathBuf> = targets.map(|entry| entry.expect("an entry").path()).collect();
    // What `targets/mod.rs` takes from other tests.
    sources.extend(["tests/support/packets.rs", "tests/support/hep.rs", "tests/calls/world.rs"].map(PathBuf::from));
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").expect("the crate of the programs");
    let readme = fs::read_to_string("tests/fuzz/README.md").expect("what is said of them");
    for source in sources {
        let text = fs::read_to_string(&source).expect("it can be read");
        let used = text.lines().filter_map(|line| line.strip_prefix("use ")?.split("::").next());
        for name in used.filter(|name| !["std", "super"].contains(name)) {
            assert!(manifest.contains(&format!("\n{name} = ")), "{name}, which {} uses", source.display());
        }
    }
    for target in ALL {
        assert!(readme.contains(&format!("| `{}` |", target.name)), "{} is not in the table", target.name);
    }
}

/// `make fuzz` asks for them to begin from.
#[test]
fn the_seeds_of_each_target_can_be_written_as_files() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = std::env::var_os("FUZZ_CORPUS").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    for target in ALL {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).expect("a folder can be made");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a file can be written");
        }
        assert_eq!(fs::read(folder.join("seed-000")).expect("the first one"), (target.seeds)()[0]);
    }
}

const MUTATIONS: usize = 5_000;
