//! Writes SVG, and escapes what is not ours.

use std::fmt::Write as _;

use super::Size;

/// A picture in the making.
#[derive(Debug)]
pub struct Svg {
    text: String,
}

/// A number as short as it can be at a tenth of a pixel.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Text for HTML and XML, attributes included.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML knows no other control characters.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

type Point = (f64, f64);

// Writing to a string cannot fail.
impl Svg {
    /// An empty picture that is described by `label`; `hover` is what the page's script shows.
    pub fn new(size: Size, label: &str, hover: Option<&str>) -> Svg {
        let mut text = String::new();
        let (width, height) = (px(size.width), px(size.height));
        let class = if size == Size::NARROW {
            "narrow"
        } else {
            "wide"
        };
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             class=\"chart {class}\" role=\"img\" aria-label=\"{}\"",
            escape(label)
        );
        if let Some(hover) = hover {
            let _ = write!(text, " data-hover=\"{}\"", escape(hover));
        }
        text.push_str(">\n");
        Svg { text }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: Point, to: Point) {
        let _ = writeln!(
            self.text,
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1)
        );
    }

    /// A rectangle.
    pub fn rect(&mut self, class: &str, corner: Point, size: Point) {
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            px(corner.0),
            px(corner.1),
            px(size.0),
            px(size.1)
        );
    }

    /// Text whose base line begins, ends or has its middle at a point, as `class` says.
    pub fn text(&mut self, class: &str, at: Point, text: &str) {
        let _ = writeln!(
            self.text,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
            px(at.0),
            px(at.1),
            escape(text)
        );
    }

    /// A line through points; a point alone becomes a dot.
    pub fn polyline(&mut self, class: &str, points: &[Point]) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{} {}", px(*x), px(*y));
        }
        if let [(x, y)] = points {
            let _ = write!(path, "L{} {}", px(*x + 0.1), px(*y));
        }
        self.path(class, &path);
    }

    /// A dot at each point, as wide as the class' stroke.
    pub fn dots(&mut self, class: &str, points: &[Point]) {
        let dots = points
            .iter()
            .map(|(x, y)| format!("M{} {}h0", px(*x), px(*y)));
        let path: String = dots.collect();
        self.path(class, &path);
    }

    /// A path as SVG writes it.
    pub fn path(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            let _ = writeln!(self.text, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    /// The whole picture.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_escaped() {
        let mut svg = Svg::new(Size::WIDE, "a \"b\"", None);
        svg.text("name", (1.0, 2.25), "<script>&\x1b");
        let text = svg.finish();
        assert!(text.contains("aria-label=\"a &quot;b&quot;\""), "{text}");
        assert!(
            text.contains("y=\"2.2\">&lt;script&gt;&amp;\u{fffd}</text>"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            ["0", "1", "-1.5"].map(str::to_owned),
            [px(-0.01), px(1.04), px(-1.46)]
        );
    }
}
