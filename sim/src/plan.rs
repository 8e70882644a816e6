//! What will happen in a run, as data: everything is drawn before the run begins.
//!
//! Any part of the actions of a plan is a plan: an action whose client is not there does nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::calls::Call;
use crate::script::Start;
use crate::wild::{Deed, Wild};

/// Everything that is done to the server, and the seed of what the run draws below the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed it was drawn from.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// What is done, in the order of time.
    pub actions: Vec<Timed>,
    /// When the run ends, in virtual milliseconds.
    pub end_ms: u64,
    /// What makes a plan wild; in a calm one nothing is lost but by the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wild: Option<Wild>,
}

/// The network between the server and the zones of its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Zones of clients, each with a link of its own to the server; 1 to 8.
    pub zones: u8,
    /// Steps of time in which hosts are run one after another, in milliseconds.
    pub tick_ms: u64,
    /// The least latency of one direction, at least a tick.
    pub latency_ms_min: u64,
    /// The most.
    pub latency_ms_max: u64,
    /// How much later than by these numbers anything may happen; 0 under virtual time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slack_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An action and when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// In virtual milliseconds since the beginning.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// A client does something that needs raw bytes.
    Act {
        /// Which client.
        client: u32,
        /// What.
        #[serde(flatten)]
        deed: Deed,
    },
    /// A client drops its connection without a word.
    Abort {
        /// Which client.
        client: u32,
    },
    /// From now on the link of a zone sends this much in each direction.
    Bandwidth {
        /// Which zone.
        zone: u8,
        /// At least 1; `None` is without a bound.
        bytes_per_second: Option<u64>,
    },
    /// A server is started on the address of one that crashed or lost its power.
    Bounce,
    /// A backend calls the API, over the connection that it has or over a new one.
    Call {
        /// Which backend; its number is that of no client.
        client: u32,
        /// From where.
        zone: u8,
        /// What.
        #[serde(flatten)]
        call: Call,
    },
    /// A client connects; a number connects once.
    Connect {
        /// Which client.
        client: u32,
        /// To which service.
        service: String,
        /// From where.
        zone: u8,
        /// Whether it tries again when it is not let in, as clients do that reconnect.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// The server's process is gone; its system ends the connections.
    Crash,
    /// The server is told to shut down.
    Drain,
    /// The server's system has no file descriptors left.
    Exhaust {
        /// For this many virtual milliseconds.
        ms: u64,
    },
    /// Nothing passes between a zone and the server until the release, and nothing is lost.
    Hold {
        /// Which zone.
        zone: u8,
    },
    /// From now on the link of a zone has another latency.
    Latency {
        /// Which zone.
        zone: u8,
        /// The least of one direction, in milliseconds.
        ms_min: u64,
        /// The most; the least, if that is more.
        ms_max: u64,
    },
    /// A client closes with a close frame.
    Leave {
        /// Which client.
        client: u32,
        /// With this code.
        code: u16,
    },
    /// What passes between a zone and the server is lost, and the connections with it.
    Partition {
        /// Which zone.
        zone: u8,
        /// In which direction.
        #[serde(default, skip_serializing_if = "Way::is_both")]
        way: Way,
    },
    /// The server's machine is dark: it says nothing more, not even that its connections are gone.
    PowerLoss,
    /// The end of a hold: what was held arrives.
    Release {
        /// Which zone.
        zone: u8,
    },
    /// The end of a partition, for new connections.
    Repair {
        /// Which zone.
        zone: u8,
    },
    /// The server is told to shut down, and the next one takes over the histories that it leaves.
    Restart,
    /// How the service `script` starts from now on.
    Start {
        /// In which way.
        how: Start,
    },
    /// A client sends a text.
    Text {
        /// Which client.
        client: u32,
        /// The text.
        text: String,
    },
    /// Somebody sets the wall clock of the server.
    Wall {
        /// By this many milliseconds, forwards or backwards.
        by_ms: i64,
    },
}

/// A direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Both directions.
    #[default]
    Both,
    /// From the server to the clients.
    Down,
    /// From the clients to the server.
    Up,
}

impl Way {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_both(&self) -> bool {
        *self == Self::Both
    }
}

impl Action {
    /// The client that does it; `None` of what is done to the network and the server.
    pub fn client(&self) -> Option<u32> {
        match self {
            Self::Abort { client }
            | Self::Act { client, .. }
            | Self::Call { client, .. }
            | Self::Connect { client, .. }
            | Self::Leave { client, .. }
            | Self::Text { client, .. } => Some(*client),
            Self::Bandwidth { .. }
            | Self::Bounce
            | Self::Crash
            | Self::Drain
            | Self::Exhaust { .. }
            | Self::Hold { .. }
            | Self::Latency { .. }
            | Self::Partition { .. }
            | Self::PowerLoss
            | Self::Release { .. }
            | Self::Repair { .. }
            | Self::Restart
            | Self::Start { .. }
            | Self::Wall { .. } => None,
        }
    }
}

/// What one client does in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) client: u32,
    pub(crate) service: String,
    pub(crate) zone: u8,
    pub(crate) again: bool,
    pub(crate) start: Duration,
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// One of the things a connected client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Abort,
    Act(Deed),
    Leave(u16),
    Text(String),
}

/// What one backend does in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Errands {
    pub(crate) client: u32,
    pub(crate) zone: u8,
    pub(crate) calls: Vec<(Duration, Call)>,
}

impl Plan {
    /// What each backend does, by its number.
    pub(crate) fn errands(&self) -> BTreeMap<u32, Errands> {
        let mut errands: BTreeMap<u32, Errands> = BTreeMap::new();
        for Timed { at_ms, action } in &self.actions {
            let Action::Call { client, zone, call } = action else {
                continue;
            };
            let of = errands.entry(*client).or_insert_with(|| Errands {
                client: *client,
                zone: *zone,
                calls: Vec::new(),
            });
            of.calls.push((Duration::from_millis(*at_ms), call.clone()));
        }
        errands
    }

    /// The instant of the end.
    pub fn end(&self) -> Duration {
        Duration::from_millis(self.end_ms)
    }

    /// What each client does, by its number.
    pub(crate) fn scripts(&self) -> BTreeMap<u32, Script> {
        let mut scripts: BTreeMap<u32, Script> = BTreeMap::new();
        for Timed { at_ms, action } in &self.actions {
            let at = Duration::from_millis(*at_ms);
            let (client, step) = match action {
                Action::Act { client, deed } => (client, Step::Act(deed.clone())),
                Action::Abort { client } => (client, Step::Abort),
                Action::Leave { client, code } => (client, Step::Leave(*code)),
                Action::Text { client, text } => (client, Step::Text(text.clone())),
                Action::Connect {
                    client,
                    service,
                    zone,
                    again,
                } => {
                    scripts.entry(*client).or_insert_with(|| Script {
                        client: *client,
                        service: service.clone(),
                        zone: *zone,
                        again: *again,
                        start: at,
                        steps: Vec::new(),
                    });
                    continue;
                }
                Action::Bandwidth { .. }
                | Action::Bounce
                | Action::Call { .. }
                | Action::Crash
                | Action::Drain
                | Action::Exhaust { .. }
                | Action::Hold { .. }
                | Action::Latency { .. }
                | Action::Partition { .. }
                | Action::PowerLoss
                | Action::Release { .. }
                | Action::Repair { .. }
                | Action::Restart
                | Action::Start { .. }
                | Action::Wall { .. } => continue,
            };
            if let Some(script) = scripts.get_mut(client) {
                script.steps.push((at, step));
            }
        }
        scripts
    }

    /// What is done to the network and the server, in the order of time.
    pub(crate) fn outside(&self) -> Vec<Timed> {
        let is_outside = |timed: &&Timed| timed.action.client().is_none();
        self.actions.iter().filter(is_outside).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_absent_clients_do_nothing() {
        let text = |client| Action::Text {
            client,
            text: "x".to_owned(),
        };
        let connect = |client| Action::Connect {
            client,
            service: "ping".to_owned(),
            zone: 0,
            again: false,
        };
        let actions = [text(1), connect(1), text(1), text(2), connect(1)];
        let timed = |(at, action): (usize, Action)| Timed {
            at_ms: at as u64,
            action,
        };
        let plan = Plan {
            seed: 1,
            network: Network {
                zones: 1,
                tick_ms: 1,
                latency_ms_min: 1,
                latency_ms_max: 1,
                slack_ms: 0,
            },
            actions: actions.into_iter().enumerate().map(timed).collect(),
            end_ms: 10,
            wild: None,
        };
        let scripts = plan.scripts();
        assert_eq!(scripts.len(), 1);
        assert_eq!(scripts[&1].start, Duration::from_millis(1));
        let step = (Duration::from_millis(2), Step::Text("x".to_owned()));
        assert_eq!(scripts[&1].steps, [step]);
    }
}
