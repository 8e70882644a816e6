//! The order of what one publisher says to all and to one.

use super::*;
use crate::bus::{Delivery, Due, next_in_order};

fn named(name: &str) -> Topic {
    name.parse().expect("a valid name")
}

/// Reads the next message in order, and waits for it.
fn next(broadcast: &mut Subscription, direct: &mut Subscription) -> String {
    let received = block_on(poll_fn(|cx| {
        loop {
            let source = match next_in_order(broadcast, direct) {
                Due::Broadcast { .. } => &mut *broadcast,
                Due::Direct => &mut *direct,
                Due::Neither => {
                    let ready = [direct.poll_ready(cx), broadcast.poll_ready(cx)];
                    if ready.iter().all(Poll::is_pending) {
                        return Poll::Pending;
                    }
                    continue;
                }
            };
            return source.poll_recv(cx);
        }
    }));
    let Received::Message(message) = received else {
        panic!("nothing is lost: {received:?}");
    };
    message.as_text().expect("a text").to_owned()
}

/// A publisher that says something to all, to one, and to all again, against the one that reads
/// both topics; bound 3.
///
/// Catches: a tail that is looked at after the messages to one, so that a message to all overtakes
/// one that was said before it; a wait that misses a message of either topic.
#[test]
fn what_is_said_to_one_and_to_all_is_read_in_the_order_in_which_it_is_said() {
    model(Some(3), || {
        let bus = bus(8);
        let [mut broadcast, mut direct] =
            ["all", "one"].map(|name| bus.subscribe(&named(name)).expect("there is room"));
        let publisher = thread::spawn({
            let bus = bus.clone();
            move || {
                let to_all = bus.publisher(&named("all"));
                let to_one = bus.publisher(&named("one"));
                to_all.publish("a".into());
                let delivery = Delivery::After(to_all.tail());
                to_one.publish(Batch::from("b").delivered(delivery));
                to_all.publish("c".into());
            }
        });
        let read = [(); 3].map(|()| next(&mut broadcast, &mut direct));
        assert_eq!(read, ["a", "b", "c"]);
        publisher.join().expect("no panic");
    });
}
