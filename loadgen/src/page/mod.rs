//! Pages: one HTML file each, with everything in it.
//!
//! Guarantees: a page asks for nothing over the network (its own policy forbids it), reads without
//! JavaScript, is light or dark as the reader likes, fits a phone, and escapes what servers said.

pub mod report;

use crate::chart::{Heat, Lines, Size};

pub use crate::chart::svg::escape;

/// A whole page.
pub fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n<div id=\"tip\"></div>\n<script>\n{}</script>\n</body>\n\
         </html>\n",
        escape(title),
        style(),
        include_str!("hover.js"),
    )
}

/// The style sheet, for pictures outside of pages too.
pub fn style() -> &'static str {
    include_str!("style.css")
}

/// A picture that is to stand alone: with its own colours.
pub fn standalone(svg: &str) -> String {
    // It has one size only, which stays where pages show the other one.
    let style = format!(
        "<style>{} svg {{ background: var(--card); }} svg.wide {{ display: block; }}</style>\n",
        style()
    );
    match svg.split_once('\n') {
        Some((head, rest)) => format!("{head}\n{style}{rest}"),
        None => svg.to_owned(),
    }
}

/// A chart in both sizes with its title and how to read it.
pub fn figure(title: &str, reading: &str, chart: &dyn Fn(Size) -> String) -> String {
    format!(
        "<h2>{}</h2>\n<figure>\n<figcaption>{reading}</figcaption>\n<div class=\"sheet\">\n{}{}</div>\n\
         </figure>\n",
        escape(title),
        chart(Size::WIDE),
        chart(Size::NARROW),
    )
}

/// Draws lines in any size.
pub fn drawn(lines: &Lines) -> impl Fn(Size) -> String {
    |size| lines.draw(size)
}

/// Draws a heat map in any size.
pub fn heated(heat: &Heat) -> impl Fn(Size) -> String {
    |size| heat.draw(size)
}

/// A table; cells are escaped, those of columns named in `text` read from the left.
pub fn table(columns: &[&str], rows: &[Vec<String>], text: &[usize]) -> String {
    let class = |index: usize| {
        if text.contains(&index) {
            " class=\"text\""
        } else {
            ""
        }
    };
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells
            .enumerate()
            .map(|(index, cell)| format!("<{tag}{}>{}</{tag}>", class(index), escape(cell)))
            .collect()
    };
    let head = cells("th", &mut columns.iter().copied());
    let body: String = rows
        .iter()
        .map(|row| {
            format!(
                "<tr>{}</tr>\n",
                cells("td", &mut row.iter().map(String::as_str))
            )
        })
        .collect();
    format!(
        "<div class=\"sheet scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n"
    )
}

/// Names and values.
pub fn list(entries: &[(&str, String)]) -> String {
    let entries: String = entries
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)))
        .collect();
    format!("<div class=\"sheet\"><dl>\n{entries}</dl></div>\n")
}

/// Words as a shell takes them.
pub fn shell(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_ask_for_nothing() {
        let page = html("a <b>", "<p>x</p>");
        assert!(page.contains("<title>a &lt;b&gt;</title>"), "{page}");
        for wrong in ["http:", "https:", "url(", "@import", "src=\""] {
            assert!(
                !page.replace("http://www.w3.org/", "").contains(wrong),
                "{wrong}"
            );
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        let words = ["a", "b c", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&words), "a 'b c' 'it'\\''s' ''");
    }
}
