//! Holds the house together: the floors and the map of `src/lib.rs`, the shape of files, and the
//! rules that reviewers would otherwise have to look for. The checks themselves are in `tidy/`,
//! each with tests that show it bites.
//!
//! When a check is wrong about a case, argue the exception in the lists below.

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use source::Source;

/// What may stand at the top, beside names that begin with a dot.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-*",
    "README.md",
    "clippy.toml",
    "rustfmt.toml",
    "deny.toml",
    "src",
    "bench",
    "loadgen",
    "tuning",
    "tests",
    "flamegraphs",
];

/// Files longer than [`house::LINES_MAX`], and why that reads better than two.
const LONG_FILES: &[(&str, &str)] = &[];

/// Code that only tests use, but that is compiled into the library because they stand outside it.
const TEST_SUPPORT: &[&str] = &["src/store/sim/"];

/// Where `unsafe` may be: the ring, the mapping of index files, and the ring code of the tools.
const UNSAFE: &[&str] = &["src/ring/", "src/store/mapped.rs", "loadgen/", "bench/"];

/// Who may print to standard output: what answers a command, and the welcome of `serve`, which is
/// due when the last shard has opened its doors.
const PRINTS: &[&str] = &["src/commands/", "src/main.rs", "src/shard/start.rs"];

/// Who may name the executor, so that it can be replaced.
const EXECUTOR: &[&str] = &["src/ring/", "src/shard/", "src/commands/", "src/main.rs"];

/// The documents' requirements: letter, highest number.
const REQUIREMENTS: &[(char, u32)] = &[
    ('C', 14),
    ('I', 7),
    ('M', 1),
    ('N', 40),
    ('S', 5),
    ('T', 12),
];

/// Folders of the machines this is written on; put together here so that this file may stay.
const PRIVATE: &[&str] = &[concat!("/wo", "rk/")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that belongs to the repository, from its top: what git tracks or would track, or
/// where there is no git, what lies there.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().map(str::to_owned).collect()
        }
        _ => {
            let mut files = Vec::new();
            walk(root(), &mut files);
            files
        }
    };
    // What git still lists may be deleted already.
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files
}

fn walk(dir: &Path, files: &mut Vec<String>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        match name.as_str() {
            "target" | "ringpost-data" | ".git" => {}
            _ if path.is_dir() => walk(&path, files),
            _ => files.push(name),
        }
    }
}

fn read(file: &str) -> String {
    let text = fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8_lossy(&text).into_owned()
}

/// All Rust files, tests marked.
fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let files = files().into_iter().filter(|file| file.ends_with(".rs"));
    let mut sources: Vec<Source> = files.map(|file| Source::new(&file, &read(&file))).collect();
    for source in &mut sources {
        source.is_test |= TEST_SUPPORT
            .iter()
            .any(|prefix| source.path.starts_with(prefix));
    }
    source::mark_tests(&mut sources);
    assert!(
        sources.len() > 20,
        "found only {} Rust files",
        sources.len()
    );
    sources
}

/// Everything written by hand, but for the examples of the checks, which are wrong on purpose.
fn texts() -> impl Iterator<Item = (String, String)> {
    let ends = [".rs", ".md", ".toml", ".sh", ".py", ".txt", ".yml", "/run"];
    let written = move |file: &String| ends.iter().any(|end| file.ends_with(end));
    let files = files().into_iter().filter(written);
    files
        .filter(|file| !file.starts_with("tests/tidy/"))
        .map(|file| (file.clone(), read(&file)))
}

/// Fails with all that is wrong, one a line.
fn hold(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn check(keep: impl Fn(&Source) -> bool, check: impl Fn(&Source) -> Vec<String>) {
    let kept: Vec<&Source> = sources().iter().filter(|source| keep(source)).collect();
    assert!(!kept.is_empty(), "nothing to check");
    hold(kept.into_iter().flat_map(check).collect());
}

fn in_server(source: &Source) -> bool {
    source.path.starts_with("src/")
}

fn in_library(source: &Source) -> bool {
    in_server(source) && !PRINTS.iter().any(|prefix| source.path.starts_with(prefix))
}

fn map() -> floors::Map {
    floors::parse_map(&read("src/lib.rs")).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn the_map_is_the_tree() {
    let files = files();
    let mut entries: Vec<String> = files
        .iter()
        .filter_map(|file| file.strip_prefix("src/")?.split('/').next())
        .map(str::to_owned)
        .collect();
    entries.dedup();
    let lib = Source::new("src/lib.rs", &read("src/lib.rs"));
    hold(floors::check_map(&map(), &entries, &lib));
}

#[test]
fn imports_point_down() {
    let map = map();
    check(in_server, |source| floors::check_imports(&map, source));
}

#[test]
fn the_top_holds_what_was_agreed() {
    let mut entries: Vec<String> = files()
        .iter()
        .filter_map(|file| file.split('/').next())
        .map(str::to_owned)
        .collect();
    entries.dedup();
    hold(house::check_top(&entries, TOP));
}

#[test]
fn files_have_a_readable_size() {
    let (wrong, notable) = house::check_sizes(sources(), LONG_FILES);
    for line in notable {
        println!("{line}");
    }
    hold(wrong);
}

#[test]
fn files_say_what_they_are() {
    // Unit tests belong to the file above them.
    check(
        |source| !source.path.ends_with("/tests.rs"),
        house::check_header,
    );
}

#[test]
fn shipped_code_gives_reasons_to_panic() {
    // The folder of a file's crate: `src`, `loadgen`, `bench`.
    let top = |source: &Source| source.path.split('/').next().map(str::to_owned);
    let own_expect: Vec<_> = sources()
        .iter()
        .filter(|source| source.code.contains("fn expect("))
        .map(top)
        .collect();
    check(
        |_| true,
        |source| house::check_panics(source, own_expect.contains(&top(source))),
    );
}

#[test]
fn library_code_does_not_print() {
    check(in_library, house::check_prints);
}

#[test]
fn unsafe_is_rare_and_explained() {
    check(
        |_| true,
        |source| {
            // A test of code that may use it may use it too.
            let allowed = if source.path.starts_with("tests/") {
                &[""]
            } else {
                UNSAFE
            };
            house::check_unsafe(source, allowed)
        },
    );
}

#[test]
fn the_executor_can_be_replaced() {
    check(in_server, |source| {
        house::check_named(source, "glommio", EXECUTOR)
    });
}

#[test]
fn no_tokio_in_the_server() {
    hold(house::check_lock(&read("Cargo.lock"), "ringpost", "tokio"));
}

#[test]
fn cited_requirements_exist() {
    let cited = |file: &str, text: &str| house::check_citations(file, text, REQUIREMENTS);
    hold(
        texts()
            .flat_map(|(file, text)| cited(&file, &text))
            .collect(),
    );
}

#[test]
fn no_machine_is_named() {
    let named = |file: &str, text: &str| house::check_private(file, text, PRIVATE);
    hold(
        texts()
            .flat_map(|(file, text)| named(&file, &text))
            .collect(),
    );
}

#[test]
fn the_readme_mentions_every_flag() {
    // The checks of flags begin with the first README.
    if !root().join("README.md").exists() {
        println!("there is no README.md yet");
        return;
    }
    let table = Source::new("src/config/table.rs", &read("src/config/table.rs"));
    hold(house::check_flags(&table, &read("README.md")));
}
