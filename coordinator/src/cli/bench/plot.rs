//! Lines in a plot, as SVG. Colours are classes, so that the page chooses them for light and for dark.

use super::axis::{Axis, Range, short};
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 168.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
/// Classes of colours that the page has.
pub(super) const COLOURS: usize = 8;

/// A plot.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// A line of a plot.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    /// Which colour.
    pub(super) colour: usize,
    pub(super) style: Style,
    /// Where it goes, and words beside some of the points.
    pub(super) points: Vec<Point>,
}

/// A point of a line.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) label: Option<String>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Full,
    Dashed,
    /// Points alone.
    Points,
}

impl Plot {
    /// The plot as an SVG element.
    pub(super) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (x, y) = (self.x.range(points().map(|point| point.x)), self.y.range(points().map(|point| point.y)));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"22\">{title}</text>\n",
            title = escape(&self.title)
        );
        self.push_axes(&mut svg, &x, &y);
        for line in &self.lines {
            self.push_line(&mut svg, line, &x, &y);
        }
        self.push_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn push_axes(&self, svg: &mut String, x: &Range, y: &Range) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in x.marks() {
            let at = across(x, mark);
            push(
                svg,
                format_args!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"),
            );
            let below = bottom + 18.0;
            push(
                svg,
                format_args!(
                    "<text class=\"mark\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{below}\">{}</text>",
                    short(mark)
                ),
            );
        }
        for mark in y.marks() {
            let at = down(y, mark);
            push(
                svg,
                format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"),
            );
            let (before, middle) = (LEFT - 8.0, at + 4.0);
            push(
                svg,
                format_args!(
                    "<text class=\"mark\" text-anchor=\"end\" x=\"{before}\" y=\"{middle:.1}\">{}</text>",
                    short(mark)
                ),
            );
        }
        let (middle_x, middle_y, foot) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0, HEIGHT - 10.0);
        push(
            svg,
            format_args!(
                "<text class=\"label\" text-anchor=\"middle\" x=\"{middle_x}\" y=\"{foot}\">{}</text>",
                escape(self.x.label)
            ),
        );
        push(
            svg,
            format_args!(
                "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(18 {middle_y}) rotate(-90)\">{}</text>",
                escape(self.y.label)
            ),
        );
        push(svg, format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>"));
    }

    fn push_line(&self, svg: &mut String, line: &Line, x: &Range, y: &Range) {
        let shown = line.points.iter().filter(|point| self.x.scale.shows(point.x) && self.y.scale.shows(point.y));
        let places: Vec<(f64, f64, &Point)> =
            shown.map(|point| (across(x, point.x), down(y, point.y), point)).collect();
        let colour = line.colour % COLOURS;
        if line.style != Style::Points {
            let path: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
            let dashes = if line.style == Style::Dashed { " dashed" } else { "" };
            push(svg, format_args!("<polyline class=\"line c{colour}{dashes}\" points=\"{}\"/>", path.join(" ")));
        }
        for (x, y, point) in places {
            let said = point.label.as_deref().map(|label| format!(" {label}")).unwrap_or_default();
            let hint = escape(&format!("{}{said}: {}, {}", line.name, short(point.x), short(point.y)));
            push(
                svg,
                format_args!(
                    "<circle class=\"dot c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{hint}</title></circle>"
                ),
            );
            if let Some(label) = &point.label {
                let (beside, above) = (x + 5.0, y - 6.0);
                push(
                    svg,
                    format_args!("<text class=\"note\" x=\"{beside:.1}\" y=\"{above:.1}\">{}</text>", escape(label)),
                );
            }
        }
    }

    fn push_legend(&self, svg: &mut String) {
        let (from, to, text) = (WIDTH - RIGHT + 14.0, WIDTH - RIGHT + 36.0, WIDTH - RIGHT + 44.0);
        for (i, line) in self.lines.iter().enumerate() {
            let y = TOP + 8.0 + i as f64 * 20.0;
            let (colour, middle) = (line.colour % COLOURS, (from + to) / 2.0);
            if line.style != Style::Points {
                let dashes = if line.style == Style::Dashed { " dashed" } else { "" };
                push(svg, format_args!("<path class=\"line c{colour}{dashes}\" d=\"M{from} {y}H{to}\"/>"));
            }
            push(svg, format_args!("<circle class=\"dot c{colour}\" cx=\"{middle}\" cy=\"{y}\" r=\"3\"/>"));
            push(
                svg,
                format_args!("<text class=\"mark\" x=\"{text}\" y=\"{}\">{}</text>", y + 4.0, escape(&line.name)),
            );
        }
    }
}

fn across(range: &Range, value: f64) -> f64 {
    LEFT + range.place(value) * (WIDTH - RIGHT - LEFT)
}

fn down(range: &Range, value: f64) -> f64 {
    HEIGHT - BOTTOM - range.place(value) * (HEIGHT - BOTTOM - TOP)
}

fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(svg, "{element}").expect("a String takes any text");
}

/// Text that can't become markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::super::axis::Scale;
    use super::*;

    fn plot(name: &str, points: Vec<Point>) -> Plot {
        Plot {
            title: "a <b>".to_owned(),
            x: Axis { label: "clients", scale: Scale::Log },
            y: Axis { label: "ms", scale: Scale::Log },
            lines: vec![Line { name: name.to_owned(), colour: 9, style: Style::Dashed, points }],
        }
    }

    fn point(x: f64, y: f64, label: Option<&str>) -> Point {
        Point { x, y, label: label.map(str::to_owned) }
    }

    #[test]
    fn what_users_named_is_no_markup() {
        let svg = plot("<script>\"'&", vec![point(1.0, 2.0, Some("</svg>"))]).svg();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&quot;&#39;&amp;"), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1, "{svg}");
        assert!(svg.contains("a &lt;b&gt;"), "{svg}");
    }

    #[test]
    fn points_lie_inside_and_those_without_a_place_are_left_out() {
        let svg = plot("l", vec![point(1.0, 1.0, None), point(100.0, 10.0, None), point(0.0, 5.0, None)]).svg();
        assert_eq!(svg.matches("<title>").count(), 2, "{svg}");
        let line = svg.lines().find(|line| line.contains("<polyline")).unwrap_or_default();
        assert!(line.contains("dashed") && line.contains("c1"), "{line}");
        let numbers = line.split("points=\"").nth(1).unwrap_or_default().trim_end_matches("\"/>");
        for pair in numbers.split(' ') {
            let (x, y) = pair.split_once(',').unwrap_or_default();
            let (x, y): (f64, f64) = (x.parse().unwrap_or(-1.0), y.parse().unwrap_or(-1.0));
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{pair}");
        }
    }

    #[test]
    fn an_empty_plot_is_one_too() {
        let svg = plot("l", Vec::new()).svg();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
