//! A sheet to draw on: rectangles, lines and words.

use svg::Document;
use svg::node::element::{Group, Line, Polyline, Rectangle, Text};

/// Colours shared by all pictures.
pub(crate) const INK: &str = "#222222";
pub(crate) const FAINT: &str = "#777777";
pub(crate) const RULE: &str = "#d0d0d0";
const FONT: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";

/// A place on the sheet, from its upper left corner, in pixels.
pub(crate) type Point = (f64, f64);

/// Where words stand to their point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How words look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub size: f64,
    pub anchor: Anchor,
    pub colour: &'static str,
    pub bold: bool,
}

/// Words of normal size.
pub(crate) const WORDS: Style = Style { size: 13.0, anchor: Anchor::Start, colour: INK, bold: false };

impl Style {
    pub(crate) fn sized(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(crate) fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) fn coloured(self, colour: &'static str) -> Self {
        Self { colour, ..self }
    }
}

/// A colour by its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Colour(pub f64, pub f64, pub f64);

impl Colour {
    /// From `self` at 0 to `other` at 1.
    pub(crate) fn towards(self, other: Self, share: f64) -> Self {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let mix = |a: f64, b: f64| a + (b - a) * share;
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    pub(crate) fn css(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0.round() as u8, self.1.round() as u8, self.2.round() as u8)
    }
}

/// A picture in the making.
#[derive(Debug)]
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    content: Group,
}

impl Canvas {
    /// A white sheet with a title and a line of explanation.
    pub(crate) fn new((width, height): (f64, f64), title: &str, explanation: &str) -> Self {
        let content = Group::new().set("font-family", FONT);
        let mut canvas = Self { width, height, content };
        canvas.rectangle((0.0, 0.0), (width, height), "#ffffff");
        canvas.words((24.0, 34.0), title, Style { bold: true, ..WORDS.sized(18.0) });
        canvas.words((24.0, 56.0), explanation, WORDS.coloured(FAINT));
        canvas
    }

    pub(crate) fn rectangle(&mut self, (x, y): Point, (width, height): (f64, f64), fill: &str) {
        let shape = Rectangle::new().set("x", short(x)).set("y", short(y));
        self.add(shape.set("width", short(width)).set("height", short(height)).set("fill", fill));
    }

    /// A rectangle without filling.
    pub(crate) fn frame(&mut self, (x, y): Point, (width, height): (f64, f64), stroke: &str) {
        let shape = Rectangle::new().set("x", short(x)).set("y", short(y)).set("fill", "none");
        let shape = shape.set("width", short(width)).set("height", short(height));
        self.add(shape.set("stroke", stroke).set("stroke-width", 1));
    }

    pub(crate) fn line(&mut self, from: Point, to: Point, stroke: &str) {
        let shape = Line::new().set("x1", short(from.0)).set("y1", short(from.1));
        let shape = shape.set("x2", short(to.0)).set("y2", short(to.1));
        self.add(shape.set("stroke", stroke).set("stroke-width", 1));
    }

    /// A curve through points, with a dot at each.
    pub(crate) fn curve(&mut self, points: &[Point], stroke: &str) {
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{},{}", short(*x), short(*y))).collect();
        let shape = Polyline::new().set("points", path.join(" ")).set("fill", "none");
        self.add(shape.set("stroke", stroke).set("stroke-width", 2).set("stroke-linejoin", "round"));
        for &(x, y) in points {
            let dot = svg::node::element::Circle::new().set("cx", short(x)).set("cy", short(y));
            self.add(dot.set("r", 3).set("fill", stroke));
        }
    }

    pub(crate) fn words(&mut self, (x, y): Point, text: &str, style: Style) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let shape = Text::new(text).set("x", short(x)).set("y", short(y)).set("text-anchor", anchor);
        let shape = shape.set("font-size", style.size).set("fill", style.colour);
        self.add(if style.bold { shape.set("font-weight", "bold") } else { shape });
    }

    /// The picture as SVG text.
    pub(crate) fn render(self) -> String {
        let document = Document::new()
            .set("width", self.width)
            .set("height", self.height)
            .set("viewBox", (0.0, 0.0, self.width, self.height))
            .add(self.content);
        format!("{document}\n")
    }

    fn add(&mut self, node: impl svg::Node + 'static) {
        svg::Node::append(&mut self.content, Box::new(node) as Box<dyn svg::Node>);
    }
}

/// Two decimals are enough for a pixel.
fn short(v: f64) -> f64 {
    (v * 100.0).round() / 100.0
}
