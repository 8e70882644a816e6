//! The end of a history, against threads that publish, join and leave meanwhile.

use super::history::{bus_with_history, join, recorded};
use super::*;
use crate::bus::{EndError, Maker};

fn end(bus: &InMemoryMessageBus) -> Result<u64, EndError> {
    let position = bus.end(&recorded(), "null".into(), &Maker::default());
    position.map(|position| position.offset)
}

/// Reads all that there is, and returns the texts.
fn texts(subscription: &mut Subscription) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut texts = Vec::new();
    while let Poll::Ready(received) = subscription.poll_recv(&mut cx) {
        match received {
            Received::Message(message) => texts.extend(message.as_text().map(str::to_owned)),
            Received::Lagged(lost) => panic!("{lost} messages are lost"),
        }
    }
    texts
}

/// One thread ends a room while another one publishes, joins it and leaves; bound 3.
///
/// Catches: a look for the end and an append under two locks, at the topic or on the shelf; a
/// history that moves to the shelf between the two.
#[test]
fn no_message_comes_after_the_end_and_one_end_alone_is_there() {
    model(Some(3), || {
        let bus = bus_with_history(8);
        let other = thread::spawn({
            let bus = bus.clone();
            move || {
                let (reader, _) = join(&bus);
                let published = bus.publish_by(&recorded(), "text".into(), &Maker::default());
                drop(reader);
                (published.position.map(|it| it.offset), end(&bus))
            }
        });
        let own = end(&bus);
        let (text, ended) = other.join().expect("no panic");
        let (at, refused) = if own.is_ok() {
            (own, ended)
        } else {
            (ended, own)
        };
        assert_eq!(refused, Err(EndError::Ended));
        let (mut reader, _) = join(&bus);
        let expected = match (text, at) {
            (Some(1), Ok(2)) => vec!["text", "null"],
            (None, Ok(1)) => vec!["null"],
            both => panic!("a message after the end: {both:?}"),
        };
        assert_eq!(texts(&mut reader), expected);
        assert!(bus.has_ended(&recorded()));
    });
}
