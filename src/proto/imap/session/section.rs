//! Items of FETCH: what they need, and sections as they are named in a response (RFC 9051 §9 `section`).

use super::super::command::{Item, Section, SectionText};
use super::super::write;

/// `1.2.3`
pub(super) fn write_part(part: &[u32], out: &mut Vec<u8>) {
    for (index, number) in part.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write::number(*number, out);
    }
}

/// `<origin>`
pub(super) fn write_origin(origin: u64, out: &mut Vec<u8>) {
    out.push(b'<');
    write::number(origin, out);
    out.push(b'>');
}

/// `[section]`
pub(super) fn write_section(section: &Section, out: &mut Vec<u8>) {
    out.push(b'[');
    write_part(&section.part, out);
    if !section.part.is_empty() && section.text != SectionText::All {
        out.push(b'.');
    }
    match &section.text {
        SectionText::All => {}
        SectionText::Header => out.extend_from_slice(b"HEADER"),
        SectionText::Text => out.extend_from_slice(b"TEXT"),
        SectionText::Mime => out.extend_from_slice(b"MIME"),
        SectionText::Fields { names, not } => {
            out.extend_from_slice(if *not {
                b"HEADER.FIELDS.NOT ("
            } else {
                b"HEADER.FIELDS ("
            });
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                // Graphic characters only: see the parser.
                let name = String::from_utf8_lossy(name);
                if name.bytes().all(super::super::parse::is_atom) {
                    out.extend_from_slice(name.as_bytes());
                } else {
                    write::quoted(&name, out);
                }
            }
            out.push(b')');
        }
    }
    out.push(b']');
}

/// The item is about more than what is listed.
pub(super) fn looks_inside(item: &Item) -> bool {
    needs_summary(item) || matches!(item, Item::Body { .. })
}

/// The item is told by the summary, or found by it.
pub(super) fn needs_summary(item: &Item) -> bool {
    match item {
        Item::Envelope
        | Item::Structure { .. }
        | Item::Preview(_)
        | Item::Binary { .. }
        | Item::BinarySize(_) => true,
        Item::Body { section, .. } => !section.part.is_empty() || section.text != SectionText::All,
        _ => false,
    }
}
