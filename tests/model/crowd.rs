//! Clients of one service on sockets and a runtime driven by hand.

use std::time::Duration;

use busline::app::{App, Builder};
use busline::bus::{MessageBus, Topic};
use busline::rt::Spawn;
use busline::session::{Admission, Session, Subprotocol};
use busline::{Context, Limits};
use futures::FutureExt;

use super::executor::Manual;
use super::peer::{Peer, Said};

/// An application with the service `s`, and its clients.
pub(crate) struct Crowd {
    pub(crate) rt: Manual,
    pub(crate) app: App<Manual>,
    pub(crate) peers: Vec<Peer>,
}

/// Answers each message to its sender.
pub(crate) async fn answers(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        ctx.reply(&message, &message);
    }
}

impl Crowd {
    /// An application whose service answers.
    pub(crate) fn limited(limits: Limits) -> Self {
        Self::new(|app| {
            app.limits(limits)
                .service("s", answers)
                .expect("a valid name")
        })
    }

    pub(crate) fn new(parts: impl FnOnce(Builder<Manual>) -> Builder<Manual>) -> Self {
        Self::on(Manual::default(), parts)
    }

    /// The same on a runtime that others know as well.
    pub(crate) fn on(rt: Manual, parts: impl FnOnce(Builder<Manual>) -> Builder<Manual>) -> Self {
        let app = parts(App::builder(rt.clone())).build();
        Self {
            rt,
            app,
            peers: Vec::new(),
        }
    }

    /// One more client, whose socket takes so many bytes.
    pub(crate) fn join(&mut self, room: usize) -> Peer {
        self.join_speaking(Subprotocol::Plain, room)
    }

    pub(crate) fn join_speaking(&mut self, subprotocol: Subprotocol, room: usize) -> Peer {
        self.join_by(room, |admission| admission.speaking(subprotocol))
    }

    /// One that has agreed on something.
    pub(crate) fn join_by(
        &mut self,
        room: usize,
        agree: impl FnOnce(Admission<Manual>) -> Admission<Manual>,
    ) -> Peer {
        let peer = self.admit(room, agree);
        self.rt.settle();
        peer
    }

    /// One more client, whose session is not polled yet.
    pub(crate) fn admit(
        &mut self,
        room: usize,
        agree: impl FnOnce(Admission<Manual>) -> Admission<Manual>,
    ) -> Peer {
        let admission = Admission::request(&self.app, "s").expect("admitted");
        let peer = self.serve(agree(admission), room);
        self.peers.push(peer.clone());
        peer
    }

    /// Spawns the session of an admitted client, whose socket takes so many bytes.
    pub(crate) fn serve(&self, admission: Admission<Manual>, room: usize) -> Peer {
        let peer = Peer::default();
        peer.make_room(room);
        let session = Session::new(admission, peer.socket());
        self.rt.spawn(session.map(drop).boxed());
        peer
    }

    /// A client sends a text.
    pub(crate) fn say(&self, peer: &Peer, text: &str) {
        peer.send(true, 1, text.as_bytes());
        self.rt.settle();
    }

    /// Publishes to all clients.
    pub(crate) fn publish(&self, text: &str) {
        let service = self.app.registry().name("s").expect("registered");
        let topic = Topic::from_service_to_ws(service);
        self.app.bus().publish(&topic, text.into());
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn wait(&self, millis: u64) {
        self.rt.advance(Duration::from_millis(millis));
    }
}

/// The texts that came.
pub(crate) fn texts(peer: &Peer) -> Vec<String> {
    let text = |said| match said {
        Said::Text(text) => Some(text),
        Said::Binary(_) | Said::Close(_) | Said::Ping | Said::Pong(_) => None,
    };
    peer.said().into_iter().filter_map(text).collect()
}

/// The code of the close frame that came, if one did.
pub(crate) fn closed(peer: &Peer) -> Option<u16> {
    peer.said().into_iter().find_map(|said| match said {
        Said::Close(code) => code,
        Said::Binary(_) | Said::Ping | Said::Pong(_) | Said::Text(_) => None,
    })
}
