//! The board, by itself: `examples/whiteboard.rs` serves it with its page.

use std::collections::BTreeMap;

use busline::limits::{Keep, PresencePolicy, Tell};
use busline::service::{Event, Request};
use busline::{Client, Context, ServicePolicy};
use serde::{Deserialize, Serialize};

/// The most strokes of a board; the oldest give way.
const STROKES_MAX: usize = 5_000;

/// The most points of a stroke.
const POINTS_MAX: usize = 500;

/// The most characters of a name.
const NAME_MAX: usize = 40;

/// What a page says.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Clear,
    Name(String),
    Stroke(Stroke),
}

#[derive(Clone, Deserialize, Serialize)]
struct Stroke {
    color: String,
    points: Vec<(f32, f32)>,
}

/// What a page is told.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Told<'a> {
    /// The whole board, for a page that has come.
    Board(&'a [Stroke]),
    Clear,
    /// The names that clients gave themselves, by their numbers; presence says who is there.
    Names(BTreeMap<u64, &'a str>),
    Stroke(&'a Stroke),
}

/// The policy of the boards: each client is told who comes and who leaves.
pub(crate) fn policy() -> ServicePolicy {
    ServicePolicy {
        presence: PresencePolicy {
            keep: Keep::List,
            tell: Tell::All,
            ..PresencePolicy::default()
        },
        ..ServicePolicy::of_rooms()
    }
}

#[derive(Default)]
struct Board {
    strokes: Vec<Stroke>,
    names: BTreeMap<Client, String>,
}

/// Keeps the strokes of a board and the names of its clients, and shows both to those who come.
pub(crate) async fn whiteboard(mut ctx: Context) -> Result<(), serde_json::Error> {
    let mut board = Board::default();
    // The page that opened the board is there before the board is.
    for client in ctx.clients() {
        board.welcome(&ctx, &client)?;
    }
    while let Some(event) = ctx.event().await {
        match event {
            Event::Joined(client) => board.welcome(&ctx, &client)?,
            Event::Left(client, _reason) => {
                board.names.remove(&client);
            }
            Event::Message(client, message) => match message.json() {
                Ok(said) => board.hear(&ctx, client, said)?,
                Err(error) => {
                    ctx.send_to(
                        &client,
                        serde_json::json!({ "error": error.to_string() }).to_string(),
                    );
                }
            },
            Event::Request(request) => board.answer(request)?,
        }
    }
    Ok(())
}

impl Board {
    fn welcome(&self, ctx: &Context, client: &Client) -> Result<(), serde_json::Error> {
        ctx.send_json(client, &Told::Board(&self.strokes))?;
        let names = self.names.iter();
        let names = names.map(|(client, name)| (client.id().number(), name.as_str()));
        ctx.send_json(client, &Told::Names(names.collect()))?;
        Ok(())
    }

    /// Answers a backend or a page that asks for the strokes.
    fn answer(&self, request: Request) -> Result<(), serde_json::Error> {
        match &*request.method {
            "strokes" => drop(request.responder.answer(&self.strokes)?),
            _ => drop(request.responder.refuse(404, "there is no such method")),
        }
        Ok(())
    }

    fn hear(&mut self, ctx: &Context, client: Client, said: Said) -> Result<(), serde_json::Error> {
        match said {
            Said::Clear => {
                self.strokes.clear();
                ctx.publish_json(&Told::Clear)?;
            }
            Said::Name(name) => {
                let name: String = name.chars().take(NAME_MAX).collect();
                let newer = BTreeMap::from([(client.id().number(), name.as_str())]);
                ctx.publish_json(&Told::Names(newer))?;
                self.names.insert(client, name);
            }
            Said::Stroke(mut stroke) => {
                stroke.points.truncate(POINTS_MAX);
                if self.strokes.len() >= STROKES_MAX {
                    self.strokes.remove(0);
                }
                ctx.publish_json(&Told::Stroke(&stroke))?;
                self.strokes.push(stroke);
            }
        }
        Ok(())
    }
}
