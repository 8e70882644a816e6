//! A drawing over time: the horizontal place of everything is a time.

use std::fmt::Write as _;

use super::{percent, share};

/// Texts in tooltips are cut to this many characters.
const TEXT_CHARS_MAX: usize = 160;

/// The inside of an SVG element.
pub(super) struct Svg {
    text: String,
    end: u64,
}

impl Svg {
    pub(super) fn new(end: u64) -> Self {
        let text = String::new();
        Self { text, end }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn group(&mut self, class: &str, draw: impl FnOnce(&mut Self)) {
        let _ = write!(self.text, "<g class=\"{class}\">");
        draw(self);
        self.text.push_str("</g>\n");
    }

    /// A mark of fixed width; `width_height` is in pixels.
    pub(super) fn rect(
        &mut self,
        class: &str,
        (t, width): (u64, u32),
        (y, height): (u32, u32),
        title: &str,
    ) {
        let x = percent(t, self.end);
        let _ = write!(
            self.text,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">"
        );
        self.close("rect", title);
    }

    /// A stretch of time.
    pub(super) fn bar(
        &mut self,
        class: &str,
        (from, to): (u64, u64),
        (y, height): (u32, u32),
        title: &str,
    ) {
        let x = percent(from, self.end);
        let width = share(to.min(self.end).saturating_sub(from), self.end);
        let _ = write!(
            self.text,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">"
        );
        self.close("rect", title);
    }

    /// The background of a lane, from edge to edge.
    pub(super) fn stripe(&mut self, class: &str, (y, height): (u32, u32)) {
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}\" x=\"0\" y=\"{y}\" width=\"100%\" height=\"{height}\"></rect>"
        );
    }

    pub(super) fn dot(&mut self, class: &str, t: u64, (y, radius): (u32, u32), title: &str) {
        let x = percent(t, self.end);
        let _ = write!(
            self.text,
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\">"
        );
        self.close("circle", title);
    }

    /// A line from one place to another; arrows belong to the class.
    pub(super) fn line(&mut self, class: &str, from: (u64, u32), to: (u64, u32), title: &str) {
        let (x1, x2) = (percent(from.0, self.end), percent(to.0, self.end));
        let (y1, y2) = (from.1, to.1);
        let arrow = if class.starts_with("arrow") {
            " marker-end=\"url(#head)\""
        } else {
            ""
        };
        let _ = write!(
            self.text,
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"{arrow}>"
        );
        self.close("line", title);
    }

    pub(super) fn text(&mut self, class: &str, (t, y): (u64, u32), text: &str, title: &str) {
        let x = percent(t, self.end);
        let _ = write!(
            self.text,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" dx=\"3\">{}",
            escape(text)
        );
        self.close("text", title);
    }

    fn close(&mut self, element: &str, title: &str) {
        if !title.is_empty() {
            let _ = write!(self.text, "<title>{}</title>", escape(title));
        }
        let _ = writeln!(self.text, "</{element}>");
    }
}

/// A text that means nothing to a browser.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            char if char.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            char => escaped.push(char),
        }
    }
    escaped
}

/// A text that fits a tooltip.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => {
            let rest = text.chars().count() - TEXT_CHARS_MAX;
            format!("{}... and {rest} more", &text[..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_an_element() {
        let escaped = escape("<script>'\"&\u{0}");
        assert_eq!(escaped, "&lt;script&gt;&#39;&quot;&amp;\u{fffd}");
    }
}
