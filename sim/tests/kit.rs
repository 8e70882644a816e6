//! The kit for users: their services are tested, their bugs are found, and a seed repeats itself.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use busline::service::Event;
use busline::{App, Context, ServicePolicy};
use sim::kit::{Breach, Client, Failure, Fault, Faults, Gone, Report, Sim};

/// A service that answers with the number of the text among all it has got.
async fn count(mut ctx: Context) {
    let mut number = 0;
    while let Some(message) = ctx.recv().await {
        number += 1;
        ctx.reply(&message, number.to_string());
    }
}

/// Asks twice, and is answered with numbers that rise.
async fn asks_twice(client: Client) -> Result<(), Gone> {
    let mut socket = client.connect("count").await?;
    let mut last = 0;
    for _ in 0..2 {
        socket.send("?").await?;
        let number: u32 = socket.recv().await?.parse().expect("a number");
        assert!(number > last, "{number} after {last}");
        client.note(format!("number {number}"));
        last = number;
    }
    socket.close().await
}

fn counting() -> Sim {
    Sim::new(|rt| {
        App::builder(rt)
            .service("count", count)
            .expect("a name")
            .build()
    })
    .clients(1..=5, asks_twice)
}

/// As `count`, but it throws away what comes within 5 ms of another text.
async fn careless(mut ctx: Context) {
    let mut number = 0;
    let mut last = None;
    while let Some(message) = ctx.recv().await {
        let now = ctx.now();
        let is_soon = last.is_some_and(|last| now.saturating_since(last) < MILLIS_5);
        last = Some(now);
        if !is_soon {
            number += 1;
            ctx.reply(&message, number.to_string());
        }
    }
}

const MILLIS_5: Duration = Duration::from_millis(5);

fn careless_counting() -> Sim {
    Sim::new(|rt| {
        App::builder(rt)
            .service("count", careless)
            .expect("a name")
            .build()
    })
    .clients(2..=5, asks_twice)
    .seeds(0..500)
}

/// A room that welcomes clients that come later, and passes texts on with its key.
async fn lounge(mut ctx: Context) {
    let key = ctx.key().to_owned();
    let mut there: BTreeSet<_> = ctx.clients().into_iter().collect();
    while let Some(event) = ctx.event().await {
        match event {
            Event::Joined(client) => {
                ctx.send_to(&client, format!("{key}: welcome"));
                assert!(there.insert(client), "a client joined twice");
            }
            Event::Message(client, message) => {
                assert!(there.contains(&client), "a client spoke that is not there");
                let text = message.as_text().unwrap_or_default();
                ctx.publish(format!("{key}: {text}"));
            }
            Event::Left(client, _reason) => {
                assert!(there.remove(&client), "a client left that was not there");
            }
            Event::Request(_) => unreachable!("no client asks"),
        }
        assert!(
            ctx.clients().iter().eq(&there),
            "the room knows who is there"
        );
    }
}

/// Talks in one of two rooms, comes and goes, and hears nothing of the other room.
async fn talks_in_a_room(client: Client) -> Result<(), Gone> {
    for turn in 0..client.random(1..=3) {
        let key = ["a", "b"][usize::try_from(client.random(0..=1)).expect("small")];
        let mut socket = client.connect(&format!("lounge/{key}")).await?;
        let own = format!("{key}: {} {turn}", client.number());
        socket.send(format!("{} {turn}", client.number())).await?;
        loop {
            let heard = socket.recv().await?;
            assert!(
                heard.starts_with(&format!("{key}: ")),
                "from another room: {heard}"
            );
            if heard == own {
                break;
            }
        }
        match client.random(0..=2) {
            0 => socket.abort(),
            _ => socket.close().await?,
        }
    }
    Ok(())
}

#[test]
fn rooms_are_told_who_is_there_under_every_fault() {
    let rooms = Sim::new(|rt| {
        let mut policy = ServicePolicy::of_rooms();
        policy.lifecycle.linger = MILLIS_5;
        App::builder(rt)
            .room_with("lounge", lounge, policy)
            .expect("a name")
            .build()
    });
    let report = rooms
        .clients(1..=6, talks_in_a_room)
        .faults(Faults::all())
        .seeds(0..60)
        .run();
    report.assert_ok();
    assert_eq!(report.runs(), 60);
}

fn failure(report: &Report) -> Failure {
    report.failure().expect("a rule is broken").clone()
}

#[test]
fn a_sound_service_keeps_every_rule_under_every_fault() {
    let report = counting().faults(Faults::all()).seeds(0..60).run();
    report.assert_ok();
    assert_eq!(report.runs(), 60);
}

#[test]
fn the_same_seeds_give_the_same_hash_beside_each_other() {
    let hash = || counting().faults(Faults::all()).seeds(0..10).run().hash();
    let [first, second] = thread::scope(|scope| {
        let runs = [scope.spawn(hash), scope.spawn(hash)];
        runs.map(|run| run.join().expect("no panic"))
    });
    assert_eq!(first, second);
    let others = counting().faults(Faults::all()).seeds(10..20).run().hash();
    assert_ne!(first, others);
}

#[test]
fn a_bug_that_needs_two_texts_at_once_is_found_and_replays_from_its_seed() {
    let report = careless_counting().run();
    let found = failure(&report);
    assert!(found.seed > 0, "not every seed shows it");
    assert!(found.violation.starts_with("clients: at "), "{found}");
    assert!(found.violation.contains("nothing came for 60 s"), "{found}");
    let this = "a_bug_that_needs_two_texts_at_once_is_found_and_replays_from_its_seed";
    let line = format!("SIM_SEED={} cargo test -p sim {this}", found.seed);
    assert_eq!(found.line, line);
    assert!(!found.story.is_empty());
    let again = careless_counting().seeds(found.seed..found.seed + 1).run();
    assert_eq!(failure(&again), found);
}

#[test]
fn a_failing_report_panics_with_the_line_to_paste() {
    let report = careless_counting().run();
    let said = catch_unwind(|| report.assert_ok()).expect_err("it panics");
    let said = said.downcast_ref::<String>().expect("a text");
    assert!(said.contains("\nSIM_SEED="), "{said}");
}

#[test]
fn a_service_that_crashes_breaks_a_rule_unless_that_is_right() {
    async fn crashes(mut ctx: Context) -> Result<(), String> {
        match ctx.recv().await {
            Some(_) => Err("as planned".to_owned()),
            None => Ok(()),
        }
    }
    let crashing = || {
        Sim::new(|rt| {
            App::builder(rt)
                .service("crashes", crashes)
                .expect("a name")
                .build()
        })
        .clients(1..=1, |client| async move {
            let mut socket = client.connect("crashes").await?;
            socket.send("now").await?;
            client.sleep(Duration::from_secs(5)).await;
            socket.close().await
        })
        .seeds(0..3)
    };
    let found = failure(&crashing().run());
    assert!(found.violation.starts_with("quiescence: "), "{found}");
    crashing().crashes_are_right().run().assert_ok();
}

#[test]
fn a_client_that_never_ends_breaks_a_rule() {
    let report = counting()
        .clients(1..=1, |client| async move {
            client.sleep(Duration::from_secs(1_000)).await;
            Ok(())
        })
        .seeds(0..1)
        .run();
    let found = failure(&report);
    assert!(
        found.violation.contains("had not come to its end"),
        "{found}"
    );
}

#[test]
fn rules_of_ones_own_see_what_clients_noted() {
    let noted = |most: usize| {
        move |history: &sim::kit::History<'_>| {
            let numbers: Vec<_> = history.noted().collect();
            match numbers.get(most) {
                None => Ok(()),
                Some((t, client, text)) => {
                    Err(Breach::new(*t, format!("client {client} noted {text}")))
                }
            }
        }
    };
    counting()
        .rule("notes", noted(10))
        .seeds(0..10)
        .run()
        .assert_ok();
    let found = failure(&counting().rule("notes", noted(1)).seeds(0..10).run());
    assert!(found.violation.starts_with("notes: at "), "{found}");
    assert!(found.violation.contains("noted number 2"), "{found}");
}

#[test]
fn a_lost_connection_is_no_failure_where_a_fault_explains_it() {
    let cut = Faults::none().with(Fault::Partition).with(Fault::Crash);
    let report = counting()
        .clients(1..=3, |client| async move {
            let mut socket = client.connect("count").await?;
            for _ in 0..40 {
                socket.send("?").await?;
                socket.recv().await?;
                client.sleep(Duration::from_secs(1)).await;
            }
            socket.close().await
        })
        .faults(cut)
        .within(Duration::from_secs(180))
        .seeds(0..20)
        .run();
    report.assert_ok();
}
