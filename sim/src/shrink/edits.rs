//! Single steps towards a smaller plan, none of which knows what fails.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::plan::{Action, Plan};
use crate::wild::{Lengths, Tcp};

/// Actions without which the rules do not hold of any run.
pub(super) fn is_kept(action: &Action) -> bool {
    *action == Action::Drain
}

/// The plan with each wait changed; what is settled after the last action stays so.
pub(super) fn retimed(plan: &Plan, settle_ms: u64, change: impl Fn(usize, u64) -> u64) -> Plan {
    let mut plan = plan.clone();
    let mut before_and_after = Vec::new();
    let (mut before, mut now) = (0, 0);
    for (place, timed) in plan.actions.iter_mut().enumerate() {
        now += change(place, timed.at_ms.saturating_sub(before));
        before = timed.at_ms;
        timed.at_ms = now;
        before_and_after.push((before, now));
    }
    plan.end_ms = plan.end_ms.min(now + settle_ms);
    if let Some(wild) = &mut plan.wild {
        wild.healed_ms = moved(&before_and_after, wild.healed_ms);
    }
    plan
}

/// Where a time is that lies between actions which were moved.
fn moved(before_and_after: &[(u64, u64)], time: u64) -> u64 {
    let next = before_and_after.partition_point(|(before, _)| *before <= time);
    let last = next
        .checked_sub(1)
        .map_or((0, 0), |last| before_and_after[last]);
    let moved = last.1 + (time - last.0);
    before_and_after
        .get(next)
        .map_or(moved, |(_, after)| moved.min(*after))
}

pub(super) fn one_zone(plan: &mut Plan) {
    let mut actions = plan.actions.clone();
    for timed in &mut actions {
        let zero = with(&timed.action, "zone", Value::from(0));
        timed.action = zero.unwrap_or_else(|| timed.action.clone());
    }
    plan.actions = actions;
    plan.network.zones = 1;
}

pub(super) fn least_latency(plan: &mut Plan) {
    plan.network.latency_ms_max = plan.network.latency_ms_min;
}

pub(super) fn latency_of_a_tick(plan: &mut Plan) {
    plan.network.latency_ms_min = plan.network.tick_ms;
    plan.network.latency_ms_max = plan.network.tick_ms;
}

/// Whole reads and writes.
pub(super) fn full_lengths(plan: &mut Plan) {
    if let Some(wild) = &mut plan.wild {
        wild.tcp.lengths = Lengths::Full;
    }
}

/// Links of any rate.
pub(super) fn no_rate(plan: &mut Plan) {
    if let Some(wild) = &mut plan.wild {
        wild.tcp.bytes_per_second = None;
    }
}

/// Buffers that are never full.
pub(super) fn large_buffers(plan: &mut Plan) {
    if let Some(wild) = &mut plan.wild {
        let Tcp {
            send_bytes,
            receive_bytes,
            ..
        } = Tcp::default();
        wild.tcp.send_bytes = send_bytes;
        wild.tcp.receive_bytes = receive_bytes;
    }
}

/// The action as a map, so that actions which come later are shrunk too.
fn map(action: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(action) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// The action with another value in a field that it has.
fn with<A: Serialize + DeserializeOwned>(action: &A, field: &str, value: Value) -> Option<A> {
    let mut map = map(action);
    *map.get_mut(field)? = value;
    serde_json::from_value(Value::Object(map)).ok()
}

/// The client that an action is of.
pub(crate) fn client_of(action: &impl Serialize) -> Option<u64> {
    map(action).get("client")?.as_u64()
}

/// The fields that have a size.
pub(crate) fn fields(action: &impl Serialize) -> Vec<String> {
    const NAMES: [&str; 14] = [
        "do", "call", "method", "deed", "offence", "client", "service", "room", "zone", "code",
        "observer", "topic", "of", "id",
    ];
    let has_size = |name: &String| !NAMES.contains(&name.as_str());
    map(action)
        .into_iter()
        .map(|(name, _)| name)
        .filter(has_size)
        .collect()
}

/// The action with less in this field, from the least.
pub(crate) fn smaller<A: Serialize + DeserializeOwned>(action: &A, field: &str) -> Vec<A> {
    let values: Vec<Value> = match map(action).get(field) {
        Some(Value::String(text)) => {
            let chars = text.chars().count();
            let prefix = |chars| Value::from(text.chars().take(chars).collect::<String>());
            lesser(chars as u64)
                .map(|chars| prefix(chars as usize))
                .collect()
        }
        Some(Value::Number(number)) => lesser(number.as_u64().unwrap_or(0))
            .map(Value::from)
            .collect(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => vec![],
    };
    values
        .into_iter()
        .filter_map(|value| with(action, field, value))
        .collect()
}

/// 0, 1, 2, 4 and so on, below `size`.
fn lesser(size: u64) -> impl Iterator<Item = u64> {
    let powers = std::iter::successors(Some(1_u64), |size| size.checked_mul(2));
    std::iter::once(0)
        .chain(powers)
        .take_while(move |less| *less < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_between_actions_stays_between_them() {
        let before_and_after = [(100, 10), (200, 20), (900, 30)];
        let moved = |time| moved(&before_and_after, time);
        assert_eq!([moved(5), moved(50), moved(100)], [5, 10, 10]);
        assert_eq!([moved(205), moved(500), moved(1000)], [25, 30, 130]);
    }
}
