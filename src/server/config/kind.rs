//! The policy of a service or of a kind of rooms, from its keys.

use super::run::Run;
use super::schema::{RoomKeys, ServiceKeys};
use crate::limits::{
    HistoryPolicy, InboundPolicy, LifecyclePolicy, PresencePolicy, Publish, Recovery, Relay,
    ServicePolicy, SlowConsumer, Window,
};

pub(super) fn room_policy(room: &RoomKeys, keys: &ServiceKeys) -> ServicePolicy {
    let is_relay = room.run == Run::Relay;
    let by_default = if is_relay {
        Publish::Nobody
    } else {
        Publish::Members
    };
    let policy = policy(keys);
    ServicePolicy {
        relay: is_relay.then_some(Relay { echo: room.echo }),
        publish: room.publish.unwrap_or(by_default),
        payload: room.payload,
        user_limited: room.user_limited,
        lifecycle: LifecyclePolicy {
            clients_max: room.clients.size(),
            ..policy.lifecycle
        },
        ..policy
    }
}

pub(super) fn policy(keys: &ServiceKeys) -> ServicePolicy {
    let history = keys.history.map(|retention| HistoryPolicy {
        retention: retention.0,
        recovery: keys.recovery,
        read: keys.read_history,
    });
    let recovers = history.is_some() && keys.recovery != Recovery::Off;
    ServicePolicy {
        lifecycle: LifecyclePolicy {
            linger: keys.linger.get(),
            stop_grace: keys.stop_grace.get(),
            ..LifecyclePolicy::default()
        },
        slow_consumer: keys.slow_consumer.unwrap_or(match recovers {
            true => SlowConsumer::Recover,
            false => SlowConsumer::Skip,
        }),
        history,
        presence: PresencePolicy {
            keep: keys.presence,
            tell: keys.join_leave,
            leave_delay: keys.leave_delay.get(),
            read: keys.read_presence,
            claims: keys.presence_info.clone(),
        },
        window: Some(window(keys)),
        message_bytes: Some(keys.max_message_bytes.size()),
        inbound: Some(inbound(keys)),
        ..ServicePolicy::default()
    }
}

pub(super) fn inbound(keys: &ServiceKeys) -> InboundPolicy {
    InboundPolicy {
        bytes: keys.bytes,
        messages: keys.messages,
        over: keys.over_rate,
    }
}

pub(super) fn window(keys: &ServiceKeys) -> Window {
    Window {
        messages: keys.window.nonzero(),
        // A window smaller than the largest message could not keep a second message beside it.
        bytes: keys.window_bytes.size().max(keys.max_message_bytes.size()),
    }
}
