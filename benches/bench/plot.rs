//! Plots: lines over time, as SVG.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{results::Course, stage::System};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;

/// A line for each system.
pub(crate) fn svg(title: &str, systems: &BTreeMap<System, Course>) -> String {
    let points = || systems.values().flatten();
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let highest = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let x = |seconds: f64| MARGIN + seconds / last * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN - value / highest * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (value, seconds) = (highest * share, last * share);
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{2}\" y=\"{1:.1}\" text-anchor=\"end\">{value:.4}</text>\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\">{seconds:.0} s</text>",
            WIDTH - MARGIN,
            y(value),
            MARGIN - 6.0,
            x(seconds),
            HEIGHT - MARGIN + 18.0,
        );
    }
    for (n, (system, course)) in systems.iter().enumerate() {
        let colour = match system {
            System::Bare => "#888888",
            System::Logical => "#d9822b",
            System::CaptureFull => "#7a5195",
            System::CaptureKey => "#2f9e66",
            System::Pgfanout => "#1f5fbf",
            System::OneAway => "#c23b3b",
        };
        let line: Vec<_> = course.iter().map(|&(s, value)| format!("{:.1},{:.1}", x(s), y(value))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{system}</text>",
            line.join(" "),
            MARGIN + 120.0 * n as f64,
            HEIGHT - 12.0,
        );
    }
    svg + "</svg>\n"
}
