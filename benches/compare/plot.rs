//! Latency by percentile, as SVG.

use plotters::prelude::*;

use crate::load::Sample;

const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(120, 120, 120),
    RGBColor(180, 180, 180),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];
/// The last percentile that is drawn, as the number of nines.
const NINES: f64 = 4.0;

/// Draws `docs/benches/FILE.svg`. The horizontal axis stretches the tail: 90 %, 99 %, 99.9 % are
/// equally far apart.
pub fn latency(file: &str, title: &str, names: &[&str], samples: &[Vec<Sample>]) {
    std::fs::create_dir_all("docs/benches").unwrap();
    let path = format!("docs/benches/{file}.svg");
    let area = SVGBackend::new(&path, (760, 420)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let curves = samples.iter().map(|rounds| {
        let mut all = rounds.iter().flat_map(|s| &s.latencies).collect::<Vec<_>>();
        all.sort_unstable();
        let at = |nines: f64| {
            let q = 1.0 - 10_f64.powf(-nines);
            all[((all.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
        };
        (0..=80).map(|i| NINES * f64::from(i) / 80.0).map(|n| (n, at(n))).collect::<Vec<_>>()
    });
    let curves = curves.collect::<Vec<_>>();
    let highest = curves.iter().flatten().map(|&(_, y)| y).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("Cached read, {title}"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..NINES, (0.05..highest).log_scale())
        .unwrap();
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|nines| match nines.round() as u32 {
            0 => "0 %".into(),
            n => format!(
                "{:.*} %",
                n.saturating_sub(2) as usize,
                100.0 - 100.0 * 0.1_f64.powf(f64::from(n))
            ),
        })
        .x_desc("percentile")
        .y_desc("latency in ms")
        .draw()
        .unwrap();
    for ((curve, name), color) in curves.into_iter().zip(names).zip(COLORS) {
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve, style))
            .unwrap()
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
        .unwrap();
    area.present().unwrap();
}
