//! The house rules that can be read off the text: each check takes text and returns what is wrong,
//! so that it can be shown to bite.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, line_of, words};

/// Lines of a file at which to look for the seam, and above which there must be one.
pub const LINES_NOTABLE: usize = 600;
pub const LINES_MAX: usize = 700;
/// Words of an `expect` or `panic!` text below which it cannot be a reason.
const REASON_WORDS_MIN: usize = 3;

/// Files that may be longer, each with a reason. Entries that are not needed are wrong as well.
///
/// Returns what is wrong, and lines about files that are worth a look.
pub fn check_sizes(sources: &[Source], exceptions: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let mut wrong = Vec::new();
    let mut notable = Vec::new();
    let mut unneeded: BTreeSet<&str> = exceptions.iter().map(|(path, _)| *path).collect();
    for source in sources.iter().filter(|source| !source.is_test) {
        let (path, lines) = (&source.path, source.text.lines().count());
        if lines > LINES_MAX {
            if !unneeded.remove(path.as_str()) {
                wrong.push(format!(
                    "{path}: {lines} lines, more than {LINES_MAX}: find the seam"
                ));
            }
        } else if lines > LINES_NOTABLE {
            notable.push(format!("{path}: {lines} lines: is there a seam?"));
        }
    }
    for path in unneeded {
        wrong.push(format!("{path} needs no exception for its size any more"));
    }
    (wrong, notable)
}

/// Every file opens by saying what it is.
pub fn check_header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") || source.text.starts_with("#!") {
        return Vec::new();
    }
    vec![format!("{}: no //! header", source.path)]
}

/// Shipped code neither gives up without a reason nor holds what is left of building it.
/// `own_expect`: the crate has a method of that name, which takes other things than texts.
pub fn check_panics(source: &Source, own_expect: bool) -> Vec<String> {
    let code = source.shipped_code();
    let mut wrong = Vec::new();
    let mut say = |at: usize, text: &str| {
        wrong.push(format!("{}:{}: {text}", source.path, source.line(at)));
    };
    for at in words(&code, "unwrap") {
        if code[at..].starts_with("unwrap()") {
            say(
                at,
                "unwrap: use `?`, or `expect` with the proof that it cannot fail",
            );
        }
    }
    for name in ["todo", "unimplemented", "dbg"] {
        for at in words(&code, name) {
            if code[at + name.len()..].starts_with('!') {
                say(at, &format!("{name}! is not for shipped code"));
            }
        }
    }
    for name in ["expect", "panic!", "unreachable!"] {
        for at in words(&code, name.trim_end_matches('!')) {
            let Some(argument) = code[at..]
                .strip_prefix(name)
                .and_then(|c| c.strip_prefix('('))
            else {
                continue;
            };
            // `fn expect(` of our own.
            if code[..at].trim_end().ends_with("fn") {
                continue;
            }
            let start = code.len() - argument.trim_start().len();
            let reason = literal_at(&source.text[start..]);
            let is_reason = match reason {
                Some(text) => text.split_whitespace().count() >= REASON_WORDS_MIN,
                None => own_expect && name == "expect",
            };
            if !is_reason {
                say(
                    at,
                    &format!("{name}: its text must say why it cannot happen"),
                );
            }
        }
    }
    for at in words(&code, "dead_code") {
        say(at, "dead code goes, it is not allowed");
    }
    wrong
}

/// Library code logs; only commands print.
pub fn check_prints(source: &Source) -> Vec<String> {
    let code = source.shipped_code();
    ["println", "print"]
        .into_iter()
        .flat_map(|name| words(&code, name).into_iter().map(move |at| (name, at)))
        .filter(|(name, at)| code[at + name.len()..].starts_with('!'))
        .map(|(name, at)| {
            format!(
                "{}:{}: {name}! in library code",
                source.path,
                source.line(at)
            )
        })
        .collect()
}

/// `unsafe` stands only where it is allowed, and says why it is sound.
pub fn check_unsafe(source: &Source, allowed: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    for at in words(&source.code, "unsafe") {
        let line = line_of(&source.code, at);
        if !allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
            wrong.push(format!(
                "{}:{line}: unsafe is not allowed here",
                source.path
            ));
            continue;
        }
        let what = source.code[at + "unsafe".len()..].trim_start();
        let mark = if what.starts_with("fn") || what.starts_with("trait") {
            "# Safety"
        } else if what.starts_with('{') || what.starts_with("impl") {
            "SAFETY:"
        } else {
            // An attribute, a foreign block or a pointer type.
            continue;
        };
        // The comment stands above the statement, which may have begun some lines before.
        let mut explained = comments[line - 1].contains(mark);
        for above in (0..line - 1).rev() {
            explained |= comments[above].contains(mark);
            let text = code[above].trim_end();
            if explained || lines[above].trim().is_empty() || text.ends_with([';', '}', '{']) {
                break;
            }
        }
        if !explained {
            wrong.push(format!("{}:{line}: unsafe without `{mark}`", source.path));
        }
    }
    wrong
}

/// A crate is named only in files that begin with one of these.
pub fn check_named(source: &Source, name: &str, allowed: &[&str]) -> Vec<String> {
    if allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
        return Vec::new();
    }
    words(&source.code, name)
        .into_iter()
        .map(|at| format!("{}:{}: names {name}", source.path, source.line(at)))
        .collect()
}

/// No package of this name is among what `root` is built from, by `Cargo.lock`.
pub fn check_lock(lock: &str, root: &str, banned: &str) -> Vec<String> {
    let mut dependencies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        let mut lines = package.lines();
        let Some(name) = lines.find_map(|line| line.strip_prefix("name = ").and_then(quoted))
        else {
            continue;
        };
        let needs = package
            .lines()
            .skip_while(|line| !line.starts_with("dependencies = ["))
            .skip(1)
            .take_while(|line| !line.starts_with(']'))
            .filter_map(quoted)
            // `name`, or `name version` where there are several.
            .filter_map(|need| need.split(' ').next().map(str::to_owned));
        dependencies.entry(name).or_default().extend(needs);
    }
    if !dependencies.contains_key(root) {
        return vec![format!("Cargo.lock does not know {root}")];
    }
    let mut seen = BTreeMap::from([(root.to_owned(), root.to_owned())]);
    let mut next = vec![root.to_owned()];
    while let Some(name) = next.pop() {
        let path = seen[&name].clone();
        for need in dependencies.get(&name).into_iter().flatten() {
            if !seen.contains_key(need) {
                seen.insert(need.clone(), format!("{path} -> {need}"));
                next.push(need.clone());
            }
        }
    }
    let path = seen.get(banned);
    path.map(|path| format!("{banned} is in {root}: {path}"))
        .into_iter()
        .collect()
}

/// Requirement ids are cited as `[N12]` or `[N15 N17]`; each must exist. `ids` has the letters with
/// their highest numbers.
pub fn check_citations(path: &str, text: &str, ids: &[(char, u32)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (open, _) in text.match_indices('[') {
        let Some(inside) = text[open + 1..].split([']', '\n']).next() else {
            continue;
        };
        if !text[open + 1 + inside.len()..].starts_with(']') {
            continue;
        }
        let citations: Option<Vec<(char, u32)>> = inside
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(|word| {
                let letter = word.chars().next().filter(char::is_ascii_uppercase)?;
                let known = ids.iter().any(|(known, _)| *known == letter);
                let number = word[1..].parse().ok().filter(|_| known)?;
                Some((letter, number))
            })
            .collect();
        for (letter, number) in citations.unwrap_or_default() {
            if !ids
                .iter()
                .any(|&(l, max)| l == letter && (1..=max).contains(&number))
            {
                let line = line_of(text, open);
                wrong.push(format!(
                    "{path}:{line}: there is no requirement {letter}{number}"
                ));
            }
        }
    }
    wrong
}

/// A text does not name what is nobody's business but that of the machine it was written on.
pub fn check_private(path: &str, text: &str, private: &[&str]) -> Vec<String> {
    let found = private.iter().flat_map(|name| text.match_indices(name));
    found
        .map(|(at, name)| format!("{path}:{}: names {name}", line_of(text, at)))
        .collect()
}

/// Nothing stands at the top but what belongs there.
pub fn check_top(entries: &[String], allowed: &[&str]) -> Vec<String> {
    entries
        .iter()
        .filter(|entry| {
            let known = allowed.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => entry.starts_with(prefix),
                None => entry == name,
            });
            !known && !entry.starts_with('.')
        })
        .map(|entry| format!("{entry} does not belong at the top"))
        .collect()
}

/// The README mentions every setting: `name: "x"` in the table of settings is the flag `--x`.
pub fn check_flags(table: &Source, readme: &str) -> Vec<String> {
    let code = table.shipped_code();
    let flags = words(&code, "name").into_iter().filter_map(|at| {
        let value = code[at + "name".len()..].strip_prefix(':')?.trim_start();
        literal_at(&table.text[code.len() - value.len()..])
    });
    let flags: BTreeSet<&str> = flags.collect();
    if flags.is_empty() {
        return vec![format!("{}: no settings found", table.path)];
    }
    flags
        .into_iter()
        .filter(|flag| {
            let mention = format!("--{flag}");
            !readme.match_indices(&mention).any(|(at, _)| {
                let behind = &readme[at + mention.len()..];
                !behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
            })
        })
        .map(|flag| format!("README.md does not mention --{flag}"))
        .collect()
}

/// What a string literal at the start of `text` holds, escapes as written.
fn literal_at(text: &str) -> Option<&str> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        c => c == '"',
    })?;
    Some(&body[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/a.rs", text)
    }

    #[test]
    fn long_files_need_an_exception_that_is_needed() {
        let file = |path: &str, lines| Source::new(path, &"x\n".repeat(lines));
        let sources = [
            file("src/a.rs", 600),
            file("src/b.rs", 601),
            file("src/c.rs", 701),
            file("src/d.rs", 900),
            file("src/e/tests.rs", 2000),
        ];
        let (wrong, notable) = check_sizes(&sources, &[("src/d.rs", "a table")]);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("src/c.rs: 701"));
        assert_eq!(notable.len(), 1);
        let exceptions = [
            ("src/c.rs", ""),
            ("src/d.rs", ""),
            ("src/a.rs", ""),
            ("src/x.rs", ""),
        ];
        assert_eq!(check_sizes(&sources, &exceptions).0.len(), 2);
    }

    #[test]
    fn files_open_with_a_header() {
        assert!(check_header(&source("//! What it is.\n")).is_empty());
        assert_eq!(check_header(&source("use a;\n")).len(), 1);
    }

    #[test]
    fn shipped_code_gives_reasons() {
        for good in [
            "a.expect(\"the lock is ours alone\")",
            "a.expect(\n    \"the lock is ours alone\",\n)",
            "unreachable!(\"three words here: {x}\")",
            "a.unwrap_or(1); a.unwrap_or_default(); a.expect_err(\"x\")",
            "fn expect(&mut self) {} self.todo(); // todo!() unwrap()",
            "let text = \"todo!() unwrap()\";",
            "#[cfg(test)] mod tests { fn a() { b.unwrap(); todo!() } }",
        ] {
            assert_eq!(check_panics(&source(good), false), [""; 0], "{good}");
        }
        for bad in [
            "a.unwrap()",
            "a\n    .unwrap();",
            "a.expect(\"no reason\")",
            "a.expect(text)",
            "a.expect(&format!(\"many words are in here\"))",
            "panic!()",
            "panic!(\"what now\")",
            "unreachable!()",
            "todo!()",
            "unimplemented!(\"some day soon maybe\")",
            "dbg!(a)",
            "#[allow(dead_code)]",
            "#[cfg(test)] mod tests {} a.unwrap()",
        ] {
            assert_eq!(check_panics(&source(bad), false).len(), 1, "{bad}");
        }
        let wrong = check_panics(&source("a\n\nb.unwrap()"), false);
        assert!(wrong[0].starts_with("src/a.rs:3: "), "{wrong:?}");
        let own = |text| check_panics(&source(text), true).len();
        assert_eq!(own("ledger.expect(entry)"), 0);
        assert_eq!(own("a.expect(\"no reason\"); panic!(text)"), 2);
        let test = Source::new("src/a/tests.rs", "a.unwrap()");
        assert!(check_panics(&test, false).is_empty());
    }

    #[test]
    fn only_commands_print() {
        assert!(check_prints(&source("eprintln!(\"x\"); // println!()\nfn print() {}")).is_empty());
        assert_eq!(
            check_prints(&source("println!(\"x\"); print!(\"y\")")).len(),
            2
        );
    }

    #[test]
    fn unsafe_is_explained_where_it_is_allowed() {
        let wrong = |text: &str| check_unsafe(&source(text), &["src/a"]).len();
        for good in [
            "// SAFETY: ours.\nunsafe { a() }",
            "// SAFETY: ours,\n// and only ours.\nlet b =\n    unsafe { a() };",
            "unsafe { a() } // SAFETY: ours.",
            "/// What.\n///\n/// # Safety\n/// Care.\npub unsafe fn a() {}",
            "// SAFETY: ours.\nunsafe impl Send for A {}",
            "// not unsafe\nlet s = \"unsafe { }\";",
            "#![deny(unsafe_op_in_unsafe_fn)]",
        ] {
            assert_eq!(wrong(good), 0, "{good}");
        }
        for bad in [
            "unsafe { a() }",
            "// SAFETY: for the first.\nunsafe { a() };\nunsafe { b() };",
            "// SAFETY: too far.\n\nunsafe { a() }",
            "/// What.\npub unsafe fn a() {}",
            "unsafe impl Send for A {}",
            "let s = \"SAFETY: no comment\"; unsafe { a() }",
        ] {
            assert_eq!(wrong(bad), 1, "{bad}");
        }
        let elsewhere = check_unsafe(&source("// SAFETY: x\nunsafe { a() }"), &["src/b"]);
        assert_eq!(elsewhere.len(), 1);
    }

    #[test]
    fn crates_are_named_where_allowed() {
        let text = "// glommio\nuse glommio::X; let s = \"glommio\"; let glommio_like = 1;";
        assert_eq!(check_named(&source(text), "glommio", &["src/b/"]).len(), 1);
        assert_eq!(
            check_named(&source(text), "glommio", &["src/b/", "src/a.rs"]).len(),
            0
        );
    }

    #[test]
    fn the_lock_is_followed_from_its_root() {
        let lock = "version = 4\n\n[[package]]\nname = \"ringpost\"\nversion = \"1\"\n\
                    dependencies = [\n \"a\",\n \"b 1.0\",\n]\n\n[[package]]\nname = \"a\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"1.0\"\ndependencies = [\n \"tokio\",\n]\n\n\
                    [[package]]\nname = \"tokio\"\n\n[[package]]\nname = \"other\"\n\
                    dependencies = [\n \"c\",\n]\n\n[[package]]\nname = \"c\"\n";
        let wrong = check_lock(lock, "ringpost", "tokio");
        assert_eq!(wrong, ["tokio is in ringpost: ringpost -> b -> tokio"]);
        assert!(check_lock(lock, "ringpost", "c").is_empty());
        assert_eq!(check_lock(lock, "absent", "c").len(), 1);
    }

    #[test]
    fn citations_exist() {
        let wrong = |text: &str| check_citations("a", text, &[('N', 40), ('T', 12)]);
        for good in [
            "[N1] [N40] [T12 N3]",
            "[a] [N] [X99] [N1x] [u8; 4]",
            "N41 [N41",
            "[N4\n1]",
        ] {
            assert_eq!(wrong(good), [""; 0], "{good}");
        }
        assert_eq!(wrong("\n[N41]"), ["a:2: there is no requirement N41"]);
        assert_eq!(wrong("[N0] [T13] [N1 N99] [N1, T0]").len(), 4);
    }

    #[test]
    fn machines_are_not_named() {
        let wrong = check_private("a", "x\n/some/where/y", &["/some/where/", "/else/"]);
        assert_eq!(wrong, ["a:2: names /some/where/"]);
    }

    #[test]
    fn the_top_is_agreed() {
        let entries = ["src", "LICENSE-MIT", ".gitignore", "notes.txt"].map(str::to_owned);
        let wrong = check_top(&entries, &["src", "LICENSE-*"]);
        assert_eq!(wrong, ["notes.txt does not belong at the top"]);
    }

    #[test]
    fn the_readme_mentions_flags() {
        let table =
            source("S { name: \"data\" }, S { name:\n \"data-dir\" } struct { name: &str }");
        assert!(check_flags(&table, "`--data` and `--data-dir DIR`").is_empty());
        let wrong = check_flags(&table, "--data-dir");
        assert_eq!(wrong, ["README.md does not mention --data"]);
        assert_eq!(check_flags(&source(""), "").len(), 1);
    }
}
