//! Bars with their spread, as SVG.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figure::Figure;

const WIDTH: u32 = 860;
const ROW: u32 = 22;
const LABELS: u32 = 360;

/// Draws a bar for each row, from the median down to nothing, with a line from the least to the most; and a line across
/// at `mark`. Ours are blue.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn bars(
    file: &Path,
    title: &str,
    unit: &str,
    rows: &[(String, Figure)],
    mark: Option<f64>,
) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(rows.len())?;
    let most = rows.iter().map(|(_, figure)| figure.most).chain(mark).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, ROW * count + 90)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 17))
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..most * 1.05, 0.0..f64::from(count))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .max_light_lines(1)
            .x_desc(unit)
            .x_labels(8)
            .x_label_formatter(&|value| format!("{value}"))
            .draw()?;
        let right = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Right, VPos::Center));
        for (number, (label, Figure { median, least, most })) in (0..count).zip(rows) {
            let middle = f64::from(count - number) - 0.5;
            let colour = if label.contains("untorn") { RGBColor(0x1f, 0x5f, 0xa8) } else { RGBColor(0xa0, 0xa0, 0xa0) };
            let bar = [(0.0, middle - 0.35), (*median, middle + 0.35)];
            chart.draw_series([Rectangle::new(bar, colour.filled())])?;
            chart.draw_series([PathElement::new([(*least, middle), (*most, middle)], BLACK.stroke_width(2))])?;
            let (left, at) = chart.plotting_area().map_coordinate(&(0.0, middle));
            root.draw(&Text::new(label.as_str(), (left - 8, at), right.clone()))?;
        }
        if let Some(mark) = mark {
            chart.draw_series([PathElement::new([(mark, 0.0), (mark, f64::from(count))], RED.stroke_width(2))])?;
        }
        root.present()?;
    }
    Ok(fs::write(file, svg)?)
}
