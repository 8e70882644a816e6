//! The service of the rooms `hall`: it notes what it is told of its clients, and does what a
//! message says.

use std::sync::Arc;
use std::time::Duration;

use busline::bus::{Caller, Request, Responder};
use busline::service::Event;
use busline::{Client, Context, Message};
use futures::future::BoxFuture;

use crate::rooms::client_of;
use crate::trace::{Reply, Seen, To};

/// The code with which a hall closes a client.
pub(crate) const SHUT: u16 = 4000;

/// The code with which a hall refuses a request.
pub(crate) const REFUSED: u16 = 450;

/// Longer than some limits of wild plans, shorter than others.
const DOZE: Duration = Duration::from_secs(4);

/// Longer than some graces of wild plans, shorter than others.
const SLOWLY: Duration = Duration::from_secs(2);

type Watch = Arc<dyn Fn(&str, u64, Seen) + Send + Sync>;

type Wait = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// The surroundings of the instances of a run; clones are the same.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Takes what the instance of a room with this name and generation saw.
    pub(crate) watch: Watch,
    /// Waits, also when the instance was told to stop.
    pub(crate) sleep: Wait,
}

/// One run of the service: the first word of each message says what it does.
pub(crate) async fn hall(mut ctx: Context, around: Surroundings) -> Result<(), String> {
    let mut host = Host::new(&ctx, around);
    while let Some(event) = ctx.event().await {
        match event {
            Event::Joined(client) => host.joined(&ctx, &client),
            Event::Left(client, _) => host.left(&ctx, &client),
            Event::Message(client, message) => host.heard(&mut ctx, &client, &message).await?,
            Event::Request(request) => host.asked(&mut ctx, request).await,
        }
    }
    host.saw(Seen::Stopped);
    if host.is_slow {
        host.saw(Seen::Dozes);
        (host.around.sleep)(SLOWLY).await;
    }
    Ok(())
}

/// An instance while it runs.
struct Host {
    room: String,
    key: String,
    generation: u64,
    around: Surroundings,
    said: u64,
    is_slow: bool,
    /// Requests that wait for another one, or for the end.
    kept: Vec<(String, Responder)>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.saw(Seen::Ended);
    }
}

/// The number of a client in the plan.
fn number(client: &Client) -> u32 {
    client_of(client.query())
}

impl Host {
    fn new(ctx: &Context, around: Surroundings) -> Self {
        let host = Self {
            room: ctx.room().to_string(),
            key: ctx.key().to_owned(),
            generation: ctx.generation().to_string().parse().unwrap_or(0),
            around,
            said: 0,
            is_slow: false,
            kept: Vec::new(),
        };
        let there = ctx.clients().iter().map(number).collect();
        host.saw(Seen::Began { there });
        host
    }

    fn saw(&self, seen: Seen) {
        (self.around.watch)(&self.room, self.generation, seen);
    }

    /// Greets the client, and tells the others of it: the greeting comes before all that is said
    /// afterwards.
    fn joined(&mut self, ctx: &Context, client: &Client) {
        let (who, there) = (number(client), ctx.clients().len());
        self.saw(Seen::Joined { who, there });
        self.only(ctx, client, "");
        self.but(ctx, client, "");
    }

    fn left(&mut self, ctx: &Context, client: &Client) {
        let (who, there) = (number(client), ctx.clients().len());
        self.saw(Seen::Left { who, there });
        self.all(ctx, "");
    }

    async fn heard(
        &mut self,
        ctx: &mut Context,
        client: &Client,
        message: &Message,
    ) -> Result<(), String> {
        let text = message.as_text().unwrap_or("").to_owned();
        let (who, there) = (number(client), ctx.clients().len());
        let heard = text.clone();
        self.saw(Seen::Heard {
            who,
            text: heard,
            there,
        });
        match text.split(' ').next() {
            Some("ask") => self.only(ctx, client, &text),
            Some("both") => {
                self.all(ctx, &text);
                self.only(ctx, client, "");
            }
            Some("but") => self.but(ctx, client, &text),
            Some("doze") => {
                self.saw(Seen::Dozes);
                // To sleep on after the stop would be to overstay.
                let _ = ctx.sleep(DOZE).await;
                self.saw(Seen::Wakes);
            }
            Some("error") => return Err("as it was told".to_owned()),
            // Planned: the hook that prints panics is not to know.
            Some("panic") => std::panic::resume_unwind(Box::new("as it was told")),
            Some("shut") => {
                self.all(ctx, "");
                self.only(ctx, client, &text);
                ctx.close(client, SHUT, "as it asked");
            }
            Some("slow") => self.is_slow = true,
            Some(_) | None => self.all(ctx, &text),
        }
        Ok(())
    }

    /// Answers in the way that the method names.
    async fn asked(&mut self, ctx: &mut Context, request: Request) {
        let who = match &request.caller {
            Caller::Client(client) => Some(number(client)),
            Caller::Backend(_) | Caller::Program => None,
        };
        let tag = request.payload.json::<String>().unwrap_or_default();
        self.saw(Seen::Asked {
            who,
            method: request.method.to_string(),
            tag: tag.clone(),
            there: ctx.clients().len(),
        });
        match &*request.method {
            "all" => {
                for (tag, responder) in std::mem::take(&mut self.kept) {
                    self.answer(tag, responder);
                }
                self.answer(tag, request.responder);
            }
            "drop" => self.gave(tag, Reply::Nothing),
            "keep" => self.kept.push((tag, request.responder)),
            "late" => {
                self.saw(Seen::Dozes);
                let _ = ctx.sleep(DOZE).await;
                self.saw(Seen::Wakes);
                self.answer(tag, request.responder);
            }
            "no" => {
                self.gave(tag, Reply::Refusal);
                // A caller that has gone is none of its concern.
                let _ = request.responder.refuse(REFUSED, "as it was told");
            }
            // Planned: the hook that prints panics is not to know.
            "panic" => std::panic::resume_unwind(Box::new("as it was told")),
            _ => self.answer(tag, request.responder),
        }
    }

    /// The answer has the tag of its request.
    fn answer(&mut self, tag: String, responder: Responder) {
        let answer = [tag.clone(), self.generation.to_string()];
        self.gave(tag, Reply::Answer);
        // A caller that has gone is none of its concern.
        let _ = responder.answer(&answer);
    }

    fn gave(&self, tag: String, answer: Reply) {
        self.saw(Seen::Gave { tag, answer });
    }

    fn all(&mut self, ctx: &Context, text: &str) {
        let text = self.said(To::All, text);
        ctx.publish(text);
    }

    fn but(&mut self, ctx: &Context, client: &Client, text: &str) {
        let text = self.said(To::But(number(client)), text);
        ctx.publish_except(client, text);
    }

    fn only(&mut self, ctx: &Context, client: &Client, text: &str) {
        let text = self.said(To::Only(number(client)), text);
        ctx.send_to(client, text);
    }

    /// The text as clients receive it.
    fn said(&mut self, to: To, text: &str) -> String {
        self.said += 1;
        let (number, generation) = (self.said, self.generation);
        self.saw(Seen::Said { number, to });
        format!("{generation}.{number} {}|{text}", self.key)
    }
}

/// What a hall has said, as a client has received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) generation: u64,
    pub(crate) number: u64,
    pub(crate) key: String,
}

impl Line {
    /// Reads a text of a hall; `None` of any other text.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (head, _) = text.split_once('|')?;
        let (numbers, key) = head.split_once(' ')?;
        let (generation, number) = numbers.split_once('.')?;
        Some(Self {
            generation: generation.parse().ok()?,
            number: number.parse().ok()?,
            key: key.to_owned(),
        })
    }
}
