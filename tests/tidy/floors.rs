//! The map in `src/lib.rs`, and who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, is_word, line_of, words};

/// Module to floor.
pub type Map = BTreeMap<String, u32>;

/// Reads the map: in the first `text` block of the crate's docs, a floor begins with its number,
/// each line names one module, and what follows the name is for people.
///
/// # Errors
/// Says which line cannot be read.
pub fn parse_map(lib: &str) -> Result<Map, String> {
    let mut map = Map::new();
    let mut floor = None;
    let block = lib
        .lines()
        .map(|line| line.strip_prefix("//!").unwrap_or(line).trim())
        .skip_while(|line| *line != "```text")
        .skip(1)
        .take_while(|line| *line != "```");
    for line in block {
        let mut words = line.split_whitespace().peekable();
        if let Some(number) = words.peek().and_then(|word| word.parse().ok()) {
            floor = Some(number);
            words.next();
        }
        let (Some(floor), Some(name)) = (floor, words.next()) else {
            return Err(format!(
                "the map in lib.rs has no floor or no name in {line:?}"
            ));
        };
        let name = name.trim_end_matches(".rs");
        if map.insert(name.to_owned(), floor).is_some() {
            return Err(format!("the map in lib.rs names {name} twice"));
        }
    }
    if map.is_empty() {
        return Err("lib.rs has no map".to_owned());
    }
    Ok(map)
}

/// The map, the entries of `src/` and the `mod` lines of `lib.rs` name the same modules.
pub fn check_map(map: &Map, entries: &[String], lib: &Source) -> Vec<String> {
    let mapped: BTreeSet<&str> = map.keys().map(String::as_str).collect();
    let present: BTreeSet<&str> = entries
        .iter()
        .map(|entry| entry.trim_end_matches(".rs"))
        .filter(|entry| *entry != "lib")
        .collect();
    let declared: BTreeSet<&str> = words(&lib.code, "mod")
        .into_iter()
        .filter_map(|at| lib.code[at + 3..].split(';').next())
        .map(str::trim)
        .collect();
    let mut wrong = Vec::new();
    for name in mapped.difference(&present) {
        wrong.push(format!(
            "the map in lib.rs names {name}, which is not in src/"
        ));
    }
    for name in present.difference(&mapped) {
        wrong.push(format!("src/{name} is missing in the map in lib.rs"));
    }
    for name in present.difference(&declared) {
        // The program's root is no module of the library.
        if *name != "main" {
            wrong.push(format!("lib.rs does not declare {name}"));
        }
    }
    wrong
}

/// Imports point to lower floors, or stay within their module; `main` may import `commands`.
pub fn check_imports(map: &Map, source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some(&floor) = map.get(module) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for (at, target) in imports(source) {
        let Some(&target_floor) = map.get(&target) else {
            continue;
        };
        let allowed = target == module
            || target_floor < floor
            || (module == "main" && target == "commands")
            || (module == "commands" && target == "main");
        if !allowed {
            let line = line_of(&source.code, at);
            wrong.push(format!(
                "{}:{line}: {module} (floor {floor}) imports {target} (floor {target_floor})",
                source.path
            ));
        }
    }
    wrong
}

/// The module of `src/` that a file belongs to; `lib.rs` belongs to none.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (name != "lib").then_some(name)
}

/// Modules of the crate named by `crate::`, by `ringpost::`, or by climbing to the root with
/// `super::`, and where.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for root in ["crate", "ringpost"] {
        for at in words(code, root) {
            if let Some(path) = code[at + root.len()..].trim_start().strip_prefix("::") {
                found.extend(heads(path).into_iter().map(|head| (at, head)));
            }
        }
    }
    // `src/a/mod.rs` is one step below the root, `src/a/b.rs` two.
    let steps = source.path.trim_end_matches("/mod.rs").split('/').count() - 1;
    for at in words(code, "super") {
        if code[..at].trim_end().ends_with("super::") {
            continue;
        }
        let mut path = &code[at..];
        let mut climbed = 0;
        while let Some(rest) = path.strip_prefix("super::") {
            path = rest;
            climbed += 1;
        }
        if climbed >= steps {
            found.extend(heads(path).into_iter().map(|head| (at, head)));
        }
    }
    found
}

/// First names of a path: `a::b` gives a, `{a::{b, c}, d}` gives a and d.
fn heads(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|&c| is_word(c))
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(name(&group[start..index]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(name(&group[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "//! About.\n//!\n//! ```text\n//! 2  high.rs   what it is\n\
                       //!    side   1 thing\n//! 1  low    4 things\n//! ```\n\
                       pub mod low;\npub mod side;\n";

    fn map() -> Map {
        parse_map(LIB).unwrap()
    }

    #[test]
    fn reads_the_map() {
        let expected = [("high", 2), ("side", 2), ("low", 1)];
        assert_eq!(
            map(),
            expected
                .map(|(name, floor)| (name.to_owned(), floor))
                .into()
        );
        assert!(parse_map("//! nothing").is_err());
        assert!(parse_map("//! ```text\n//!  a b\n//! ```").is_err());
        assert!(parse_map("//! ```text\n//! 1 a\n//! 2 a\n//! ```").is_err());
    }

    #[test]
    fn compares_the_map_with_the_tree() {
        let lib = Source::new("src/lib.rs", &LIB.replace("low;", "low;\npub mod high;"));
        let check = |entries: &[&str]| {
            let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
            check_map(&map(), &entries, &lib)
        };
        assert!(check(&["lib.rs", "low", "high.rs", "side"]).is_empty());
        assert_eq!(check(&["lib.rs", "low", "high.rs"]).len(), 1);
        // Neither mapped nor declared.
        assert_eq!(
            check(&["lib.rs", "low", "high.rs", "side", "more.rs"]).len(),
            2
        );
    }

    #[test]
    fn imports_point_down() {
        let wrong = |path: &str, text: &str| check_imports(&map(), &Source::new(path, text)).len();
        for good in [
            "use crate::low::X;",
            "use crate::high::X;",
            "// use crate::side::X;",
            "let s = \"crate::side::X\";",
            "use super::side::X;",
            "use crate::{low::{a, b}, high};",
            "use mycrate::side;",
        ] {
            assert_eq!(wrong("src/high/part.rs", good), 0, "{good}");
        }
        for bad in [
            "use crate::side::X;",
            "fn a() { crate::side::b() }",
            "use crate::{low::{a, b}, side};",
            "use crate::{\n    low,\n    side::{a, b},\n};",
            "use super::super::side::X;",
            "use ringpost::side::X;",
            "pub(crate) use crate::side;",
        ] {
            assert_eq!(wrong("src/high/part.rs", bad), 1, "{bad}");
        }
        assert_eq!(wrong("src/low.rs", "use crate::high;"), 1);
        assert_eq!(wrong("src/low.rs", "use super::high;"), 1);
        assert_eq!(wrong("src/low/mod.rs", "use super::high;"), 1);
        assert_eq!(wrong("src/low/mod.rs", "use crate::{high, side};"), 2);
        assert_eq!(wrong("src/lib.rs", "use crate::high;"), 0);
    }

    #[test]
    fn main_and_commands_may_meet() {
        let map = parse_map("//! ```text\n//! 6 main.rs x\n//! commands x\n//! ```").unwrap();
        let wrong = |path, text| check_imports(&map, &Source::new(path, text)).len();
        assert_eq!(wrong("src/main.rs", "ringpost::commands::run()"), 0);
        assert_eq!(wrong("src/commands/mod.rs", "use crate::commands::x;"), 0);
    }
}
