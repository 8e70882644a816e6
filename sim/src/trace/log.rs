//! What the product logs, as events of the trace.

use std::collections::BTreeMap;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};

use super::{Event, Recorder};
use crate::shared::Shared;

/// A subscriber that records the product's events of level debug and above, and no others.
pub(crate) struct LogTap {
    recorder: Recorder,
    spans: Shared<Spans>,
}

/// The spans there are, by the order they came in, and those that are entered.
#[derive(Default)]
struct Spans {
    last: u64,
    open: BTreeMap<u64, Span>,
    entered: Vec<u64>,
}

struct Span {
    fields: BTreeMap<&'static str, String>,
    handles: usize,
}

impl LogTap {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            spans: Shared::default(),
        }
    }
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() <= Level::DEBUG && (target == "busline" || target.starts_with("busline::"))
}

impl Subscriber for LogTap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields {
            others: self.spans.with(|spans| spans.fields()),
            ..Fields::default()
        };
        event.record(&mut fields);
        let metadata = event.metadata();
        self.recorder.record(Event::Log {
            level: metadata.level().as_str(),
            target: metadata.target(),
            message: fields.message,
            fields: fields.others,
        });
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.spans.with(|spans| {
            spans.last += 1;
            let span = Span {
                fields: fields.others,
                handles: 1,
            };
            spans.open.insert(spans.last, span);
            Id::from_u64(spans.last)
        })
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.spans.with(|spans| {
            if let Some(span) = spans.open.get_mut(&id.into_u64()) {
                span.fields.extend(fields.others);
            }
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, id: &Id) {
        self.spans.with(|spans| spans.entered.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        self.spans.with(|spans| {
            let place = spans.entered.iter().rposition(|of| *of == id.into_u64());
            place.map(|place| spans.entered.remove(place));
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.spans.with(|spans| {
            if let Some(span) = spans.open.get_mut(&id.into_u64()) {
                span.handles += 1;
            }
        });
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans.with(|spans| {
            let Some(span) = spans.open.get_mut(&id.into_u64()) else {
                return false;
            };
            span.handles -= 1;
            let is_closed = span.handles == 0;
            if is_closed {
                spans.open.remove(&id.into_u64());
            }
            is_closed
        })
    }
}

impl Spans {
    /// The fields of all spans that are entered; those of inner ones come last.
    fn fields(&self) -> BTreeMap<&'static str, String> {
        let spans = self.entered.iter().filter_map(|id| self.open.get(id));
        spans.flat_map(|span| span.fields.clone()).collect()
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<&'static str, String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.others.insert(name, text)),
        }
    }
}
