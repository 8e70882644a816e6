//! Reads the counters back from both formats; each counter has a value of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::bus::{BusCounts, Dropped, TopicCounts};
use crate::caller::{CallerCounts, Method, Outcome, Turned};
use crate::metrics::{DisplaceReason, SessionCounts};
use crate::registry::LifecycleCounts;
use crate::registry::PresenceTold;

/// The first value of the counters by close reason; below, by refuse and by displace reason.
const CLOSED: u64 = 1_000;
const REFUSED: u64 = 2_000;
const DISPLACED: u64 = 3_000;
const REQUESTS: u64 = 4_000;

/// The first value of the counters of commands, and of calls that were turned away.
const COMMANDS: u64 = 4_000;
const TURNED: u64 = 5_000;

fn histogram(of: u64) -> HistogramCounts {
    let mut counts = HistogramCounts::default();
    counts.classes[1] = of;
    counts.classes[BOUNDS] = 1;
    counts.sum = Duration::from_secs(of);
    counts
}

fn sessions() -> SessionCounts {
    SessionCounts {
        opened: 101,
        closed: 102,
        closed_by: std::array::from_fn(|reason| CLOSED + reason as u64),
        refused: 103,
        refused_by: std::array::from_fn(|reason| REFUSED + reason as u64),
        messages_in: 104,
        bytes_in: 105,
        messages_out: 106,
        bytes_out: 107,
        lost_not_taken: 108,
        lost_unsent: 109,
        stale: 110,
        excluded: 130,
        pings: 111,
        pauses: 112,
        requests_by: std::array::from_fn(|outcome| REQUESTS + outcome as u64),
        written_after: histogram(113),
        running_after: histogram(114),
        accepted: 115,
        accepts_delayed: 116,
        accepts_refused: 117,
        operators_refused: 118,
        keys_fetched: 119,
        keys_not_fetched: 120,
        displaced_by: std::array::from_fn(|reason| DISPLACED + reason as u64),
    }
}

fn bus() -> BusCounts {
    BusCounts {
        topics: 201,
        subscriptions: 202,
        bytes: 203,
        messages: TopicCounts {
            published: 204,
            owed: 205,
            delivered: 206,
            lost_lagged: 207,
            lost_superseded: 208,
            lost_unsubscribed: 209,
            lost_gone: 211,
            pending: 210,
        },
    }
}

fn service() -> KindStatus {
    KindStatus {
        rooms: 1,
        clients: 301,
        counts: LifecycleCounts {
            starts: 302,
            exits: 303 - 302,
            crashes: 304,
            aborts: 305,
            stale: 306,
            refused: 307,
        },
        blocked: 308,
        presence: Some(PresenceTold {
            at_once: 310,
            together: 311,
        }),
    }
}

fn callers() -> CallerCounts {
    let of = |method: usize, outcome: usize| COMMANDS + (2 * method + outcome) as u64;
    CallerCounts {
        commands: std::array::from_fn(|method| std::array::from_fn(|outcome| of(method, outcome))),
        turned: std::array::from_fn(|reason| TURNED + reason as u64),
        repeated: 601,
        in_flight: 602,
        remembered: 603,
        rpcs: 606,
        connections: 604,
        unkept: 605,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        counts: Counts {
            bus: bus(),
            sessions: sessions(),
            sessions_open: 401,
            queued_bytes: 402,
            log_lines_dropped: 403,
            callers: callers(),
        },
        services: vec![("echo".to_owned(), service())],
        rooms: vec![("chat".to_owned(), 309)],
        histories: HistoryCounts {
            live: 501,
            shelved: 502,
            bytes: 503,
            dropped: Dropped {
                evicted: 504,
                expired: 505,
                removed: 506,
            },
            forgotten: 507,
        },
        is_draining: true,
    }
}

/// The expected lines with a value, except for the buckets of histograms.
fn expected() -> BTreeMap<String, String> {
    let version = env!("CARGO_PKG_VERSION");
    let fixed = [
        ("api_rpcs", 606),
        ("api_connections", 604),
        ("api_connections_unkept_total", 605),
        ("api_idempotency_keys", 603),
        ("api_in_flight", 602),
        ("api_repeated_total", 601),
        ("connections_accepted_total", 115),
        ("connections_delayed_total", 116),
        ("connections_refused_total", 117),
        ("draining", 1),
        ("deliveries_owed_total", 205),
        ("deliveries_pending", 210),
        ("deliveries_total", 206),
        ("join_to_running_seconds_count", 115),
        ("key_fetches_total{outcome=\"failed\"}", 120),
        ("key_fetches_total{outcome=\"fetched\"}", 119),
        ("log_lines_dropped_total", 403),
        ("histories{clients=\"some\"}", 501),
        ("histories{clients=\"none\"}", 502),
        ("history_bytes", 503),
        ("history_dropped_total{reason=\"evicted\"}", 504),
        ("history_dropped_total{reason=\"expired\"}", 505),
        ("history_dropped_total{reason=\"removed\"}", 506),
        ("history_forgotten_total", 507),
        ("presence_told_at_once_total{service=\"echo\"}", 310),
        ("presence_told_together_total{service=\"echo\"}", 311),
        ("messages_lost_total{reason=\"gone\"}", 211),
        ("messages_lost_total{reason=\"lagged\"}", 207),
        ("messages_lost_total{reason=\"not_taken\"}", 108),
        ("messages_lost_total{reason=\"stale\"}", 110),
        ("messages_lost_total{reason=\"superseded\"}", 208),
        ("messages_lost_total{reason=\"unread\"}", 209),
        ("messages_lost_total{reason=\"unsent\"}", 109),
        ("messages_received_total", 104),
        ("messages_sent_total", 106),
        ("messages_excluded_total", 130),
        ("operators_refused_total", 118),
        ("pings_sent_total", 111),
        ("publish_to_written_seconds_count", 114),
        ("published_total", 204),
        ("read_pauses_total", 112),
        ("received_bytes_total", 105),
        ("sent_bytes_total", 107),
        ("rooms{service=\"chat\"}", 309),
        ("service_aborts_total{service=\"echo\"}", 305),
        ("service_blocked_total{service=\"echo\"}", 308),
        ("service_clients{service=\"echo\"}", 301),
        ("service_crashes_total{service=\"echo\"}", 304),
        ("service_running{service=\"echo\"}", 301),
        ("service_starts_total{service=\"echo\"}", 302),
        ("session_queue_bytes", 402),
        ("sessions", 401),
        ("sessions_opened_total", 101),
        ("subscriptions", 202),
        ("topic_bytes", 203),
        ("topics", 201),
    ];
    let mut expected: BTreeMap<_, _> = fixed
        .into_iter()
        .map(|(name, value)| (format!("busline_{name}"), value.to_string()))
        .collect();
    let mut more = |line: String, value: &str| expected.insert(line, value.to_owned());
    more(format!("busline_build_info{{version=\"{version}\"}}"), "1");
    more("busline_join_to_running_seconds_sum".into(), "114.0");
    more("busline_publish_to_written_seconds_sum".into(), "113.0");
    for (of, reason) in CloseReason::ALL.into_iter().enumerate() {
        let line = format!(
            "busline_sessions_closed_total{{reason=\"{}\"}}",
            reason.name()
        );
        more(line, &(CLOSED + of as u64).to_string());
    }
    for (of, reason) in RefuseReason::ALL.into_iter().enumerate() {
        let line = format!(
            "busline_sessions_refused_total{{reason=\"{}\"}}",
            reason.name()
        );
        more(line, &(REFUSED + of as u64).to_string());
    }
    for (of, reason) in DisplaceReason::ALL.into_iter().enumerate() {
        let line = format!(
            "busline_connections_displaced_total{{reason=\"{}\"}}",
            reason.name()
        );
        more(line, &(DISPLACED + of as u64).to_string());
    }
    for (of, outcome) in RequestOutcome::ALL.into_iter().enumerate() {
        let line = format!("busline_requests_total{{outcome=\"{}\"}}", outcome.name());
        more(line, &(REQUESTS + of as u64).to_string());
    }
    for (n, method) in Method::ALL.into_iter().enumerate() {
        for (m, outcome) in Outcome::ALL.into_iter().enumerate() {
            let labels = format!(
                "method=\"{}\",outcome=\"{}\"",
                method.name(),
                outcome.name()
            );
            let line = format!("busline_api_commands_total{{{labels}}}");
            more(line, &(COMMANDS + (2 * n + m) as u64).to_string());
        }
    }
    for (of, reason) in Turned::ALL.into_iter().enumerate() {
        let line = format!(
            "busline_api_turned_away_total{{reason=\"{}\"}}",
            reason.name()
        );
        more(line, &(TURNED + of as u64).to_string());
    }
    expected
}

/// The lines with a value, except for the buckets of histograms; asserts that no line is repeated.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.filter(|line| !line.contains("_bucket{")) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let before = read.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} is there twice");
    }
    read
}

#[test]
fn every_count_is_shown_where_it_belongs_in_both_formats() {
    for format in [Format::OpenMetrics, Format::Plain] {
        let text = shown(snapshot(), format);
        assert_eq!(read(&text), expected(), "{format:?}");
    }
}
