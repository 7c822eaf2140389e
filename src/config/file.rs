//! The configuration file: TOML, one level deep, its keys the names of the flags.
//!
//! Guarantees: strict. An unknown key, a key given twice and a value of the wrong type are errors
//! with their line; nothing is passed over.
//! Does not know: ranges and units, which are checked as for flags.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::field::Field;
use super::table::{SETTINGS, Setting};

/// One key of the file.
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// Line of the key, from 1.
    pub(super) line: usize,
    /// Each text with its line; more than one only where the setting takes an array.
    pub(super) values: Vec<(String, usize)>,
}

impl Entry {
    /// The texts without their lines.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.values.iter().map(|(text, _)| text.as_str()).collect()
    }
}

/// Reads `text`, which stands in the file `path`, in the order of its lines.
///
/// # Errors
/// Not TOML, an unknown key, a value of the wrong type; ranges are checked later, as for flags.
pub(super) fn read_file(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let at = |span: Option<Range<usize>>, problem: String| ConfigError::File {
        path: path.to_owned(),
        line: line_of(text, span.map_or(0, |s| s.start)),
        problem,
    };
    let table = DeTable::parse(text)
        .map_err(|error| at(error.span(), error.message().trim().replace('\n', "; ")))?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref();
        let Some(setting) = SETTINGS.iter().find(|s| s.name == *name) else {
            return Err(at(Some(key.span()), unknown_key(name)));
        };
        let wrong = |span: Range<usize>, found: &DeValue<'_>| {
            at(
                Some(span),
                format!(
                    "{name}: {} is not allowed: {}",
                    describe(found),
                    setting.field.allowed()
                ),
            )
        };
        let mut values = Vec::new();
        match value.get_ref() {
            DeValue::Array(items) if setting.field.repeats() => {
                for item in items {
                    let text = scalar(&setting.field, item.get_ref())
                        .ok_or_else(|| wrong(item.span(), item.get_ref()))?;
                    values.push((text, item.span().start));
                }
                if values.is_empty() && matches!(setting.field, Field::Listen(_)) {
                    values.push(("none".to_owned(), value.span().start));
                }
            }
            one => {
                let text = scalar(&setting.field, one).ok_or_else(|| wrong(value.span(), one))?;
                values.push((text, value.span().start));
            }
        }
        for value in &mut values {
            value.1 = line_of(text, value.1);
        }
        entries.push(Entry {
            setting,
            line: line_of(text, key.span().start),
            values,
        });
    }
    // By line, so that the first error reported is the first in the file.
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// The text of a value, where its TOML type suits the setting.
fn scalar(field: &Field, value: &DeValue<'_>) -> Option<String> {
    match (field, value) {
        (Field::Switch(_), DeValue::Boolean(on)) => Some(on.to_string()),
        (
            Field::Level(_) | Field::Number { .. } | Field::Bytes { .. },
            DeValue::Integer(number),
        ) if number.radix() == 10 => Some(number.as_str().to_owned()),
        (Field::Switch(_) | Field::Level(_) | Field::Number { .. }, _) => None,
        (_, DeValue::String(text)) if !text.is_empty() => Some(text.clone().into_owned()),
        _ => None,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the float {number}"),
        DeValue::Boolean(on) => format!("the boolean {on}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn unknown_key(name: &str) -> String {
    let near = SETTINGS
        .iter()
        .map(|s| (edit_distance(name, s.name), s.name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, near)) => format!("{name}: there is no such setting; did you mean {near}?"),
        None => {
            format!("{name}: there is no such setting; 'ringpost config show' lists all of them")
        }
    }
}

/// Edit distance of two short names.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|b| *b == b'\n').count() + 1
}
