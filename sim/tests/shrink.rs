//! Shrinking: what is left fails, is small, and is the end of it.

use std::collections::BTreeSet;

use sim::checker::{self, Breach, Checker, History, Violation};
use sim::plan::{Action, Plan, Timed};
use sim::report::Report;
use sim::scenario::gathering;
use sim::shrink::{RUNS_MAX, Symptom, shrink};

/// 80 actions of a crowd, and three of a client that are a leak together.
fn leaky() -> Plan {
    let mut plan = gathering(3);
    plan.actions.truncate(77);
    let planted = [
        Action::Connect {
            client: 90,
            service: "echo".to_owned(),
            zone: 2,
            again: false,
        },
        Action::Text {
            client: 90,
            text: "a long text that matters".to_owned(),
        },
        Action::Abort { client: 90 },
    ];
    for (place, action) in planted.into_iter().enumerate() {
        let at_ms = plan.actions[20 * (place + 1)].at_ms;
        let timed = Timed { at_ms, action };
        plan.actions.insert(20 * (place + 1), timed);
    }
    plan
}

/// Whether the planted client connects, sends a text of at least 3 letters and aborts, in order.
fn leaks(plan: &Plan) -> bool {
    let place = |is_it: fn(&Action) -> bool| {
        let mut actions = plan.actions.iter();
        actions.position(|timed| is_it(&timed.action))
    };
    let connects = place(|action| matches!(action, Action::Connect { client: 90, .. }));
    let sends = place(
        |action| matches!(action, Action::Text { client: 90, text } if text.chars().count() >= 3),
    );
    let aborts = place(|action| matches!(action, Action::Abort { client: 90 }));
    connects.is_some() && connects < sends && sends < aborts
}

#[test]
fn a_leak_of_three_actions_is_all_that_is_left() {
    let plan = leaky();
    assert_eq!(plan.actions.len(), 80);
    let shrunk = shrink(&plan, RUNS_MAX, leaks).expect("it fails");
    assert!(leaks(&shrunk.plan));
    assert_eq!(shrunk.plan.actions.len(), 3);
    let times: BTreeSet<u64> = shrunk
        .plan
        .actions
        .iter()
        .map(|timed| timed.at_ms)
        .collect();
    assert_eq!(times, BTreeSet::from([0]));
    assert_eq!(shrunk.plan.network.zones, 1);
    let is_short =
        |timed: &Timed| matches!(&timed.action, Action::Text { text, .. } if text == "a lo");
    assert!(
        shrunk.plan.actions.iter().any(is_short),
        "{:?}",
        shrunk.plan
    );
    assert!(shrunk.runs < 150, "{} runs", shrunk.runs);
}

#[test]
fn shrinking_again_changes_nothing() {
    let once = shrink(&leaky(), RUNS_MAX, leaks).expect("it fails").plan;
    let twice = shrink(&once, RUNS_MAX, leaks).expect("it fails").plan;
    assert_eq!(once, twice);
}

#[test]
fn shrinking_is_repeatable() {
    let shrunk = || shrink(&leaky(), RUNS_MAX, leaks);
    assert_eq!(shrunk(), shrunk());
}

#[test]
fn what_is_returned_fails_however_few_runs_there_are() {
    assert_eq!(shrink(&gathering(3), RUNS_MAX, leaks), None);
    for runs_max in 1..60 {
        let shrunk = shrink(&leaky(), runs_max, leaks).expect("it fails");
        assert!(leaks(&shrunk.plan) && shrunk.runs <= runs_max);
    }
}

#[test]
fn the_drain_stays() {
    let shrunk = shrink(&gathering(3), RUNS_MAX, |_| true).expect("it fails");
    let actions: Vec<&Action> = shrunk
        .plan
        .actions
        .iter()
        .map(|timed| &timed.action)
        .collect();
    assert_eq!(actions, [&Action::Drain]);
    assert_eq!(
        shrunk.plan.end_ms, 20_000,
        "as long after the last action as before"
    );
}

#[test]
fn another_breach_of_the_same_rule_is_another_symptom() {
    let symptom = |text: &str| {
        Symptom::of(&Violation {
            checker: "ping",
            breach: Breach::new(1, text),
        })
    };
    let missing = symptom("client 1 has not got `client 2 text 3`");
    assert_eq!(missing, symptom("client 45 has not got `x`"));
    assert_ne!(
        missing,
        symptom("client 1 received `client 2 text 3` twice")
    );
}

/// A rule that is broken on purpose: nobody receives a certain text.
struct Silence(String);

impl Checker for Silence {
    fn name(&self) -> &'static str {
        "silence"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        for (client, life) in history.clients_of("ping") {
            if let Some(said) = life
                .received
                .iter()
                .find(|said| said.text.contains(&self.0))
            {
                let text = format!("client {client} received `{}`", said.text);
                return Err(Breach::new(said.t, text));
            }
        }
        Ok(())
    }
}

#[test]
fn a_broken_rule_is_shrunk_by_running_the_server() {
    let judge = |plan: &Plan| {
        let trace = sim::run::run(plan).expect("the run comes to a result");
        let mut checkers = checker::all();
        checkers.push(Box::new(Silence("text 5 ".to_owned())));
        Report::judged_by(&checkers, plan.clone(), trace)
    };
    // A part of the crowd, so that the test is quick.
    let mut plan = gathering(2);
    let is_few =
        |timed: &Timed| !matches!(timed.action, Action::Connect { client, .. } if client > 12);
    plan.actions.retain(is_few);
    let report = judge(&plan);
    let symptom = Symptom::of(report.violations.first().expect("it is broken"));
    let fails = |plan: &Plan| symptom.is_among(&judge(plan).violations);
    let shrunk = shrink(&plan, RUNS_MAX, fails).expect("it fails");
    let before = report.plan.actions.len();
    let after = shrunk.plan.actions.len();
    println!("{before} actions to {after} in {} runs", shrunk.runs);
    // Two actions of the sender, and the drain.
    assert_eq!(after, 3, "{:?}", shrunk.plan.actions);
    assert!(shrunk.plan.end_ms <= 21_000, "{:?}", shrunk.plan);
}

#[test]
fn a_plan_of_the_core_is_shrunk_too() {
    use sim::core::{self, Step};
    let plan = core::Plan::draw(3);
    let fails = |plan: &core::Plan| {
        let connects = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Connect { .. }));
        let drains = plan.steps.contains(&Step::Drain);
        let waits = |step: &Step| matches!(step, Step::Advance { ms } if *ms >= 10);
        connects && drains && plan.steps.iter().any(waits)
    };
    let shrunk = core::shrink(&plan, RUNS_MAX, fails).expect("it fails");
    assert!(fails(&shrunk.plan));
    assert_eq!(shrunk.plan.steps.len(), 3, "{:?}", shrunk.plan.steps);
    let short = |step: &Step| matches!(step, Step::Advance { ms } if *ms < 20);
    assert!(shrunk.plan.steps.iter().any(short));
    assert_eq!(core::shrink(&plan, RUNS_MAX, |_| false), None);
}
