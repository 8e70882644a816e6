//! The order in which a client receives what its room says to all, to all but one, and to it alone.

use std::sync::Arc;
use std::time::Duration;

use busline::service::Event;
use busline::session::Admission;
use busline::{Client, CloseReason, Context, Limits, Peer as Who, ServicePolicy};
use proptest::prelude::*;

use crate::model::crowd::{Crowd, closed, texts};
use crate::model::peer::Peer;

/// Something that a room says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    All,
    /// To all but this client.
    Except(usize),
    /// To this client.
    One(usize),
    /// The room waits, so that sessions may run.
    Wait,
}

/// Says the words, each with its number, once `clients` are there.
async fn speak(mut ctx: Context, clients: usize, words: Arc<Vec<Word>>) {
    while ctx.clients().len() < clients {
        drop(ctx.event().await);
    }
    let there: Vec<Client> = ctx.clients();
    for (number, word) in words.iter().enumerate() {
        match word {
            Word::All => drop(ctx.publish(number.to_string())),
            Word::Except(client) => drop(ctx.publish_except(&there[*client], number.to_string())),
            Word::One(client) => drop(ctx.send_to(&there[*client], number.to_string())),
            Word::Wait => drop(ctx.sleep(Duration::from_millis(1)).await),
        }
    }
    while ctx.event().await.is_some() {}
}

fn crowd(clients: usize, words: &[Word]) -> Crowd {
    let words = Arc::new(words.to_vec());
    let service = move |ctx: Context| speak(ctx, clients, Arc::clone(&words));
    Crowd::new(|app| app.room("chat", service).expect("a valid name"))
}

fn enter(crowd: &Crowd, room_for: usize) -> Peer {
    let room = crowd.app.registry().room("chat", Some("1")).expect("a key");
    let admission = Admission::request_room(&crowd.app, &room, Who::default());
    crowd.serve(admission.expect("admitted"), room_for)
}

/// The numbers of the words that this client is to receive, in the order in which they are said.
fn expected(words: &[Word], client: usize) -> Vec<String> {
    let is_for = |word: &Word| match word {
        Word::All => true,
        Word::Except(but) => *but != client,
        Word::One(to) => *to == client,
        Word::Wait => false,
    };
    let numbered = words.iter().enumerate();
    let own = numbered.filter(|(_, word)| is_for(word));
    own.map(|(number, _)| number.to_string()).collect()
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => Just(Word::All),
        2 => (0..3_usize).prop_map(Word::Except),
        4 => (0..3_usize).prop_map(Word::One),
        1 => Just(Word::Wait),
    ]
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn a_client_receives_what_is_said_in_the_order_in_which_it_is_said(
        words in prop::collection::vec(word(), 0..60),
        seed in any::<u64>(),
        // Small steps split what is said over many writes.
        steps in prop::collection::vec(1..40_usize, 1..60),
    ) {
        let crowd = crowd(3, &words);
        let peers = [(); 3].map(|()| enter(&crowd, 0));
        for step in steps {
            crowd.rt.settle_by(seed ^ step as u64);
            peers[step % 3].make_room(step);
            crowd.wait(1);
        }
        peers.iter().for_each(|peer| peer.make_room(1 << 20));
        crowd.wait(100);
        for (client, peer) in peers.iter().enumerate() {
            prop_assert_eq!(texts(peer), expected(&words, client), "client {}", client);
        }
        let counts = crowd.app.counts();
        let taken = counts.sessions.messages_out + counts.sessions.excluded;
        let to_clients: usize = (0..3).map(|client| expected(&words, client).len()).sum();
        prop_assert_eq!(counts.sessions.messages_out, to_clients as u64);
        prop_assert!(taken <= counts.bus.messages.delivered);
    }
}

#[test]
fn a_newcomer_gets_the_board_and_then_what_is_drawn_after_it() {
    // A board that shows all strokes to a client that comes.
    let board = |mut ctx: Context| async move {
        let mut strokes = Vec::new();
        while let Some(event) = ctx.event().await {
            match event {
                Event::Joined(client) => drop(ctx.send_to(&client, format!("board {strokes:?}"))),
                Event::Message(_, message) => {
                    strokes.push(message.as_text().unwrap_or_default().to_owned());
                    ctx.publish(message);
                }
                Event::Left(..) | Event::Request(_) => {}
            }
        }
    };
    let crowd = Crowd::new(|app| app.room("chat", board).expect("a valid name"));
    let ann = enter(&crowd, 1 << 20);
    crowd.rt.settle();
    // A stroke before the newcomer is told of, one behind it, all in one run of the room.
    ann.send(true, 1, b"x");
    let bob = enter(&crowd, 1 << 20);
    ann.send(true, 1, b"y");
    crowd.rt.settle();
    let seen = texts(&bob);
    let at = seen.iter().position(|text| text.starts_with("board"));
    let at = at.expect("the board is shown");
    // Each stroke is on the board or drawn after it.
    let shown = ["x", "y"].map(|stroke| {
        let on_board = seen[at].contains(stroke);
        let drawn = seen[at..].iter().any(|text| text == stroke);
        (on_board, drawn)
    });
    assert!(
        shown.iter().all(|(on_board, drawn)| on_board != drawn),
        "{seen:?}"
    );
}

#[test]
fn a_room_closes_a_client_after_what_it_said_to_it_before() {
    let ends = |mut ctx: Context| async move {
        while let Some(event) = ctx.event().await {
            match event {
                Event::Joined(client) => {
                    ctx.publish("to all");
                    ctx.send_to(&client, "to you");
                    assert!(ctx.close(&client, 4000, "you were removed"));
                    assert_eq!(ctx.publish("later"), 2);
                }
                Event::Left(client, reason) => drop(ctx.publish(format!("{client} {reason:?}"))),
                Event::Message(client, message) => {
                    let code = message.as_text().and_then(|text| text.parse().ok());
                    ctx.close(&client, code.unwrap_or(1000), &"long".repeat(100));
                }
                Event::Request(_) => {}
            }
        }
    };
    let crowd = Crowd::new(|app| {
        let app = app.limits(Limits::default());
        app.room_with("chat", ends, ServicePolicy::of_rooms())
            .expect("a valid name")
    });
    let ann = enter(&crowd, 1 << 20);
    crowd.rt.settle();
    let bob = enter(&crowd, 1 << 20);
    crowd.rt.settle();
    assert_eq!(closed(&bob), Some(4000));
    assert_eq!(texts(&bob)[..2], ["to all", "to you"]);
    assert_eq!(texts(&ann)[..2], ["to all", "later"]);
    let counted = crowd.app.counts().sessions.closed_for(CloseReason::Closed);
    assert_eq!(counted, 0, "the client has not answered yet");
    bob.reset();
    crowd.wait(5_000);
    assert!(
        texts(&ann).contains(&"2 Closed".to_owned()),
        "{:?}",
        texts(&ann)
    );
    // A code that no close frame may carry.
    ann.send(true, 1, b"1006");
    crowd.rt.settle();
    assert_eq!(closed(&ann), Some(1000));
}
