//! The looks of callers: at histories, presence, rooms, and the server itself.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::value::RawValue;

use super::reply::{
    Channel, Channels, ClientInfo, History, Info, Metrics, Node, Presence, PresenceStats,
    Publication,
};
use super::request::{self, Wanted};
use super::{Answer, Caller, Fault, channel, payload};
use crate::bus::{self, HistoryError, Reading, Recorded, Room, Since, Tags};
use crate::limits::{CHANNEL_PATTERN_BYTES_MAX, CHANNELS_LISTED_MAX, Payload};
use crate::presence;
use crate::registry;
use crate::rt::Runtime;

/// The rooms that are looked at together.
const ROOMS_AT_ONCE: usize = 1_000;

impl<R: Runtime> Caller<'_, R> {
    /// Reads from the history of a room.
    pub(super) fn history(&self, asked: &request::History) -> Result<Answer, Fault> {
        let room = self.room(&asked.channel)?;
        let reading = Reading {
            since: asked.since.as_ref().map(since).transpose()?,
            // The bus bounds it.
            limit: usize::try_from(asked.limit).unwrap_or(usize::MAX),
            reverse: asked.reverse,
        };
        let page = self.app.history(&room, &reading);
        let bus::Page { messages, position } = page.map_err(Fault::from)?;
        let takes = self.takes(&room);
        let publications = messages.iter().map(|recorded| publication(takes, recorded));
        Ok(Answer::History(History {
            publications: publications.collect(),
            epoch: position.epoch.to_string(),
            offset: position.offset,
        }))
    }

    /// The clients of a room.
    pub(super) fn presence(&self, asked: &request::Channel) -> Result<Answer, Fault> {
        let page = self.present(&asked.channel)?;
        if page.is_count {
            return Err(Fault::not_available("this room only counts its clients"));
        }
        let clients = page.clients.iter().map(|(id, shown)| {
            let client = id.to_string();
            let info = ClientInfo {
                client: client.clone(),
                user: shown.subject.as_deref().unwrap_or_default().to_owned(),
                conn_info: shown.info.as_deref().and_then(raw),
            };
            (client, info)
        });
        Ok(Answer::Presence(Presence {
            presence: clients.collect(),
            more: page.more,
        }))
    }

    /// The numbers of clients and subjects of a room.
    pub(super) fn presence_stats(&self, asked: &request::Channel) -> Result<Answer, Fault> {
        let page = self.present(&asked.channel)?;
        Ok(Answer::PresenceStats(PresenceStats {
            num_clients: page.num_clients,
            num_users: page.num_subjects,
        }))
    }

    fn present(&self, channel: &str) -> Result<std::sync::Arc<presence::Page>, Fault> {
        let room = self.room(channel)?;
        let most = self.app.limits().presence.clients;
        let page = self.app.registry().presence(&room, None, most);
        page.ok_or_else(|| Fault::not_available("there is no presence here"))
    }

    /// The rooms and services with clients whose channel matches a pattern.
    pub(super) fn channels(&self, wanted: &Wanted) -> Result<Answer, Fault> {
        let pattern = matcher(&wanted.pattern)?;
        let mut found = Channels::default();
        let registry = self.app.registry();
        for kind in registry.names().filter(|kind| self.rights.reach(kind)) {
            if !registry.has_rooms(kind.as_str()) {
                let clients = registry.status(kind.as_str());
                let clients = clients.map_or(0, |status| status.clients);
                self.list(&mut found, &pattern, &Room::from(kind), clients);
                continue;
            }
            let mut after = None;
            loop {
                let page = registry::Page {
                    prefix: "",
                    after: after.as_deref(),
                    max: ROOMS_AT_ONCE,
                };
                let rooms = registry.rooms(kind.as_str(), &page);
                for (room, clients) in &rooms {
                    self.list(&mut found, &pattern, room, *clients);
                }
                match rooms.last() {
                    Some((last, _)) if rooms.len() == ROOMS_AT_ONCE && !found.more => {
                        after = Some(last.key().to_owned());
                    }
                    Some(_) | None => break,
                }
            }
        }
        Ok(Answer::Channels(found))
    }

    fn list(
        &self,
        found: &mut Channels,
        pattern: &Option<GlobMatcher>,
        room: &Room,
        clients: usize,
    ) {
        let channel = (clients > 0).then(|| channel::of(self.app, room)).flatten();
        let is_wanted =
            |channel: &String| pattern.as_ref().is_none_or(|glob| glob.is_match(channel));
        let Some(channel) = channel.filter(is_wanted) else {
            return;
        };
        if found.channels.len() >= CHANNELS_LISTED_MAX {
            found.more = true;
            return;
        }
        let num_clients = clients;
        found.channels.insert(channel, Channel { num_clients });
    }

    /// The state of this server.
    pub(super) fn info(&self) -> Answer {
        let registry = self.app.registry();
        let services = registry.names().filter(|name| {
            let status = registry.status(name.as_str());
            status.is_some_and(|status| status.clients > 0)
        });
        let num_channels = registry.rooms_open() + services.count();
        let now = self.app.rt().now();
        let num_clients = self.app.sessions_open();
        Answer::Info(Info {
            nodes: [Node {
                uid: format!("{:016x}", self.app.uid()),
                name: "busline",
                version: env!("CARGO_PKG_VERSION"),
                num_clients,
                num_users: self.app.directory().present().subjects,
                num_subs: num_clients,
                num_channels,
                uptime: now.saturating_since(self.app.started()).as_secs(),
                metrics: Metrics {
                    interval: 0,
                    items: BTreeMap::new(),
                },
            }],
        })
    }
}

/// A position as the caller writes it. An epoch that none could be is another one.
fn since(asked: &request::Since) -> Result<Since, Fault> {
    let epoch = match asked.epoch.as_str() {
        "" => None,
        epoch => Some(epoch.parse().map_err(|_| Fault::WRONG_EPOCH)?),
    };
    let offset = asked.offset;
    Ok(Since { epoch, offset })
}

impl From<HistoryError> for Fault {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Unrecorded => Self::not_available("there is no history here"),
            HistoryError::WrongEpoch { .. } => Self::WRONG_EPOCH,
        }
    }
}

fn publication(takes: Payload, recorded: &Recorded) -> Publication {
    let message = &recorded.message;
    let info = message.sender().map(|client| ClientInfo {
        client: client.id().to_string(),
        user: client.subject().unwrap_or_default().to_owned(),
        conn_info: None,
    });
    // The data of an end are JSON in every kind.
    let takes = if recorded.is_end {
        Payload::Json
    } else {
        takes
    };
    Publication {
        data: payload::data(takes, message),
        offset: message.offset().unwrap_or_default(),
        info,
        tags: message.tags().map(Tags::to_map).unwrap_or_default(),
        end: recorded.is_end,
    }
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

/// The matcher of a pattern; `None` for all channels.
fn matcher(pattern: &str) -> Result<Option<GlobMatcher>, Fault> {
    if pattern.is_empty() {
        return Ok(None);
    }
    if pattern.len() > CHANNEL_PATTERN_BYTES_MAX {
        return Err(Fault::bad("a pattern has at most 255 bytes"));
    }
    let glob = GlobBuilder::new(pattern).backslash_escape(true).build();
    let matcher = glob.map(|glob| Some(glob.compile_matcher()));
    matcher.map_err(|_no_pattern| Fault::BAD_PATTERN)
}
