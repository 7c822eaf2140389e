//! Reads Rust source closely enough to tell code from comments and strings, and tests from the
//! rest. It is no parser: it knows literals, comments, brackets and `#[cfg(test)]`.

use std::collections::BTreeSet;

/// One file, with views of its text that all have the same length and line ends, so that an
/// offset means the same in each.
pub struct Source {
    /// From the top of the repository.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Comments and what stands in literals made blank.
    pub code: String,
    /// Everything but comments made blank.
    pub comments: String,
    /// All of it is test code.
    pub is_test: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = mask(text);
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            comments,
            is_test: path.starts_with("tests/")
                || path.contains("/tests/")
                || path.contains("/benches/")
                || path.ends_with("/tests.rs"),
        }
    }

    /// The code without what only tests compile.
    pub fn shipped_code(&self) -> String {
        if self.is_test {
            return String::new();
        }
        let mut code = self.code.clone();
        for (start, end) in test_items(&self.code) {
            let blank = blank(&code[start..end]);
            code.replace_range(start..end, &blank);
        }
        code
    }

    /// Paths, relative to the crate's directory of this file's modules, of files that only tests
    /// compile: `#[cfg(test)] mod x;` in `a/mod.rs` gives `a/x`.
    pub fn test_modules(&self) -> Vec<String> {
        let dir = match self.path.rsplit_once('/') {
            Some((dir, "mod.rs" | "lib.rs" | "main.rs")) => dir.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        test_items(&self.code)
            .into_iter()
            .filter_map(|(start, end)| {
                let item = self.code[start..end].trim_end().strip_suffix(';')?;
                let (before, name) = item.rsplit_once("mod ")?;
                let is_name = name.trim().chars().all(is_word);
                let is_item = !before.ends_with(is_word);
                (is_name && is_item).then(|| format!("{dir}/{}", name.trim()))
            })
            .collect()
    }

    /// The number of the line that holds this offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        line_of(&self.text, offset)
    }
}

/// Marks every file under a module that only tests compile.
pub fn mark_tests(sources: &mut [Source]) {
    let modules: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in sources {
        let module = source.path.trim_end_matches(".rs");
        source.is_test |= modules.iter().any(|test| {
            module
                .strip_prefix(test.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    }
}

pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offsets of `word` where it stands alone.
pub fn words(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
        })
        .collect()
}

/// Same bytes, but only line ends are left.
fn blank(text: &str) -> String {
    let keep = |byte| if byte == b'\n' { '\n' } else { ' ' };
    text.bytes().map(keep).collect()
}

/// Code and comments, each with everything else blank.
fn mask(text: &str) -> (String, String) {
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let after_word = text[..at].ends_with(is_word);
        let (length, is_comment) = match comment_length(rest) {
            Some(length) => (length, true),
            None => match literal_length(rest, after_word) {
                Some(length) => (length, false),
                None => {
                    let length = rest.chars().next().map_or(1, char::len_utf8);
                    code.push_str(&rest[..length]);
                    comments.push_str(&blank(&rest[..length]));
                    at += length;
                    continue;
                }
            },
        };
        let piece = &rest[..length];
        if is_comment {
            code.push_str(&blank(piece));
            comments.push_str(piece);
        } else {
            // Quotes stay, so that code still shows where a literal was.
            code.push('"');
            if length > 1 {
                code.push_str(&blank(&piece[1..piece.len() - 1]));
                code.push('"');
            }
            comments.push_str(&blank(piece));
        }
        at += length;
    }
    (code, comments)
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// Bytes of the string or character literal that begins here.
fn literal_length(rest: &str, after_word: bool) -> Option<usize> {
    if let Some(quoted) = rest.strip_prefix('\'') {
        let first = quoted.chars().next()?;
        if first == '\\' {
            let end = quoted[2..].find('\'')?;
            return Some(1 + 2 + end + 1);
        }
        // Otherwise it is a lifetime.
        let end = 1 + first.len_utf8();
        return rest[end..].starts_with('\'').then_some(end + 1);
    }
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .filter(|prefix| !after_word || prefix.is_empty())
        .find(|prefix| {
            rest.strip_prefix(prefix).is_some_and(|rest| {
                let hashes = rest.trim_start_matches('#');
                hashes.starts_with('"') && (hashes.len() == rest.len() || prefix.ends_with('r'))
            })
        })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        let end = rest[start..]
            .find(&close)
            .map_or(rest.len(), |end| start + end + close.len());
        return Some(end);
    }
    let mut escaped = false;
    for (index, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + index + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Start and end of every item behind a `#[cfg(test)]` (or `all(test, ...)`, `any(test, ...)`),
/// attribute included.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let open = start + "#[".len();
        let Some(close) = closing(code, start + 1) else {
            continue;
        };
        let condition = &code[open..close];
        if words(condition, "test").is_empty() || !words(condition, "not").is_empty() {
            continue;
        }
        items.push((start, item_end(code, close + 1)));
    }
    items
}

/// Offset of the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (index, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the item that begins here ends: behind its `;`, its `,` or its block.
fn item_end(code: &str, start: usize) -> usize {
    let item = code[start..].trim_start();
    let is_use = item.starts_with("use ") || item.starts_with("pub use ");
    let mut at = start;
    while let Some(offset) = code[at..].find(['(', '[', '{', ';', ',', '}']) {
        at += offset;
        match code.as_bytes()[at] {
            // The block that the item stands in ends: it was its last field or expression.
            b'}' => return at,
            b';' | b',' => return at + 1,
            bracket => {
                let Some(close) = closing(code, at) else {
                    return code.len();
                };
                at = close + 1;
                if bracket == b'{' && !is_use {
                    return at;
                }
            }
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_code_from_comments_and_literals() {
        let text = "a // b\n/* c /* d */ e */ \"f \\\" g\" 'h' '\\'' b\"i\" r#\"j \" k\"# x<'l> m";
        let source = Source::new("src/a.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.comments.len(), text.len());
        let left: String = source.code.split_whitespace().collect();
        assert_eq!(left, "a\"\"\"\"\"\"\"\"\"\"x<'l>m");
        let comments: Vec<&str> = source.comments.split_whitespace().collect();
        assert_eq!(comments, ["//", "b", "/*", "c", "/*", "d", "*/", "e", "*/"]);
        assert_eq!(source.line(text.len() - 1), 2);
    }

    #[test]
    fn literals_beyond_ascii_and_without_end() {
        for text in [
            "'é' x",
            "\"é\" x",
            "'\\u{e9}' x",
            "br\"\\\" x",
            "c\"é\" x",
            "'\"' x",
        ] {
            let source = Source::new("src/a.rs", text);
            assert_eq!(source.code.len(), text.len(), "{text}");
            assert!(source.code.ends_with(" x"), "{text}: {}", source.code);
        }
        Source::new("src/a.rs", "\"never closed \\");
        Source::new("src/a.rs", "r#\"never closed\"");
        Source::new("src/a.rs", "/* never closed");
    }

    #[test]
    fn leaves_out_what_only_tests_compile() {
        let shipped = |text| {
            let code = Source::new("src/a.rs", text).shipped_code();
            code.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            shipped("a(); #[cfg(test)] mod tests { b(); { c(); } } d();"),
            "a(); d();"
        );
        assert_eq!(shipped("#[cfg(test)]\nmod tests;\nfn a() {}"), "fn a() {}");
        assert_eq!(shipped("#[cfg(test)] use a::{b, c}; use d;"), "use d;");
        assert_eq!(
            shipped("#[cfg(test)] #[allow(x)] fn a(b: [u8; 2]) {} c"),
            "c"
        );
        assert_eq!(
            shipped("#[cfg(any(test, feature = \"x\"))] mod a {} b"),
            "b"
        );
        assert_eq!(shipped("S { #[cfg(test)] a: b(1, 2), c }"), "S { c }");
        assert_eq!(
            shipped("#[cfg(not(test))] mod a {}"),
            "#[cfg(not(test))] mod a {}"
        );
        assert_eq!(
            shipped("#[cfg(latest)] mod a {}"),
            "#[cfg(latest)] mod a {}"
        );
    }

    #[test]
    fn follows_test_modules_to_their_files() {
        let mut sources = [
            Source::new("src/a/mod.rs", "mod b;\n#[cfg(test)]\npub(crate) mod c;"),
            Source::new("src/a/b.rs", "#[cfg(test)] mod d;"),
            Source::new("src/a/c.rs", ""),
            Source::new("src/a/c/e.rs", ""),
            Source::new("src/a/cc.rs", ""),
            Source::new("src/a/b/d/mod.rs", ""),
            Source::new("src/a/tests.rs", ""),
        ];
        mark_tests(&mut sources);
        let found: Vec<bool> = sources.iter().map(|source| source.is_test).collect();
        assert_eq!(found, [false, false, true, true, false, true, true]);
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("unsafe nounsafe unsafely unsafe{", "unsafe"), [0, 25]);
    }
}
