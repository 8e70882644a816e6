//! The page of a run: it has the lanes and the violation, is whole, and asks for nothing.

use sim::checker::{Breach, Checker, History};
use sim::plan::{Action, Plan, Timed, Way};
use sim::report::{Report, page};
use sim::scenario::gathering;
use sim::swarm::swarm;

const LINE: &str = "cargo run -p sim -- --seed 4";

/// A rule that nobody can keep, told with a text that means something to a browser.
struct Never;

impl Checker for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let connects = history.clients.values().map(|life| life.connecting);
        let t = connects.max().unwrap_or(0);
        Err(Breach::new(
            t,
            "client 3 said <script>alert(1)</script> & left",
        ))
    }
}

fn few(mut plan: Plan, clients: u32) -> Plan {
    let is_more =
        |timed: &Timed| matches!(timed.action, Action::Connect { client, .. } if client > clients);
    plan.actions.retain(|timed| !is_more(timed));
    plan
}

fn page_of(plan: Plan, checkers: &[Box<dyn Checker>]) -> String {
    let trace = sim::run::run(&plan).expect("the run comes to a result");
    page::draw(&Report::judged_by(checkers, plan, trace), LINE)
}

/// Each element that is opened is closed, in order.
fn assert_nested(page: &str) {
    const VOID: [&str; 1] = ["meta"];
    let mut open: Vec<&str> = Vec::new();
    let markup = page
        .split_once("<script>")
        .map_or(page, |(markup, _)| markup);
    for part in markup.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "near <{tag}>");
        } else if !name.starts_with('!') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, ["html", "body"], "what is open at the script");
}

fn assert_self_contained(page: &str) {
    for request in ["http://", "https://", "src=", "href=", "@import"] {
        assert!(!page.contains(request), "{request}");
    }
    // Markers are named in the page itself.
    assert_eq!(
        page.matches("url(").count(),
        page.matches("url(#head)").count()
    );
}

#[test]
fn a_page_shows_the_lanes_the_faults_and_the_violation() {
    let page = page_of(few(gathering(4), 8), &[Box::new(Never)]);
    assert_nested(&page);
    assert_self_contained(&page);
    for client in 1..=8 {
        assert!(
            page.contains(&format!("<b>client {client}</b>")),
            "{client}"
        );
    }
    let parts = [
        "<b>network</b>",
        "<b>server</b>",
        "<b>ping</b>",
        "gen 1",
        "hold of zone 1",
        "partition of zone 2",
        "class=\"violation\"",
        "class=\"culprit\"",
        "<tr class=\"bad\">",
        "Rule <code>never</code> was broken",
        "is told to shut down",
        LINE,
    ];
    for part in parts {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn texts_of_a_run_do_not_become_elements() {
    let mut plan = few(gathering(4), 2);
    let text = "</title><script>alert(2)</script>".to_owned();
    for timed in &mut plan.actions {
        if let Action::Text { text: old, .. } = &mut timed.action {
            *old = format!("{text} {old}");
        }
    }
    let page = page_of(plan, &[Box::new(Never)]);
    assert_nested(&page);
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(page.contains("&lt;script&gt;alert(2)"));
}

#[test]
fn a_page_of_a_crowd_says_what_it_leaves_out() {
    let page = page_of(gathering(4), &sim::checker::all());
    assert_nested(&page);
    assert_self_contained(&page);
    assert!(page.contains("Every rule was kept."));
    assert!(page.contains("Arrows are drawn for "));
    assert!(page.contains("The table has 300 of "));
    assert!(!page.contains("class=\"violation\""));
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
}

#[test]
fn pages_of_wild_plans_are_whole() {
    for seed in 1..=6 {
        let page = page_of(swarm(seed), &[Box::new(Never)]);
        assert_nested(&page);
        assert_self_contained(&page);
    }
}

#[test]
fn a_page_shows_what_is_done_to_the_server() {
    let mut plan = few(gathering(4), 8);
    let faults = [
        Action::PowerLoss,
        Action::Bounce,
        Action::Exhaust { ms: 500 },
        Action::Wall { by_ms: -1_500 },
        Action::Latency {
            zone: 0,
            ms_min: 20,
            ms_max: 30,
        },
        Action::Partition {
            zone: 0,
            way: Way::Up,
        },
    ];
    for (place, action) in faults.into_iter().enumerate() {
        let at_ms = 40_000 + 1_000 * place as u64;
        plan.actions.push(Timed { at_ms, action });
    }
    plan.actions.sort_by_key(|timed| timed.at_ms);
    let page = page_of(plan, &[Box::new(Never)]);
    assert_nested(&page);
    assert_self_contained(&page);
    let parts = [
        "server: no power from 40.",
        "no descriptors",
        "cut up of zone 0",
        "class=\"once\"",
        "loses its power, and says nothing",
        "has its wall clock set by -1500 ms",
        "zone 0 is 20 to 30 ms away",
        "is started",
    ];
    for part in parts {
        assert!(page.contains(part), "{part}");
    }
}
