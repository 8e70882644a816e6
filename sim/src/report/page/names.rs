//! Names of what is on the lanes of the network and of the server, as far as they fit.

use std::collections::BTreeMap;

use super::svg::Svg;

/// The width of a letter, and of a drawing at its narrowest, in pixels.
const LETTER: u64 = 7;
const DRAWING: u64 = 1_000;

/// Which side of its time a name is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    After,
    Before,
}

struct Name {
    side: Side,
    t: u64,
    text: String,
    title: String,
}

/// All names, by their height; one that would lie on another is left to the tooltip.
#[derive(Default)]
pub(super) struct Names(BTreeMap<u32, Vec<Name>>);

impl Names {
    pub(super) fn push(&mut self, side: Side, (t, y): (u64, u32), text: &str, title: &str) {
        let name = Name {
            side,
            t,
            text: text.to_owned(),
            title: title.to_owned(),
        };
        self.0.entry(y).or_default().push(name);
    }

    /// Draws those that fit over a time until `end`.
    pub(super) fn draw(self, svg: &mut Svg, end: u64) {
        for (y, mut names) in self.0 {
            names.sort_by_key(|name| name.span(end));
            let mut free = 0;
            for name in names {
                let (from, to) = name.span(end);
                if from >= free {
                    let class = match name.side {
                        Side::After => "name",
                        Side::Before => "name before",
                    };
                    svg.text(class, (name.t, y), &name.text, &name.title);
                    free = to;
                }
            }
        }
    }
}

impl Name {
    /// The time it takes from, and to.
    fn span(&self, end: u64) -> (u64, u64) {
        let letters = self.text.chars().count() as u64 + 1;
        let width = letters * LETTER * end / DRAWING;
        match self.side {
            Side::After => (self.t, self.t + width),
            Side::Before => (self.t.saturating_sub(width), self.t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_lie_on_another_is_left_out() {
        let mut names = Names::default();
        for (side, t, text) in [
            (Side::After, 100, "first"),
            (Side::After, 120, "hidden"),
            (Side::After, 500, "second"),
            (Side::Before, 900, "third"),
        ] {
            names.push(side, (t, 7), text, "");
        }
        let mut svg = Svg::new(1_000);
        names.draw(&mut svg, 1_000);
        let drawn = svg.finish();
        for shown in ["first", "second", "third"] {
            assert!(drawn.contains(shown), "{shown}");
        }
        assert!(!drawn.contains("hidden"));
    }
}
