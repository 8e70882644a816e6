//! Situations that have rules of their own, with the numbers of each policy.

use super::*;

fn crash(lifecycle: &mut Lifecycle, now: Instant) -> Option<Effect> {
    let generation = lifecycle.generation();
    let exit = ExitKind::Crashed;
    lifecycle.on(now, Event::Exited { generation, exit })
}

#[test]
fn the_first_client_starts_and_the_last_one_stops() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    let first = Generation::new(1);
    assert_eq!(lifecycle.on(at(0), Event::Join), Some(Effect::Start(first)));
    assert_eq!(lifecycle.on(at(1), Event::Join), None);
    assert_eq!(lifecycle.on(at(2), LEAVE), None);
    assert_eq!(lifecycle.on(at(3), LEAVE), Some(Effect::Stop(first)));
    let until = Some(at(53));
    assert_eq!(lifecycle.state(), State::Stopping { until });
}

#[test]
fn a_client_that_joins_while_it_lingers_finds_it_warm() {
    let mut lifecycle = Lifecycle::new(policy(20), 1);
    let first = Generation::new(1);
    assert_eq!(lifecycle.on(at(0), Event::Join), Some(Effect::Start(first)));
    assert_eq!(lifecycle.on(at(1), LEAVE), None);
    assert_eq!(lifecycle.state(), State::Lingering { until: at(21) });
    assert_eq!(lifecycle.on(at(20), Event::Timer), None, "not yet");
    assert_eq!(lifecycle.on(at(20), Event::Join), None);
    assert_eq!(lifecycle.state(), State::Running);
    assert_eq!(lifecycle.on(at(22), LEAVE), None);
    assert_eq!(
        lifecycle.on(at(42), Event::Timer),
        Some(Effect::Stop(first))
    );
}

#[test]
fn joiners_wait_for_the_stopping_instance_and_get_the_next_one() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert!(lifecycle.on(at(1), LEAVE).is_some());
    assert_eq!(lifecycle.next_to_serve(), Generation::new(2));
    assert_eq!(lifecycle.on(at(2), Event::Join), None);
    let generation = Generation::new(1);
    let exit = ExitKind::Returned;
    let effect = lifecycle.on(at(3), Event::Exited { generation, exit });
    assert_eq!(effect, Some(Effect::Start(Generation::new(2))));
}

#[test]
fn backoff_doubles_up_to_its_maximum_with_jitter_in_its_upper_half() {
    let policy = LifecyclePolicy {
        crashes_max: NonZeroU32::new(1000).expect("not zero"),
        ..LifecyclePolicy::default()
    };
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut lifecycle = Lifecycle::new(policy.clone(), seed);
        let mut now = at(0);
        assert!(lifecycle.on(now, Event::Join).is_some());
        for full in [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            assert_eq!(crash(&mut lifecycle, now), None);
            let wait = lifecycle
                .deadline()
                .expect("backs off")
                .saturating_since(now);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            waits.push(wait);
            now = now + wait;
            assert!(lifecycle.on(now, Event::Timer).is_some());
        }
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(
        waits.len() > 500,
        "no jitter: {} different waits",
        waits.len()
    );
}

#[test]
fn an_instance_that_outlives_the_window_starts_the_backoff_afresh() {
    let policy = LifecyclePolicy {
        backoff_max: Duration::from_millis(400),
        ..policy(0)
    };
    // The second instance lives for one millisecond less than the window, or for the whole window.
    for (life, longest) in [(999, 20), (1000, 10)] {
        let mut lifecycle = Lifecycle::new(policy.clone(), 1);
        assert!(lifecycle.on(at(0), Event::Join).is_some());
        assert_eq!(crash(&mut lifecycle, at(0)), None);
        assert!(lifecycle.on(at(10), Event::Timer).is_some());
        assert_eq!(crash(&mut lifecycle, at(10 + life)), None);
        let wait = lifecycle
            .deadline()
            .expect("backs off")
            .saturating_since(at(10 + life));
        let longest = Duration::from_millis(longest);
        assert!(
            wait > longest / 2 && wait <= longest,
            "{wait:?} after {life} ms"
        );
    }
}

#[test]
fn too_many_crashes_in_the_window_fail_the_service_and_not_one_fewer() {
    // The third crash is 999 ms or 1,000 ms after the first: inside or outside of the window.
    for (last, failed) in [(999, true), (1000, false)] {
        let mut lifecycle = Lifecycle::new(policy(0), 1);
        assert!(lifecycle.on(at(0), Event::Join).is_some());
        for now in [0, 500, last] {
            assert_eq!(crash(&mut lifecycle, at(now)), None);
            let is_failed = matches!(lifecycle.state(), State::Failed { .. });
            assert_eq!(is_failed, failed && now == last, "crash at {now}");
            if let State::Backoff { until } = lifecycle.state() {
                assert!(lifecycle.on(until, Event::Timer).is_some());
            }
        }
    }
}

fn failed() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    for now in [0, 100, 200] {
        assert_eq!(crash(&mut lifecycle, at(now)), None);
        if let State::Backoff { until } = lifecycle.state() {
            assert!(lifecycle.on(until, Event::Timer).is_some());
        }
    }
    assert_eq!(lifecycle.state(), State::Failed { until: at(700) });
    assert_eq!(lifecycle.counts().crashes, 3);
    lifecycle
}

#[test]
fn a_failed_service_waits_for_nothing_once_nobody_can_join() {
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(300), LEAVE), None);
    assert_eq!(lifecycle.on(at(301), Event::Drain), None);
    assert_eq!(
        (lifecycle.state(), lifecycle.deadline()),
        (State::Stopped, None)
    );
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(300), Event::Drain), None);
    assert!(
        lifecycle.deadline().is_some(),
        "its client is told to leave"
    );
    assert_eq!(lifecycle.on(at(301), LEAVE), None);
    assert_eq!(
        (lifecycle.state(), lifecycle.deadline()),
        (State::Stopped, None)
    );
}

#[test]
fn a_failed_service_refuses_until_its_cooldown_and_then_has_one_trial() {
    let mut lifecycle = failed();
    let retry_after = Duration::from_millis(1);
    let refused = Effect::Refuse(Refusal::Failed { retry_after });
    assert_eq!(lifecycle.on(at(699), Event::Join), Some(refused));
    assert_eq!(
        lifecycle.on(at(699), LEAVE),
        None,
        "its old client is told to leave"
    );
    assert_eq!(lifecycle.on(at(700), Event::Timer), None);
    assert_eq!(lifecycle.state(), State::Stopped);
    let trial = Some(Effect::Start(Generation::new(4)));
    assert_eq!(lifecycle.on(at(800), Event::Join), trial);
    assert_eq!(crash(&mut lifecycle, at(801)), None);
    assert_eq!(
        lifecycle.state(),
        State::Failed { until: at(1301) },
        "one trial, not three"
    );
}

#[test]
fn a_trial_that_outlives_the_window_is_forgiven() {
    let mut lifecycle = failed();
    assert!(
        lifecycle.on(at(700), Event::Timer).is_some(),
        "a client is still there: start"
    );
    assert_eq!(crash(&mut lifecycle, at(1700)), None);
    assert!(matches!(lifecycle.state(), State::Backoff { .. }));
    let until = lifecycle.deadline().expect("backs off");
    assert!(lifecycle.on(until, Event::Timer).is_some());
    assert_eq!(crash(&mut lifecycle, until), None);
    assert!(
        matches!(lifecycle.state(), State::Backoff { .. }),
        "no trial any more"
    );
}

#[test]
fn a_trial_that_outlives_the_window_and_ends_well_is_forgiven_too() {
    let mut lifecycle = failed();
    assert_eq!(lifecycle.on(at(600), LEAVE), None);
    assert_eq!(lifecycle.on(at(700), Event::Timer), None);
    assert!(lifecycle.on(at(700), Event::Join).is_some(), "the trial");
    assert!(lifecycle.on(at(1700), LEAVE).is_some());
    let generation = lifecycle.generation();
    let exit = ExitKind::Returned;
    assert_eq!(
        lifecycle.on(at(1701), Event::Exited { generation, exit }),
        None
    );
    assert!(lifecycle.on(at(9000), Event::Join).is_some());
    assert_eq!(crash(&mut lifecycle, at(9001)), None);
    let until = lifecycle.deadline().expect("backs off");
    assert!(
        matches!(lifecycle.state(), State::Backoff { .. }),
        "one crash is not too many"
    );
    assert!(
        until.saturating_since(at(9001)) <= Duration::from_millis(10),
        "the first of a row"
    );
}

#[test]
fn a_broken_service_is_not_started_anew_by_clients_that_come_and_go() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert_eq!(crash(&mut lifecycle, at(0)), None);
    assert_eq!(lifecycle.on(at(1), LEAVE), None);
    assert_eq!(
        lifecycle.on(at(1), Event::Join),
        None,
        "waits for the backoff"
    );
    assert!(matches!(lifecycle.state(), State::Backoff { .. }));
}

#[test]
fn drain_stops_what_lingers_and_refuses_what_comes() {
    let mut lifecycle = Lifecycle::new(policy(20), 1);
    assert!(lifecycle.on(at(0), Event::Join).is_some());
    assert_eq!(lifecycle.on(at(1), LEAVE), None);
    assert_eq!(
        lifecycle.on(at(2), Event::Drain),
        Some(Effect::Stop(Generation::new(1)))
    );
    let refused = Effect::Refuse(Refusal::Draining);
    assert_eq!(lifecycle.on(at(3), Event::Join), Some(refused));
    assert_eq!(lifecycle.counts().refused, 1);
}

#[test]
#[should_panic(expected = "a client leaves the service, but it has none")]
fn a_leave_without_a_client_is_a_bug_and_says_so() {
    let _ = Lifecycle::new(policy(0), 1).on(at(0), LEAVE);
}

#[test]
#[should_panic(expected = "the service is stopped, but has 1 clients")]
fn a_broken_invariant_is_a_bug_and_says_so() {
    let mut lifecycle = Lifecycle::new(policy(0), 1);
    lifecycle.clients = 1;
    let _ = lifecycle.on(at(0), Event::Timer);
}

#[test]
fn the_jitter_is_splitmix64_within_its_maximum() {
    let mut jitter = Jitter(0);
    for number in [
        0xe220_a839_7b1d_cdaf,
        0x6e78_9e6a_a1b9_65f4,
        0x06c4_5d18_8009_454f,
    ] {
        let nanos = jitter.up_to(Duration::MAX).as_nanos();
        assert_eq!(nanos, number, "the first numbers of the seed 0");
    }
    assert_eq!(jitter.up_to(Duration::ZERO), Duration::ZERO);
    let one = Duration::from_nanos(1);
    let mut seen: Vec<_> = (0..64).map(|_| jitter.up_to(one)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [Duration::ZERO, one], "both ends are drawn");
}

#[test]
#[should_panic(expected = "the service has started 2 instances and 0 have ended")]
fn a_second_instance_trips_the_lifecycle() {
    let mut lifecycle = Lifecycle::new(policy(0), 7);
    let _start = lifecycle.on(at(1), Event::Join);
    lifecycle.counts.starts += 1;
    let _none = lifecycle.on(at(2), Event::Join);
}

#[test]
#[should_panic(expected = "the service has 1 clients, but 2 of them have arrived")]
fn a_client_that_arrives_twice_trips_the_lifecycle() {
    let mut lifecycle = Lifecycle::new(policy(0), 7);
    let _start = lifecycle.on(at(1), Event::Join);
    lifecycle.arrived = 1;
    let _none = lifecycle.on(at(2), Event::Arrived);
}
