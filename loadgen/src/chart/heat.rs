//! A heat map: how values were spread, column by column, with lines over it.

use std::fmt::Write as _;

use super::svg::{Svg, px};
use super::{Axis, Frame, Line, Size, legend};

/// Shades of the map.
pub const SHADES: usize = 7;

/// A column of cells.
#[derive(Debug, Clone)]
pub struct Column {
    /// Where it begins and ends on the x axis.
    pub span: (f64, f64),
    /// Cells: where each begins and ends on the y axis, and which part of the column is in it.
    pub cells: Vec<(f64, f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Heat {
    /// What the chart shows, for those who cannot see it.
    pub label: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub columns: Vec<Column>,
    /// Lines over it.
    pub lines: Vec<Line>,
    /// A part of the x axis that is set apart, with its name.
    pub shade: Option<(f64, f64, String)>,
}

/// The shade of a cell that holds this part of its column: equal factors, down to a 5 000th, so that
/// the few slow ones are seen beside the many fast ones.
pub fn shade_of(part: f64) -> usize {
    let place = 1.0 + part.max(1e-9).ln() / 5000f64.ln();
    ((place * SHADES as f64).ceil().max(1.0) as usize).min(SHADES) - 1
}

impl Heat {
    /// Draws it.
    pub fn draw(&self, size: Size) -> String {
        let entries: Vec<(String, String)> = self
            .lines
            .iter()
            .map(|line| (format!("over{}", line.colour), line.name.clone()))
            .collect();
        let frame = Frame::new(size, legend(None, size, &entries));
        let mut svg = Svg::new(size, &self.label, None);
        legend(Some(&mut svg), size, &entries);
        frame.shade(&mut svg, &self.x, self.shade.as_ref());
        frame.axes(&mut svg, &self.x, &self.y);
        // One path for each shade keeps the page small.
        let mut paths = vec![String::new(); SHADES];
        for column in &self.columns {
            let left = frame.x(&self.x, column.span.0);
            // Half a pixel over the edge: no gaps between neighbours.
            let width = frame.x(&self.x, column.span.1) - left + 0.5;
            for (from, to, part) in &column.cells {
                let (bottom, top) = (frame.y(&self.y, *from), frame.y(&self.y, *to));
                // Writing to a string cannot fail.
                let _ = write!(
                    paths[shade_of(*part)],
                    "M{} {}h{}v{}h-{}z",
                    px(left),
                    px(top),
                    px(width),
                    px(bottom - top + 0.5),
                    px(width)
                );
            }
        }
        for (index, path) in paths.iter().enumerate() {
            svg.path(&format!("heat h{index}"), path);
        }
        for line in &self.lines {
            let points: Vec<_> = line
                .points
                .iter()
                .map(|(x, y)| (frame.x(&self.x, *x), frame.y(&self.y, *y)))
                .collect();
            // Seen on any shade.
            svg.polyline("halo", &points);
            svg.polyline(&format!("line over{}", line.colour), &points);
        }
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::time;
    use super::*;

    #[test]
    fn shades_tell_the_rare_from_the_many() {
        assert_eq!(shade_of(1.0), SHADES - 1);
        assert_eq!(shade_of(0.0), 0);
        assert!(shade_of(0.3) > shade_of(0.01) && shade_of(0.01) > shade_of(0.0005));
    }

    #[test]
    fn cells_are_drawn() {
        let heat = Heat {
            label: "test".to_owned(),
            x: Axis::time("time, s", 2.0),
            y: Axis::log("time", 1e6, 1e8, time),
            columns: vec![Column {
                span: (0.0, 1.0),
                cells: vec![(1e6, 1e7, 0.999), (1e7, 1e8, 0.001)],
            }],
            lines: Vec::new(),
            shade: None,
        };
        let text = heat.draw(Size::WIDE);
        assert!(text.contains("heat h6\" d=\"M66 161h460.5"), "{text}");
        assert_eq!(text.matches("class=\"heat").count(), 2);
    }
}
