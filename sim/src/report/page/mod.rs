//! A run as one page for a browser: a lane for each client and service, over virtual time.
//!
//! The page is one file that asks for nothing else. Places in time are written as percentages, so
//! that the page zooms by making the drawing wider.

use std::fmt::Write as _;

use super::Report;
use crate::checker::{History, Violation};
use crate::trace::Entry;

mod faults;
mod lanes;
mod marks;
mod messages;
mod names;
mod story;
mod svg;

use self::lanes::Lanes;
use self::names::Names;
use self::svg::{Svg, escape};

const TEMPLATE: &str = include_str!("page.html");

/// What all parts of a page look at.
struct Scene<'a> {
    report: &'a Report,
    history: History<'a>,
    lanes: Lanes,
    /// The end of the time axis, in microseconds.
    end: u64,
    /// What the page leaves out, in sentences.
    notes: Vec<String>,
}

impl Scene<'_> {
    /// The first rule that was broken.
    fn violation(&self) -> Option<&Violation> {
        self.report.violations.first()
    }

    /// What the page is about: the violation, or else the first thing done from outside.
    fn focus(&self) -> u64 {
        let first = || {
            self.history
                .entries
                .iter()
                .find(|e| story::is_fault(&e.event))
        };
        let violation = self.violation().map(|violation| violation.breach.t);
        violation.unwrap_or_else(|| first().map_or(0, |entry| entry.t))
    }

    /// The client that the violation names.
    fn suspect(&self) -> Option<u32> {
        let (_, after) = self.violation()?.breach.text.split_once("client ")?;
        let digits = after.split(|char: char| !char.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}

/// An event as a line for people; `None` for what the sockets carry.
pub(crate) fn told(entry: &Entry) -> Option<String> {
    let told = story::told(entry)?;
    Some(format!("{} {} {}", seconds(entry.t), told.who, told.what))
}

/// Draws a run; `line` is the command that shows it again.
pub fn draw(report: &Report, line: &str) -> String {
    let history = History::new(&report.plan, &report.trace);
    let mut scene = Scene {
        report,
        end: end(report),
        lanes: Lanes::new(&history, report),
        history,
        notes: Vec::new(),
    };
    if scene.end < report.plan.end_ms * 1000 {
        let (end, after) = (seconds(report.plan.end_ms * 1000), seconds(scene.end));
        scene.notes.push(format!(
            "The run goes on until {end}; nothing happens after {after}."
        ));
    }
    let chart = chart(&mut scene);
    let story = story::table(&mut scene);
    let values = [
        ("title", title(report)),
        ("verdict", verdict(report)),
        ("facts", facts(report, line)),
        ("labels", scene.lanes.labels()),
        ("axis", axis(&scene)),
        ("chart", chart),
        ("height", scene.lanes.height.to_string()),
        ("focus", percent(scene.focus(), scene.end)),
        ("zoom", zoom(&scene).to_string()),
        ("goal", goal(&scene).to_owned()),
        ("legend", scene.lanes.legend()),
        ("notes", notes(&scene)),
        ("story", story),
    ];
    fill(TEMPLATE, &values)
}

/// When the last thing happens that the page tells, or the last violation.
fn end(report: &Report) -> u64 {
    let mut entries = report.trace.entries().iter().rev();
    let last = entries.find(|entry| story::told(entry).is_some());
    let violations = report.violations.iter().map(|violation| violation.breach.t);
    let ends = violations.chain(last.map(|entry| entry.t));
    ends.max()
        .unwrap_or(0)
        .clamp(1, (report.plan.end_ms * 1000).max(1))
}

/// The template with its `{{names}}` replaced; what is put in is not looked at again.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut page = String::new();
    for (place, part) in template.split("{{").enumerate() {
        match part.split_once("}}").filter(|_| place > 0) {
            None => page.push_str(part),
            Some((name, rest)) => {
                let value = values.iter().find(|(known, _)| *known == name);
                page.push_str(value.map_or("", |(_, value)| value));
                page.push_str(rest);
            }
        }
    }
    page
}

/// A place in time as SVG takes it; a margin is left at both ends.
fn percent(t: u64, end: u64) -> String {
    format!("{:.4}%", 1.5 + 93.0 * t as f64 / end as f64)
}

/// A stretch of time as SVG takes it.
fn share(t: u64, end: u64) -> String {
    format!("{:.4}%", 93.0 * t as f64 / end as f64)
}

/// A time as people read it.
fn seconds(t: u64) -> String {
    format!("{}.{:03} s", t / 1_000_000, t / 1000 % 1000)
}

fn chart(scene: &mut Scene<'_>) -> String {
    let mut svg = Svg::new(scene.end);
    scene.lanes.stripes(&mut svg);
    let mut names = Names::default();
    faults::draw(scene, &mut svg, &mut names);
    messages::draw(scene, &mut svg);
    marks::services(scene, &mut svg);
    marks::clients(scene, &mut svg);
    marks::server(scene, &mut svg, &mut names);
    names.draw(&mut svg, scene.end);
    marks::violations(scene, &mut svg);
    svg.finish()
}

fn title(report: &Report) -> String {
    let verdict = match report.violations.first() {
        None => "every rule was kept".to_owned(),
        Some(violation) => format!("the rule {} was broken", violation.checker),
    };
    format!("seed {}: {}", report.plan.seed, escape(&verdict))
}

fn verdict(report: &Report) -> String {
    if report.violations.is_empty() {
        return "<p class=\"kept\">Every rule was kept.</p>".to_owned();
    }
    let mut html = String::new();
    for violation in &report.violations {
        let _ = write!(
            html,
            "<p class=\"broken\"><b>Rule <code>{}</code> was broken</b> at {}: {}</p>",
            violation.checker,
            seconds(violation.breach.t),
            escape(&violation.breach.text)
        );
    }
    html
}

fn facts(report: &Report, line: &str) -> String {
    let (plan, summary, network) = (&report.plan, &report.summary, &report.plan.network);
    let facts = [
        ("Seed", plan.seed.to_string()),
        (
            "Plan",
            format!(
                "{} actions in {} virtual s",
                plan.actions.len(),
                plan.end_ms / 1000
            ),
        ),
        (
            "Network",
            format!(
                "{} zones, {} to {} ms one way",
                network.zones, network.latency_ms_min, network.latency_ms_max
            ),
        ),
        (
            "Clients",
            format!("{}, {} connected", summary.clients, summary.connected),
        ),
        (
            "Messages",
            format!("{} sent, {} received", summary.sent, summary.received),
        ),
        (
            "Trace",
            format!(
                "{} events, hash {}",
                report.trace.entries().len(),
                report.trace.hash()
            ),
        ),
    ];
    let mut html = String::new();
    for (name, value) in facts {
        let _ = write!(
            html,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            escape(&value)
        );
    }
    let line = escape(line);
    let _ = write!(
        html,
        "<div><dt>Again</dt><dd><code>{line}</code></dd></div>"
    );
    html
}

/// Marks of whole, of fifth and of 25th steps; the finer ones are shown when there is room.
fn axis(scene: &Scene<'_>) -> String {
    let mut svg = Svg::new(scene.end);
    let steps_ms = [
        10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000,
        300_000, 600_000, 1_800_000, 3_600_000, 36_000_000,
    ];
    let step = steps_ms
        .into_iter()
        .map(|step_ms| step_ms * 1000)
        .find(|step| scene.end / step <= 12)
        .unwrap_or(scene.end);
    let fine = (step / 25).max(1);
    let violation = scene.violation().map(|violation| violation.breach.t);
    for place in 0..=scene.end / fine {
        let class = match place {
            place if place % 25 == 0 => "z1",
            place if place % 5 == 0 => "z5",
            _ => "z25",
        };
        let t = place * fine;
        let label = format!("{} s", t as f64 / 1e6);
        svg.group(class, |svg| {
            svg.rect("tick", (t, 1), (18, 6), "");
            // The name of the broken rule takes its place.
            if violation.is_none_or(|at| t + scene.end / 25 < at || t > at + scene.end / 8) {
                svg.text("time", (t, 13), &label, "");
            }
        });
    }
    if let Some(violation) = scene.violation() {
        svg.text(
            "bad",
            (violation.breach.t, 13),
            &format!("! {}", violation.checker),
            "",
        );
    }
    svg.finish()
}

/// How much wider than the window the drawing is at first.
fn zoom(scene: &Scene<'_>) -> u64 {
    match scene.violation() {
        None => 1,
        Some(_) => (scene.end / 60_000_000).clamp(1, 4),
    }
}

/// What `focus` is.
fn goal(scene: &Scene<'_>) -> &'static str {
    match scene.violation() {
        None => "the first fault",
        Some(_) => "the violation",
    }
}

fn notes(scene: &Scene<'_>) -> String {
    let line = |note: &String| format!("<p class=\"note\">{}</p>", escape(note));
    scene.notes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let values = [("a", "{{b}}".to_owned()), ("b", "B".to_owned())];
        assert_eq!(fill("<{{a}}> {{b}} {{c}}.", &values), "<{{b}}> B .");
    }
}
