//! How much the links of a plan let through at a time: their windows and their rates.

use crate::plan::{Action, Plan, Timed};
use crate::wild::Tcp;

/// The narrowest that the links of a plan are at some time.
pub(super) struct Links {
    tcp: Tcp,
    /// The least rate, in bytes a second, if there is one.
    slowest: Option<u64>,
}

impl Links {
    /// Those of this plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let tcp = plan.wild.as_ref().map(|wild| wild.tcp.clone());
        let tcp = tcp.unwrap_or_default();
        let rate = |timed: &Timed| {
            if let Action::Bandwidth {
                bytes_per_second, ..
            } = timed.action
            {
                return bytes_per_second;
            }
            None
        };
        let rates = plan.actions.iter().filter_map(rate);
        let slowest = rates.chain(tcp.bytes_per_second).min();
        Self { tcp, slowest }
    }

    /// Whether buffers are large, and no rate ever bounds a link.
    pub(super) fn is_wide(&self) -> bool {
        let Tcp {
            send_bytes,
            receive_bytes,
            ..
        } = Tcp::default();
        let is_large = self.tcp.send_bytes >= send_bytes && self.tcp.receive_bytes >= receive_bytes;
        is_large && self.slowest.is_none()
    }

    /// How long so many bytes of a connection may take, in microseconds, beside the latency: by the
    /// rate, and by the window, which lets through what it holds in each round trip.
    pub(super) fn crossing(&self, bytes: u64, round_trip: u64) -> u64 {
        let rounds = bytes / (self.tcp.receive_bytes as u64).max(1);
        let by_rate = |rate: u64| bytes * 1_000_000 / rate.max(1);
        rounds * round_trip + self.slowest.map_or(0, by_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::swarm;

    fn plan(tcp: Tcp, rates: &[Option<u64>]) -> Plan {
        let mut plan = swarm(1);
        let step = |bytes_per_second: &Option<u64>| Timed {
            at_ms: 0,
            action: Action::Bandwidth {
                zone: 0,
                bytes_per_second: *bytes_per_second,
            },
        };
        plan.actions = rates.iter().map(step).collect();
        if let Some(wild) = &mut plan.wild {
            wild.tcp = tcp;
        }
        plan
    }

    #[test]
    fn the_narrowest_time_of_a_link_counts() {
        let wide = Tcp::default();
        let narrow = Tcp {
            receive_bytes: 100,
            bytes_per_second: Some(300),
            ..Tcp::default()
        };
        for (tcp, rates, is_wide, crossing) in [
            (&wide, &[][..], true, 0),
            (&wide, &[None], true, 0),
            (&wide, &[Some(200), None], false, 3_000_000),
            (&narrow, &[], false, 6 * 50_000 + 2_000_000),
            (
                &narrow,
                &[Some(100), Some(900)],
                false,
                6 * 50_000 + 6_000_000,
            ),
        ] {
            let links = Links::of(&plan(tcp.clone(), rates));
            let found = (links.is_wide(), links.crossing(600, 50_000));
            assert_eq!(found, (is_wide, crossing), "{tcp:?} {rates:?}");
        }
    }
}
