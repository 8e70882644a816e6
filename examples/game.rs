//! A game by room: state that moves 20 times a second, until its last player has left.
//!
//! ```text
//! cargo run --example game
//! websocat ws://localhost:8080/ws/game/1      then: {"dx":1,"dy":0}
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use busline::rt::Tokio;
use busline::server::{bind, serve};
use busline::service::{Event, NextEvent};
use busline::{App, Client, Context};
use serde::{Deserialize, Serialize};

/// The time from one tick to the next: 20 a second.
const TICK: Duration = Duration::from_millis(50);

/// The size of the field.
const FIELD: i32 = 100;

/// The direction in which a player moves with each tick.
#[derive(Clone, Copy, Default, Deserialize)]
struct Steer {
    dx: i32,
    dy: i32,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Player {
    x: i32,
    y: i32,
    #[serde(skip)]
    steer: (i32, i32),
}

#[derive(Serialize)]
struct State<'a> {
    tick: u64,
    players: &'a BTreeMap<String, Player>,
}

/// Moves every player with each tick, and tells all where they are.
async fn game(mut ctx: Context) -> Result<(), serde_json::Error> {
    let mut players: BTreeMap<String, Player> = BTreeMap::new();
    for client in ctx.clients() {
        players.insert(name(&client), place(&ctx));
    }
    let (mut tick, mut due) = (0, ctx.now());
    loop {
        match ctx.event_until(due).await {
            NextEvent::Elapsed => {
                players.values_mut().for_each(step);
                let players = &players;
                ctx.publish_json(&State { tick, players })?;
                tick += 1;
                // Ticks that a pause of the machine has missed are left out.
                due = (due + TICK).max(ctx.now());
            }
            NextEvent::Event(Event::Joined(client)) => {
                players.insert(name(&client), place(&ctx));
            }
            NextEvent::Event(Event::Left(client, _reason)) => {
                players.remove(&name(&client));
            }
            NextEvent::Event(Event::Message(client, message)) => match message.json::<Steer>() {
                Ok(Steer { dx, dy }) => {
                    if let Some(player) = players.get_mut(&name(&client)) {
                        player.steer = (dx.clamp(-1, 1), dy.clamp(-1, 1));
                    }
                }
                Err(error) => {
                    let told = serde_json::json!({ "error": error.to_string() });
                    ctx.send_json(&client, &told)?;
                }
            },
            NextEvent::Event(Event::Request(request)) => match &*request.method {
                "players" => drop(request.responder.answer(&players)?),
                _ => drop(request.responder.refuse(404, "there is no such method")),
            },
            NextEvent::Stopped => return Ok(()),
        }
    }
}

fn name(client: &Client) -> String {
    client.id().to_string()
}

/// A place for a player that comes, drawn from the room's own source of random numbers.
fn place(ctx: &Context) -> Player {
    let draw = || i32::try_from(ctx.random() % 100).unwrap_or_default();
    Player {
        x: draw(),
        y: draw(),
        steer: (0, 0),
    }
}

fn step(player: &mut Player) {
    player.x = (player.x + player.steer.0).rem_euclid(FIELD);
    player.y = (player.y + player.steer.1).rem_euclid(FIELD);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "localhost:8080".into());
    let listeners = bind(&address).await?;
    let app = App::builder(Tokio::current()).room("game", game)?.build();
    println!("websocat ws://{}/ws/game/1", listeners.addresses()?[0]);
    let interrupt = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    serve(listeners, app, interrupt).await?;
    Ok(())
}
