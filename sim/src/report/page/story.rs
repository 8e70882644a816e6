//! What happened, in sentences: for tooltips, and as a table around the violation.

use std::fmt::Write as _;

use super::svg::{brief, escape};
use super::{Scene, seconds};
use crate::plan::{Action, Way};
use crate::trace::{Ending, Entry, Event};

/// Events of the table; of longer runs it has those around the violation.
const ROWS_MAX: usize = 300;
/// Of these, the part before the violation.
const ROWS_BEFORE: usize = 240;

/// Who did something, and what, for people.
pub(super) struct Told {
    pub(super) who: String,
    pub(super) what: String,
}

/// An event in words; `None` for what the sockets carry, which would fill the page.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "an event without words of its own is told as it is in the trace"
)]
pub(super) fn told(entry: &Entry) -> Option<Told> {
    let client = |client: &u32| format!("client {client}");
    let (who, what) = match &entry.event {
        Event::AcceptFailed => {
            let what = "cannot accept: no file descriptors".to_owned();
            ("server".to_owned(), what)
        }
        Event::Started => ("server".to_owned(), "is started".to_owned()),
        Event::Accepted { .. }
        | Event::Dropped { .. }
        | Event::Held(_)
        | Event::Read { .. }
        | Event::ReadEnd { .. }
        | Event::Shutdown { .. }
        | Event::Written { .. } => return None,
        Event::Acted { action } => acted(action),
        Event::Blocked { conn } => {
            let what = format!("connection {conn} takes nothing more for now");
            ("server".to_owned(), what)
        }
        Event::Connecting {
            client: c, service, ..
        } => (client(c), format!("asks for {service}")),
        Event::Connected { client: c } => (client(c), "is connected".to_owned()),
        Event::Refused { client: c, reason } => (client(c), format!("is refused: {reason}")),
        Event::Sent { client: c, text } => (client(c), format!("sends `{}`", brief(text))),
        Event::Received { client: c, text } => (client(c), format!("receives `{}`", brief(text))),
        Event::Told { client: c, notice } => (client(c), format!("is told: {notice:?}")),
        Event::Leaving { client: c, code } => (client(c), format!("closes with code {code}")),
        Event::Closed { client: c, code } => {
            let code = code.map_or("no code".to_owned(), |code| format!("code {code}"));
            (client(c), format!("gets the server's close frame: {code}"))
        }
        Event::Did { client: c, deed } => (client(c), brief(&format!("does {deed:?}"))),
        Event::Ended { client: c, ending } => (client(c), ended(*ending).to_owned()),
        Event::Finished { client: c, finish } => (client(c), brief(&format!("ends: {finish:?}"))),
        Event::Room {
            room,
            generation,
            seen,
        } => (
            room.clone(),
            brief(&format!("generation {generation} saw {seen:?}")),
        ),
        Event::Called {
            client: c,
            number,
            call,
            ..
        } => {
            let what = brief(&format!("call {number}: {call:?}"));
            (format!("backend {c}"), what)
        }
        Event::Answered {
            client: c,
            number,
            status,
            body,
            ..
        } => {
            let what = format!("call {number} is answered {status} `{}`", brief(body));
            (format!("backend {c}"), what)
        }
        Event::Unanswered {
            client: c, number, ..
        } => {
            let what = format!("call {number} has no answer: its connection is over");
            (format!("backend {c}"), what)
        }
        Event::Noted { client: c, text } => (client(c), format!("notes `{}`", brief(text))),
        Event::Panicked { text } => ("server".to_owned(), format!("a task panicked: {text}")),
        Event::Status {
            service,
            state,
            generation,
            clients,
            ..
        } => {
            let what = format!("{state}, generation {generation}, {clients} clients");
            (service.clone(), what)
        }
        Event::Log {
            level,
            message,
            fields,
            ..
        } => {
            let mut what = format!("{level} {message}");
            for (name, value) in fields {
                let _ = write!(what, " {name}={}", brief(value));
            }
            ("log".to_owned(), what)
        }
        Event::Served { error } => {
            let how = error
                .as_ref()
                .map_or(String::new(), |error| format!(" with {error}"));
            ("server".to_owned(), format!("serve has returned{how}"))
        }
        other => {
            let what = serde_json::to_string(other).unwrap_or_else(|error| error.to_string());
            ("server".to_owned(), brief(&what))
        }
    };
    Some(Told { who, what })
}

fn acted(action: &Action) -> (String, String) {
    let network = |what: String| ("network".to_owned(), what);
    let server = |what: String| ("server".to_owned(), what);
    match action {
        Action::Bandwidth {
            zone,
            bytes_per_second,
        } => network(match bytes_per_second {
            None => format!("zone {zone} has links of any rate"),
            Some(rate) => format!("zone {zone} has links of {rate} bytes/s"),
        }),
        Action::Bounce => server("is to be started again".to_owned()),
        Action::Crash => server("crashes; its system ends the connections".to_owned()),
        Action::Drain => server("is told to shut down".to_owned()),
        Action::Exhaust { ms } => server(format!("has no file descriptors for {ms} ms")),
        Action::Hold { zone } => network(format!("zone {zone} is held: all waits, none is lost")),
        Action::Latency {
            zone,
            ms_min,
            ms_max,
        } => network(format!("zone {zone} is {ms_min} to {ms_max} ms away")),
        Action::Partition { zone, way } => network(match way {
            Way::Both => format!("zone {zone} is cut off: all is lost"),
            Way::Down => format!("zone {zone} is cut off: what the server sends is lost"),
            Way::Up => format!("zone {zone} is cut off: what its clients send is lost"),
        }),
        Action::PowerLoss => server("loses its power, and says nothing".to_owned()),
        Action::Release { zone } => network(format!("zone {zone} is released")),
        Action::Repair { zone } => network(format!("zone {zone} is repaired")),
        Action::Restart => server("is told to shut down for the next one".to_owned()),
        Action::Start { how } => server(format!("has a service script that starts: {how:?}")),
        Action::Wall { by_ms } => server(format!("has its wall clock set by {by_ms} ms")),
        // Clients do these, and tell themselves.
        Action::Abort { .. }
        | Action::Act { .. }
        | Action::Call { .. }
        | Action::Connect { .. }
        | Action::Leave { .. }
        | Action::Text { .. } => network(brief(&format!("{action:?}"))),
    }
}

fn ended(ending: Ending) -> &'static str {
    match ending {
        Ending::Aborted => "drops its connection without a word",
        Ending::Broken => "finds its connection broken",
        Ending::Closed => "has no connection any more, after close frames",
        Ending::GaveUp => "waited for the server's close frame in vain",
    }
}

/// Whether this is done from outside.
pub(super) fn is_fault(event: &Event) -> bool {
    matches!(event, Event::Acted { .. })
}

/// The events around the violation, or from the beginning.
pub(super) fn table(scene: &mut Scene<'_>) -> String {
    let entries = scene.history.entries;
    let rows: Vec<(&Entry, Told)> = entries
        .iter()
        .filter_map(|entry| Some((entry, told(entry)?)))
        .collect();
    let breach = scene.violation().map(|violation| violation.breach.clone());
    let place = breach
        .as_ref()
        .map_or(0, |b| rows.partition_point(|(entry, _)| entry.t <= b.t));
    let first = place.saturating_sub(ROWS_BEFORE);
    let first = if rows.len() <= ROWS_MAX { 0 } else { first };
    let mut html = String::new();
    let shown = rows.iter().enumerate().skip(first).take(ROWS_MAX);
    for (at, (entry, told)) in shown {
        if let Some(breach) = breach.as_ref().filter(|_| at == place) {
            violation_row(&mut html, breach.t, &breach.text);
        }
        row(&mut html, scene, entry, told);
    }
    if let Some(breach) = breach.filter(|_| place == rows.len()) {
        violation_row(&mut html, breach.t, &breach.text);
    }
    if rows.len() > ROWS_MAX {
        let note = format!(
            "The table has {ROWS_MAX} of {} events; --trace FILE writes all of them.",
            rows.len()
        );
        scene.notes.push(note);
    }
    html
}

fn violation_row(html: &mut String, t: u64, text: &str) {
    let (t, text) = (seconds(t), escape(text));
    let _ = writeln!(
        html,
        "<tr class=\"bad\"><td>{t}</td><td>rule</td><td>{text}</td></tr>"
    );
}

fn row(html: &mut String, scene: &Scene<'_>, entry: &Entry, told: &Told) {
    let suspect = scene.suspect().map(|client| format!("client {client}"));
    let class = match told.who.as_str() {
        who if suspect.as_deref() == Some(who) => " class=\"suspect\"",
        "network" => " class=\"fault\"",
        "log" => " class=\"log\"",
        _ => "",
    };
    let (t, who, what) = (seconds(entry.t), escape(&told.who), escape(&told.what));
    let _ = writeln!(
        html,
        "<tr{class}><td>{t}</td><td>{who}</td><td>{what}</td></tr>"
    );
}
