//! Hours of virtual time: no tick drifts, whatever is done to the wall clock.

use sim::plan::{Action, Network, Plan, Timed};
use sim::run::{Backend, run_on};
use sim::trace::{Entry, Event};
use sim::{Report, Trace};

const HOURS: u64 = 3;

/// One client of `timenow` for hours, in which somebody sets the clock several times.
fn plan() -> Plan {
    let at = |at_ms, action| Timed { at_ms, action };
    let (client, service) = (1, "timenow".to_owned());
    let end = HOURS * 3_600_000;
    let connect = Action::Connect {
        client,
        service,
        zone: 0,
        again: false,
    };
    let mut actions = vec![at(0, connect)];
    let jumps = [-1, 1, 999, -3_600_000, 86_400_000, -1_500, 250];
    for (place, by_ms) in jumps.into_iter().enumerate() {
        let place = place as u64;
        let at_ms = (place + 1) * end / 8 + 137 * place;
        actions.push(at(at_ms, Action::Wall { by_ms }));
    }
    actions.push(at(end - 500, Action::Leave { client, code: 1000 }));
    actions.push(at(end + 5_000, Action::Drain));
    Plan {
        seed: 1,
        network: Network {
            zones: 1,
            tick_ms: 250,
            latency_ms_min: 5,
            latency_ms_max: 5,
            slack_ms: 0,
        },
        actions,
        end_ms: end + 20_000,
        wild: None,
    }
}

#[test]
fn no_tick_drifts_in_hours_while_somebody_sets_the_clock() {
    let trace = run_on(&plan(), Backend::Simnet).expect("a result");
    let mut entries = trace.entries().to_vec();
    Report::new(plan(), trace).assert_ok();
    let is_told = |entry: &&Entry| matches!(entry.event, Event::Received { .. });
    let told: Vec<u64> = entries.iter().filter(is_told).map(|e| e.t).collect();
    assert_eq!(told.len() as u64, HOURS * 1_800);
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] == 2_000_000));
    // A drift of a ten-thousandth is found.
    for entry in &mut entries {
        if let Event::Received { .. } = entry.event {
            entry.t += (entry.t - told[0]) / 10_000;
        }
    }
    let drifted = Report::new(plan(), Trace::from_entries(entries));
    let names: Vec<_> = drifted.violations.iter().map(|v| v.checker).collect();
    assert!(names.contains(&"timenow"), "{names:?}");
}
