//! Lines over one x axis.

use serde_json::json;

use super::svg::Svg;
use super::{Axis, COLOURS, Frame, Size, legend};

/// Points of a line at which the page shows values; a chart has about as many pixels.
const HOVERS_MAX: usize = 200;

/// Lines with no more points than that show each of them.
const DOTS_MAX: usize = 40;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Its place among the colours.
    pub colour: usize,
    /// Drawn with dashes: what is beside the point.
    pub dashed: bool,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
    /// x, and from where to where the values went that the line is the middle of; may be empty.
    pub band: Vec<(f64, f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Lines {
    /// What the chart shows, for those who cannot see it.
    pub label: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// A part of the x axis that is set apart, with its name.
    pub shade: Option<(f64, f64, String)>,
    /// Writes values of x where the page shows one.
    pub x_text: fn(f64) -> String,
    /// The same for y.
    pub y_text: fn(f64) -> String,
}

impl Line {
    /// The classes of its colour.
    fn class(&self) -> String {
        let dashes = if self.dashed { " dashed" } else { "" };
        format!("c{}{dashes}", self.colour % COLOURS)
    }
}

impl Lines {
    /// Draws it.
    pub fn draw(&self, size: Size) -> String {
        let entries: Vec<(String, String)> = self
            .lines
            .iter()
            .map(|line| (line.class(), line.name.clone()))
            .collect();
        let frame = Frame::new(size, legend(None, size, &entries));
        let hover = self.hover(&frame);
        let mut svg = Svg::new(size, &self.label, hover.as_deref());
        legend(Some(&mut svg), size, &entries);
        frame.shade(&mut svg, &self.x, self.shade.as_ref());
        frame.axes(&mut svg, &self.x, &self.y);
        for line in &self.lines {
            let there = line.band.iter().map(|(x, low, _)| (*x, *low));
            let back = line.band.iter().rev().map(|(x, _, high)| (*x, *high));
            let edge = there
                .chain(back)
                .map(|(x, y)| (frame.x(&self.x, x), frame.y(&self.y, y)));
            let edge: Vec<_> = edge.collect();
            svg.polyline(&format!("band f{}", line.colour % COLOURS), &edge);
        }
        for line in self.lines.iter().rev() {
            let points: Vec<_> = line
                .points
                .iter()
                .map(|(x, y)| (frame.x(&self.x, *x), frame.y(&self.y, *y)))
                .collect();
            svg.polyline(&format!("line {}", line.class()), &points);
            if points.len() <= DOTS_MAX {
                svg.dots(&format!("dot {}", line.class()), &points);
            }
        }
        svg.finish()
    }

    /// Where the pointer may rest, and what the page says there: the values of every line.
    fn hover(&self, frame: &Frame) -> Option<String> {
        let longest = self.lines.iter().max_by_key(|line| line.points.len())?;
        let step = longest.points.len().div_ceil(HOVERS_MAX).max(1);
        let mut stops = Vec::new();
        for (x, _) in longest.points.iter().step_by(step) {
            let mut text = (self.x_text)(*x);
            for line in &self.lines {
                // The nearest point, unless the line ends before.
                let next = line.points.partition_point(|(found, _)| found < x);
                if let Some((_, y)) = line.points.get(next) {
                    text += &format!("\n{}: {}", line.name, (self.y_text)(*y));
                }
            }
            stops.push((frame.x(&self.x, *x).round(), text));
        }
        Some(json!({ "top": frame.top, "bottom": frame.bottom, "stops": stops }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::short;
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Lines {
        let line = Line {
            name: "a & b".to_owned(),
            colour: 9,
            dashed: true,
            points,
            band: Vec::new(),
        };
        Lines {
            label: "test".to_owned(),
            x: Axis::time("time, s", 10.0),
            y: Axis::linear("things/s", 0.0, 100.0, short),
            lines: vec![line],
            shade: Some((0.0, 2.0, "warm-up".to_owned())),
            x_text: short,
            y_text: short,
        }
    }

    #[test]
    fn values_stand_where_they_belong() {
        let text = chart(vec![(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]).draw(Size::WIDE);
        // The plot goes from 66 to 986 and from 294 up to 48.
        assert!(
            text.contains("class=\"line c1 dashed\" d=\"M66 294L526 171L986 48\""),
            "{text}"
        );
        assert!(
            text.contains("a &amp; b") && text.contains("warm-up"),
            "{text}"
        );
        assert!(
            text.contains("things/s") && text.contains("class=\"zero\""),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let text = chart(Vec::new()).draw(Size::NARROW);
        assert!(!text.contains("d=\"\"") && !text.contains("NaN"), "{text}");
    }
}
