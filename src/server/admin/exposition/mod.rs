//! `/metrics`: the application's counters as OpenMetrics; `docs/metrics.md` lists them.

use std::fmt;

use axum::http::HeaderMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::app::{App, Counts};
use crate::bus::HistoryCounts;
use crate::histogram::{BOUNDS, HistogramCounts, bound};
use crate::metrics::{CloseReason, DisplaceReason, RefuseReason, RequestOutcome};
use crate::registry::KindStatus;
use crate::rt::Runtime;
use crate::server::accept::{MediaType, prefers};

const OPEN_METRICS: MediaType = MediaType {
    of: "application",
    sub: "openmetrics-text",
    version: Some("1.0.0"),
};

const PLAIN: MediaType = MediaType {
    of: "text",
    sub: "plain",
    version: Some("0.0.4"),
};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0, for clients that ask for it, as Prometheus does.
    OpenMetrics,
    /// The older format of Prometheus, for all other clients: it has no infos, and its counters are
    /// declared with their suffix.
    Plain,
}

impl Format {
    /// The format that the client prefers.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        if prefers(headers, OPEN_METRICS, PLAIN) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics of the application at this moment.
pub(super) fn text<R: Runtime>(app: &App<R>, format: Format) -> String {
    shown(Snapshot::of(app), format)
}

fn shown(snapshot: Snapshot, format: Format) -> String {
    let mut registry = Registry::with_prefix("busline");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("a string takes any text");
    match format {
        Format::OpenMetrics => text,
        Format::Plain => plain(&text),
    }
}

/// Converts OpenMetrics into the older format.
fn plain(open_metrics: &str) -> String {
    let mut plain = String::new();
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, ""));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let lines = [
                format!("# HELP {name}{suffix} {help}\n"),
                format!("# TYPE {name}{suffix} {kind}\n"),
            ];
            plain.extend(lines);
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

mod callers;
mod histories;
mod presence;

/// All values of one response, read once so that they are consistent.
#[derive(Debug)]
struct Snapshot {
    counts: Counts,
    services: Vec<(String, KindStatus)>,
    rooms: Labelled,
    histories: HistoryCounts,
    is_draining: bool,
}

/// One family of metrics.
struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
}

/// The values of a label, each with a number.
type Labelled = Vec<(String, u64)>;

enum Values {
    Counter(u64),
    Counters(&'static str, Labelled),
    Gauge(u64),
    Gauges(&'static str, Labelled),
    Histogram(HistogramCounts),
    Info(&'static str, &'static str),
    /// Counters with two labels.
    Pairs([&'static str; 2], Vec<([&'static str; 2], u64)>),
}

impl Snapshot {
    fn of<R: Runtime>(app: &App<R>) -> Self {
        let registry = app.registry();
        let status = |name: &crate::bus::ServiceName| {
            let status = registry.kind_status(name.as_str())?;
            Some((name.to_string(), status))
        };
        let services: Vec<_> = registry.names().filter_map(status).collect();
        let kinds = services.iter().filter(|(name, _)| registry.has_rooms(name));
        let rooms = kinds.map(|(name, status)| (name.clone(), status.rooms as u64));
        Self {
            counts: app.counts(),
            rooms: rooms.collect(),
            histories: app.bus().histories(),
            services,
            is_draining: app.is_draining(),
        }
    }

    fn families(&self) -> Vec<Family> {
        let mut families = self.connections();
        families.push(self.keys());
        families.extend(self.sessions());
        families.extend(self.messages());
        families.extend(self.bus());
        families.extend(self.services());
        families.extend(histories::families(&self.histories));
        families.extend(presence::families(&self.services));
        families.extend(callers::families(&self.counts.callers));
        families
    }

    fn connections(&self) -> Vec<Family> {
        let sessions = self.counts.sessions;
        let displaced =
            DisplaceReason::ALL.map(|r| (r.name().to_owned(), sessions.displaced_for(r)));
        vec![
            info("build", "The program", "version", env!("CARGO_PKG_VERSION")),
            gauge(
                "draining",
                "1 once the server drains",
                u64::from(self.is_draining),
            ),
            counter(
                "connections_accepted",
                "Connections accepted, for any request",
                sessions.accepted,
            ),
            counter(
                "connections_delayed",
                "Times the next connection waited for the rate of accepts",
                sessions.accepts_delayed,
            ),
            counter(
                "connections_refused",
                "Connections closed because all that their address may have are being served",
                sessions.accepts_refused,
            ),
            counters(
                "connections_displaced",
                "Connections without a whole request closed to make room for newer ones",
                "reason",
                displaced.into(),
            ),
            counter(
                "log_lines_dropped",
                "Lines of the log that were dropped because their reader was too slow",
                self.counts.log_lines_dropped,
            ),
            counter(
                "operators_refused",
                "Requests to operators' listeners refused for their host or their page",
                sessions.operators_refused,
            ),
        ]
    }

    fn keys(&self) -> Family {
        let sessions = self.counts.sessions;
        let outcomes = [
            ("fetched", sessions.keys_fetched),
            ("failed", sessions.keys_not_fetched),
        ];
        let outcomes = outcomes.map(|(outcome, count)| (outcome.to_owned(), count));
        let help = "Fetches of the keys that an issuer of tokens publishes";
        counters("key_fetches", help, "outcome", outcomes.into())
    }

    fn sessions(&self) -> Vec<Family> {
        let sessions = self.counts.sessions;
        let closed = CloseReason::ALL.map(|r| (r.name().to_owned(), sessions.closed_for(r)));
        let refused = RefuseReason::ALL.map(|r| (r.name().to_owned(), sessions.refused_for(r)));
        let requests =
            RequestOutcome::ALL.map(|end| (end.name().to_owned(), sessions.requests(end)));
        vec![
            gauge(
                "sessions",
                "Sessions there are",
                self.counts.sessions_open as u64,
            ),
            counter("sessions_opened", "Sessions opened", sessions.opened),
            counters(
                "sessions_closed",
                "Sessions that have ended",
                "reason",
                closed.into(),
            ),
            counters(
                "sessions_refused",
                "Clients refused",
                "reason",
                refused.into(),
            ),
            histogram(
                "join_to_running_seconds",
                "From a client's admission to an instance of its service running for it",
                sessions.running_after,
            ),
            counter("pings_sent", "Pings sent to silent clients", sessions.pings),
            counter(
                "read_pauses",
                "Times a client was not read for a while because it had sent what it may",
                sessions.pauses,
            ),
            counters(
                "requests",
                "Requests to services by their end",
                "outcome",
                requests.into(),
            ),
            gauge(
                "session_queue_bytes",
                "Bytes that all sessions together hold for clients",
                self.counts.queued_bytes,
            ),
        ]
    }

    fn messages(&self) -> Vec<Family> {
        let sessions = self.counts.sessions;
        let bus = self.counts.bus.messages;
        let lost = [
            ("lagged", bus.lost_lagged),
            ("superseded", bus.lost_superseded),
            ("unread", bus.lost_unsubscribed),
            ("gone", bus.lost_gone),
            ("unsent", sessions.lost_unsent),
            ("stale", sessions.stale),
            ("not_taken", sessions.lost_not_taken),
        ];
        let lost = lost.map(|(reason, count)| (reason.to_owned(), count));
        vec![
            counter(
                "messages_received",
                "Messages received from clients",
                sessions.messages_in,
            ),
            counter(
                "received_bytes",
                "Payload bytes of messages received",
                sessions.bytes_in,
            ),
            counter(
                "messages_sent",
                "Messages written to clients",
                sessions.messages_out,
            ),
            counter(
                "sent_bytes",
                "Bytes written to clients, frames included",
                sessions.bytes_out,
            ),
            counters(
                "messages_lost",
                "Messages that a client or a service did not get",
                "reason",
                lost.into(),
            ),
            histogram(
                "publish_to_written_seconds",
                "From a service's publish to the message being written to a client",
                sessions.written_after,
            ),
        ]
    }

    fn bus(&self) -> Vec<Family> {
        let bus = self.counts.bus;
        vec![
            gauge("topics", "Topics that have a subscriber", bus.topics as u64),
            gauge("subscriptions", "Subscriptions", bus.subscriptions as u64),
            gauge(
                "topic_bytes",
                "Payload bytes kept for subscribers",
                bus.bytes as u64,
            ),
            counter(
                "messages_excluded",
                "Messages to all clients but one left out for that one, and closes by a service",
                self.counts.sessions.excluded,
            ),
            counter(
                "published",
                "Messages published on any topic",
                bus.messages.published,
            ),
            counter(
                "deliveries_owed",
                "Messages times subscribers",
                bus.messages.owed,
            ),
            counter(
                "deliveries",
                "Messages that subscribers have received",
                bus.messages.delivered,
            ),
            gauge(
                "deliveries_pending",
                "Deliveries in the windows",
                bus.messages.pending,
            ),
        ]
    }

    fn services(&self) -> Vec<Family> {
        let each = |value: fn(&KindStatus) -> u64| -> Labelled {
            let services = self.services.iter();
            services
                .map(|(name, status)| (name.clone(), value(status)))
                .collect()
        };
        let rooms = self.rooms.clone();
        let rooms = gauges("rooms", "Rooms of a kind at present", "service", rooms);
        let gauges = |name, help, value| gauges(name, help, "service", each(value));
        let counters = |name, help, value| counters(name, help, "service", each(value));
        vec![
            rooms,
            gauges("service_clients", "Clients of a service", |s| s.clients),
            gauges("service_running", "Instances that exist", |s| {
                s.counts.starts.saturating_sub(s.counts.exits)
            }),
            counters("service_starts", "Instances started", |s| s.counts.starts),
            counters("service_crashes", "Instances crashed", |s| s.counts.crashes),
            counters(
                "service_blocked",
                "Times a service kept its thread from all others for 100 ms",
                |s| s.blocked,
            ),
            counters(
                "service_aborts",
                "Instances aborted after their grace",
                |s| s.counts.aborts,
            ),
        ]
    }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    let values = Values::Counter(value);
    Family { name, help, values }
}

fn counters(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: Labelled,
) -> Family {
    let values = Values::Counters(label, values);
    Family { name, help, values }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Family {
    let values = Values::Gauge(value);
    Family { name, help, values }
}

fn gauges(name: &'static str, help: &'static str, label: &'static str, values: Labelled) -> Family {
    let values = Values::Gauges(label, values);
    Family { name, help, values }
}

fn histogram(name: &'static str, help: &'static str, counts: HistogramCounts) -> Family {
    let values = Values::Histogram(counts);
    Family { name, help, values }
}

fn info(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    value: &'static str,
) -> Family {
    let values = Values::Info(label, value);
    Family { name, help, values }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.families() {
            let kind = family.values.metric_type();
            let metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            family.values.encode(metric)?;
        }
        Ok(())
    }
}

impl EncodeMetric for Values {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Counters(label, values) => values.iter().try_for_each(|(of, value)| {
                let labels = [(*label, of.as_str())];
                let mut encoder = encoder.encode_family(&labels)?;
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Gauges(label, values) => values.iter().try_for_each(|(of, value)| {
                let labels = [(*label, of.as_str())];
                encoder.encode_family(&labels)?.encode_gauge(value)
            }),
            Self::Histogram(counts) => {
                let bounds = (0..BOUNDS).map(|class| bound(class).as_secs_f64());
                let bounds = bounds.chain([f64::INFINITY]);
                let buckets: Vec<_> = bounds.zip(counts.classes).collect();
                let (sum, count) = (counts.sum.as_secs_f64(), counts.count());
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
            Self::Info(label, value) => encoder.encode_info(&[(*label, *value)]),
            Self::Pairs([one, two], values) => values.iter().try_for_each(|(of, value)| {
                let labels = [(*one, of[0]), (*two, of[1])];
                let mut encoder = encoder.encode_family(&labels)?;
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) | Self::Counters(..) | Self::Pairs(..) => MetricType::Counter,
            Self::Gauge(_) | Self::Gauges(..) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
            Self::Info(..) => MetricType::Info,
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
