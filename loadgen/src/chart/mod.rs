//! Small charts as SVG: lines over one x axis, and heat maps.
//!
//! Guarantees: every axis has a title with its unit; nothing is loaded from anywhere; colours come
//! from the classes of `page/style.css`, so that light and dark are the reader's choice. A chart can
//! be drawn in two sizes, for desks and for phones, with letters of the same size.
//! Does not know: what is drawn.

pub mod heat;
pub mod lines;
pub mod scale;
pub mod svg;

use svg::Svg;

pub use heat::Heat;
pub use lines::{Line, Lines};
pub use scale::Axis;

/// Colours of lines; more lines than that are not told apart.
pub const COLOURS: usize = 8;

/// Pixels of a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Across.
    pub width: f64,
    /// Down.
    pub height: f64,
}

impl Size {
    /// For desks.
    pub const WIDE: Size = Size {
        width: 1000.0,
        height: 340.0,
    };
    /// For phones.
    pub const NARROW: Size = Size {
        width: 380.0,
        height: 320.0,
    };
}

/// Room around the plot itself.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 46.0;
const LINE: f64 = 20.0;
/// A letter's width, about, at the size that charts use.
const LETTER: f64 = 7.0;

/// Where the plot is in its chart.
#[derive(Debug, Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn new(size: Size, legend_lines: usize) -> Frame {
        Frame {
            left: LEFT,
            right: size.width - RIGHT,
            // The y axis' title has the line below the legend.
            top: LINE * (legend_lines as f64 + 1.0) + 8.0,
            bottom: size.height - BOTTOM,
        }
    }

    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.place(value) * (self.right - self.left)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.place(value) * (self.bottom - self.top)
    }

    /// Grid, ticks and titles of both axes.
    fn axes(&self, svg: &mut Svg, x: &Axis, y: &Axis) {
        let mut rightmost = f64::NEG_INFINITY;
        for (value, label) in &x.ticks {
            let at = self.x(x, *value);
            svg.line("grid", (at, self.top), (at, self.bottom));
            let half = label.chars().count() as f64 * LETTER / 2.0;
            // Labels that would touch their neighbour are left out; their line stays.
            if at - half > rightmost + LETTER && at + half < self.right + RIGHT {
                svg.text("tick middle", (at, self.bottom + 17.0), label);
                rightmost = at + half;
            }
        }
        for (value, label) in &y.ticks {
            let at = self.y(y, *value);
            let class = if *value == 0.0 { "zero" } else { "grid" };
            svg.line(class, (self.left, at), (self.right, at));
            svg.text("tick end", (self.left - 7.0, at + 4.0), label);
        }
        svg.text("axis end", (self.right, self.bottom + 37.0), &x.title);
        svg.text("axis", (8.0, self.top - 12.0), &y.title);
    }

    /// A part of the x axis that is set apart, as the warm-up.
    fn shade(&self, svg: &mut Svg, axis: &Axis, shade: Option<&(f64, f64, String)>) {
        let Some((from, to, label)) = shade else {
            return;
        };
        let (from, to) = (self.x(axis, *from), self.x(axis, *to));
        if to - from < 1.0 {
            return;
        }
        svg.rect(
            "shade",
            (from, self.top),
            (to - from, self.bottom - self.top),
        );
        if to - from > label.chars().count() as f64 * LETTER {
            svg.text("tick middle", ((from + to) / 2.0, self.top + 15.0), label);
        }
    }
}

/// Names with their colours, on as many lines as they need. Returns how many that are; with `None`
/// nothing is drawn.
fn legend(svg: Option<&mut Svg>, size: Size, entries: &[(String, String)]) -> usize {
    let (mut x, mut line) = (8.0, 0);
    let mut places = Vec::with_capacity(entries.len());
    for (class, name) in entries {
        let width = 24.0 + (name.chars().count() as f64 + 2.0) * LETTER;
        if x + width > size.width && x > 8.0 {
            (x, line) = (8.0, line + 1);
        }
        places.push((x, line, class, name));
        x += width;
    }
    if let Some(svg) = svg {
        for (x, line, class, name) in places {
            let y = 14.0 + f64::from(line) * LINE;
            svg.line(&format!("line {class}"), (x, y - 4.0), (x + 18.0, y - 4.0));
            svg.text("name", (x + 24.0, y), name);
        }
    }
    if entries.is_empty() {
        0
    } else {
        line as usize + 1
    }
}
