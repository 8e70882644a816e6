//! Every deliberate bug of the product is found, within the seeds that are stated here.
//!
//! `cargo test -p sim --features planted --test planted -- --nocapture` prints what found each of
//! them, and when. Without a bug the same seeds are clean.

use std::fmt::Write as _;

use busline::planted::{Bug, plant};
use sim::checker::Violation;
use sim::shrink::{RUNS_MAX, Symptom, shrink};
use sim::{Plan, Report, core, run, swarm};

/// Seeds of the core that find the bug, none if it is not of the core; and seeds of the whole
/// server, if those find it too.
struct Found {
    bug: Bug,
    core: u64,
    server: Option<u64>,
}

const fn found(bug: Bug, core: u64, server: Option<u64>) -> Found {
    Found { bug, core, server }
}

/// With a margin: the first seed is mostly a third of what is stated.
const FOUND: &[Found] = &[
    found(Bug::OneWoken, 10, Some(50)),
    found(Bug::RoomWakesNobody, 200, Some(300)),
    found(Bug::WindowTooSmall, 50, Some(250)),
    found(Bug::WindowTooLarge, 50, None),
    found(Bug::LagTooLow, 50, Some(250)),
    found(Bug::LagNotCounted, 10, Some(10)),
    found(Bug::UnreadNotCounted, 10, Some(10)),
    found(Bug::BytesKept, 500, None),
    found(Bug::TopicLeaked, 10, Some(10)),
    found(Bug::CountsForgotten, 10, Some(10)),
    found(Bug::BatchSwapped, 50, Some(50)),
    found(Bug::DeliveredTwice, 50, Some(50)),
    found(Bug::BatchEvictedWhole, 100, Some(250)),
    found(Bug::FormOfWhole, 60, Some(250)),
    found(Bug::ReleaseNotWoken, 20, Some(200)),
    found(Bug::RoomInvented, 50, Some(250)),
    found(Bug::OffsetSkipped, 20, Some(50)),
    found(Bug::HoleAtSeam, 60, Some(100)),
    found(Bug::DuplicateAtSeam, 20, Some(50)),
    found(Bug::ExpiredServed, 20, Some(400)),
    found(Bug::HistoryBoundForgotten, 20, Some(100)),
    found(Bug::EpochChangedOnShelf, 20, Some(50)),
    found(Bug::EpochKeptOverCrash, 20, Some(50)),
    found(Bug::EndForgotten, 100, None),
    found(Bug::RestartLosesNewest, 60, Some(200)),
    found(Bug::EpochChangedByRestart, 60, Some(200)),
    found(Bug::ResumedTooEarly, 20, Some(50)),
    found(Bug::ResumedTooLate, 200, Some(50)),
    found(Bug::EpochChangedByInstance, 500, None),
    found(Bug::IdempotencyKeyForgotten, 0, Some(100)),
    found(Bug::IdempotencyKeyShared, 0, Some(100)),
    found(Bug::BatchEndsAtFault, 0, Some(100)),
    found(Bug::LiveKept, 0, Some(200)),
    found(Bug::PlaceOfNext, 0, Some(100)),
    found(Bug::DropNotTold, 0, Some(100)),
    found(Bug::DropAnswered, 0, Some(100)),
    found(Bug::DeadlineDoubled, 0, Some(800)),
    found(Bug::LeaseKept, 10, Some(10)),
    found(Bug::LeaseReleasedTwice, 10, Some(10)),
    found(Bug::StopNotSignalled, 10, Some(10)),
    found(Bug::StopNotAwaited, 10, Some(10)),
    found(Bug::GraceIgnored, 60, Some(50)),
    found(Bug::BackoffSkipped, 100, Some(10)),
    found(Bug::CooldownIgnored, 200, Some(100)),
    found(Bug::CrashTolerated, 200, Some(100)),
    found(Bug::LingerSkipped, 10, Some(20)),
    found(Bug::TimerKept, 10, Some(400)),
    found(Bug::StatusWakesNobody, 10, Some(10)),
    found(Bug::DroppedNotReported, 200, None),
    found(Bug::StaleDelivered, 2000, None),
    found(Bug::InboxLeftUnread, 1200, None),
    found(Bug::RoomKept, 20, Some(20)),
    found(Bug::RoomTakenFromJoined, 20, Some(20)),
    found(Bug::RoomPermitKept, 20, Some(20)),
    found(Bug::RoomTooMany, 800, None),
    found(Bug::GenerationRestarted, 20, Some(20)),
    found(Bug::InboxShared, 100, Some(20)),
    found(Bug::PresenceGhost, 20, None),
    found(Bug::PresenceShared, 400, None),
    found(Bug::LeaveNoticeRepeated, 50, None),
    found(Bug::JoinNotTold, 20, Some(20)),
    found(Bug::JoinToldTwice, 20, Some(20)),
    found(Bug::JoinToldLate, 20, Some(20)),
    found(Bug::LeaveNotTold, 20, Some(20)),
    found(Bug::LeaveToldEarly, 50, Some(100)),
    found(Bug::NextToldToPresent, 2000, None),
    found(Bug::ExceptReached, 20, Some(20)),
    found(Bug::DirectOvertakes, 50, Some(20)),
    found(Bug::DrainAdmits, 50, Some(400)),
    found(Bug::DrainForgetsService, 10, Some(20)),
    found(Bug::DrainNotAwaited, 20, Some(10)),
    found(Bug::DrainDropsPublished, 300, None),
    found(Bug::DrainLeavesUnread, 1500, None),
    found(Bug::DrainOvertakesService, 1500, None),
    found(Bug::PermitKept, 10, Some(10)),
    found(Bug::SessionTooMany, 10, Some(10)),
    found(Bug::SessionTooFew, 50, Some(10)),
    found(Bug::StalledCodeWrong, 500, Some(50)),
    found(Bug::SlowCodeWrong, 500, Some(100)),
    found(Bug::CloseNotEchoed, 10, Some(20)),
    found(Bug::CloseUnanswered, 600, None),
    found(Bug::DataAfterClose, 10, Some(10)),
    found(Bug::CloseTooLong, 20, Some(10)),
    found(Bug::EndNotAwaited, 500, None),
    found(Bug::PendingNotCounted, 500, Some(1500)),
    found(Bug::GatheredLost, 500, Some(400)),
    found(Bug::PublishedShort, 20, Some(200)),
    found(Bug::PongDropped, 20, Some(100)),
    found(Bug::PingNotSent, 10, Some(50)),
    found(Bug::ReadAheadLost, 10, Some(10)),
    found(Bug::ShortWriteRepeated, 20, Some(10)),
    found(Bug::FlushForgotten, 10, None),
    found(Bug::WriteNeverStuck, 100, Some(20)),
    found(Bug::ProgressIgnored, 500, None),
    found(Bug::AnswersTimeoutIgnored, 1000, None),
    found(Bug::AnswersNotAwaited, 200, None),
    found(Bug::DeadlineNotMoved, 100, Some(20)),
    found(Bug::SlowConsumerKept, 500, None),
    found(Bug::RateNotKept, 0, Some(100)),
    found(Bug::RateTooLow, 0, Some(100)),
    found(Bug::DrainNotPaced, 0, Some(100)),
    found(Bug::LossNotTold, 20, Some(250)),
    found(Bug::RestartToldAgain, 20, Some(100)),
    found(Bug::IntervalDoubled, 500, Some(400)),
    found(Bug::SilentKept, 100, Some(50)),
    found(Bug::SilentTooEarly, 40, Some(100)),
    found(Bug::ExcuseForgotten, 500, None),
    found(Bug::MessageEndless, 0, Some(100)),
    found(Bug::CompressedUnmarked, 0, Some(100)),
    found(Bug::MaskRestarted, 50, Some(20)),
    found(Bug::CharacterCutRefused, 50, None),
    found(Bug::LimitTooSmall, 10, Some(20)),
    found(Bug::LimitTooLarge, 200, Some(200)),
    found(Bug::FragmentsForgotten, 10, Some(10)),
    found(Bug::CloseCodeTaken, 100, Some(50)),
];

/// The rule that is broken first by one of the seeds.
fn first(seeds: u64, violation: impl Fn(u64) -> Option<String>) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| violation(seed).map(|text| (seed, text)))
}

fn core(seed: u64) -> Option<String> {
    let report = core::run(&core::Plan::draw(seed));
    report.violations.first().map(ToString::to_string)
}

fn server(seed: u64) -> Option<String> {
    let plan = swarm::swarm(seed);
    match run::run(&plan) {
        Ok(trace) => {
            let report = Report::new(plan, trace);
            report.violations.first().map(ToString::to_string)
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Whether the bug was found, told in a line.
fn look(bug: Bug, runs: &str, found: Option<(u64, String)>, missed: &mut String) {
    let told = match found {
        Some((seed, text)) => format!("{bug:?}: {runs}, seed {seed}: {text}"),
        None => {
            // Writing to a string succeeds.
            let _ = writeln!(missed, "{bug:?} by {runs}");
            format!("{bug:?}: {runs}: NOT FOUND")
        }
    };
    let end = told
        .char_indices()
        .nth(160)
        .map_or(told.len(), |(end, _)| end);
    println!("{}", &told[..end]);
}

#[test]
fn every_bug_is_found_within_its_seeds() {
    // A bug may make the product panic, which is then told as a broken rule.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = String::new();
    for Found {
        bug,
        core: of_core,
        server: of_server,
    } in FOUND
    {
        plant(Some(*bug));
        if *of_core > 0 {
            look(*bug, "core", first(*of_core, core), &mut missed);
        }
        if let Some(seeds) = of_server {
            look(*bug, "server", first(*seeds, server), &mut missed);
        }
        plant(None);
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found within their seeds:\n{missed}");
}

/// What the whole server breaks in this plan.
fn broken(plan: &Plan) -> Vec<Violation> {
    let trace = run::run(plan).expect("it comes to a result");
    Report::new(plan.clone(), trace).violations
}

/// The first seed that breaks a rule, and how.
fn failing<P>(draw: impl Fn(u64) -> P, broken: impl Fn(&P) -> Vec<Violation>) -> (P, Symptom) {
    let found = (0..100).map(draw).find_map(|plan| {
        let symptom = Symptom::of(broken(&plan).first()?);
        Some((plan, symptom))
    });
    found.expect("the bug is found")
}

#[test]
fn a_leak_is_shrunk_to_ten_actions() {
    const MOST: usize = 10;
    for bug in [Bug::LeaseKept, Bug::TopicLeaked] {
        plant(Some(bug));
        let of_core = |plan: &core::Plan| core::run(plan).violations;
        let (plan, symptom) = failing(core::Plan::draw, of_core);
        let fails = |plan: &core::Plan| symptom.is_among(&of_core(plan));
        let small = core::shrink(&plan, RUNS_MAX, fails).expect("it fails").plan;
        assert!(small.steps.len() <= MOST, "{bug:?}: {:?}", small.steps);

        let (plan, symptom) = failing(swarm::swarm, broken);
        let fails = |plan: &Plan| symptom.is_among(&broken(plan));
        let small = shrink(&plan, RUNS_MAX, fails).expect("it fails").plan;
        assert!(small.actions.len() <= MOST, "{bug:?}: {:?}", small.actions);
        plant(None);
    }
}

/// Bugs of the file system, which no simulator runs: the unit tests of the history file find them,
/// with the same feature.
const OF_FILES: &[Bug] = &[Bug::HistoryFileReadTwice];

#[test]
fn every_bug_is_in_the_table() {
    let missing: Vec<_> = Bug::ALL
        .iter()
        .filter(|bug| !OF_FILES.contains(bug))
        .filter(|bug| FOUND.iter().all(|found| found.bug != **bug))
        .collect();
    assert!(missing.is_empty(), "add to FOUND: {missing:?}");
}

#[test]
fn without_a_bug_the_same_seeds_are_clean() {
    let most = |of: fn(&Found) -> u64| FOUND.iter().map(of).max().unwrap_or(0);
    assert_eq!(first(most(|found| found.core), core), None);
    assert_eq!(first(most(|found| found.server.unwrap_or(0)), server), None);
}
