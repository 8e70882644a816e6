//! Messages as arrows: from the lane of the sender over that of the service to each receiver.

use std::collections::BTreeMap;

use super::svg::{Svg, brief};
use super::{Scene, seconds};

/// More arrows than this hide what they show; those nearest to the violation are drawn.
const ARROWS_MAX: usize = 400;

/// One text at one service, from one client to many.
#[derive(Default)]
struct Message {
    sent: Option<(u64, u32)>,
    received: Vec<(u64, u32)>,
}

impl Message {
    /// Where it is in time.
    fn t(&self) -> u64 {
        let received = self.received.iter().map(|(t, _)| *t).min();
        self.sent.map(|(t, _)| t).or(received).unwrap_or(0)
    }

    fn arrows(&self) -> usize {
        self.received.len() + usize::from(self.sent.is_some())
    }

    /// When the service had it: the trace does not tell, but the first receiver has it one way
    /// later.
    fn at_service(&self, one_way: u64) -> u64 {
        let sent = self.sent.map_or(0, |(t, _)| t);
        let first = self.received.iter().map(|(t, _)| *t).min();
        first.map_or(sent + one_way, |first| {
            first.saturating_sub(one_way).max(sent)
        })
    }
}

/// Draws the messages, all of them or those nearest to what the page is about.
pub(super) fn draw(scene: &mut Scene<'_>, svg: &mut Svg) {
    let focus = scene.focus();
    let messages = messages(scene);
    let mut order: Vec<_> = messages.iter().collect();
    order.sort_by_key(|(_, message)| message.t().abs_diff(focus));
    let (mut count, mut note) = (0, None);
    let fits = |(_, message): &(&(&str, &str), &Message)| {
        count += message.arrows();
        count <= ARROWS_MAX
    };
    let drawn: Vec<_> = order.into_iter().take_while(fits).collect();
    if drawn.len() < messages.len() {
        note = Some(format!(
            "Arrows are drawn for {} of {} messages, those nearest to {}.",
            drawn.len(),
            messages.len(),
            seconds(focus)
        ));
    }
    for ((service, text), message) in drawn {
        arrows(scene, svg, (service, text), message);
    }
    scene.notes.extend(note);
}

fn messages<'a>(scene: &'a Scene<'_>) -> BTreeMap<(&'a str, &'a str), Message> {
    let mut messages: BTreeMap<(&str, &str), Message> = BTreeMap::new();
    for (client, life) in &scene.history.clients {
        for said in &life.sent {
            let key = (life.service.as_str(), said.text.as_str());
            messages
                .entry(key)
                .or_default()
                .sent
                .get_or_insert((said.t, *client));
        }
        for said in &life.received {
            let key = (life.service.as_str(), said.text.as_str());
            messages
                .entry(key)
                .or_default()
                .received
                .push((said.t, *client));
        }
    }
    messages
}

fn arrows(scene: &Scene<'_>, svg: &mut Svg, (service, text): (&str, &str), message: &Message) {
    let lanes = &scene.lanes;
    let Some(hub) = lanes.service(service) else {
        return;
    };
    let latency = scene.report.plan.network.latency_ms_min * 1000;
    let middle = (message.at_service(latency), hub);
    let text = brief(text);
    let culprit = scene.suspect().map(|client| (scene.focus(), client));
    svg.group("message", |svg| {
        if let Some((t, client)) = message.sent
            && let Some(y) = lanes.client(client)
        {
            let (class, end) = match message.received.as_slice() {
                [] => ("arrow lost", "; nobody receives it"),
                _ => ("arrow up", ""),
            };
            let t_text = seconds(t);
            let title = format!("client {client} sends `{text}` to {service} at {t_text}{end}");
            svg.line(class, (t, y), middle, &title);
        }
        for (t, client) in &message.received {
            if let Some(y) = lanes.client(*client) {
                let t_text = seconds(*t);
                let title = format!("`{text}` of {service} reaches client {client} at {t_text}");
                let is_broken = culprit == Some((*t, *client));
                let class = if is_broken {
                    "arrow guilty"
                } else {
                    "arrow down"
                };
                svg.line(class, middle, (*t, y), &title);
            }
        }
    });
}
