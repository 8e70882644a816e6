//! Batches that are offered in parts, and topics that are made anew under a publisher.

use super::*;

fn batch(texts: &[&str]) -> Batch {
    let messages = texts.iter().map(Message::text);
    Batch::join(messages).expect("there is one at least")
}

/// Offers a batch until all of it is published; `false` once there is no subscriber.
fn publish_all_with_room(publisher: &mut Publisher, batch: Batch) -> bool {
    let mut left = Some(batch);
    block_on(poll_fn(|cx| {
        let batch = left.take().expect("it is polled until it is ready");
        match publisher.offer(cx, batch) {
            Offered::Full(rest) => {
                left = Some(rest);
                Poll::Pending
            }
            Offered::NoSubscribers(_) => Poll::Ready(false),
            Offered::Published(_) => Poll::Ready(true),
        }
    }))
}

/// A batch of 3 through a window of 2, against the reader and a publisher of one; bound 2.
///
/// Catches: a part that is published twice or not, a publisher that is not woken for the rest of
/// its batch, and a loss where there was room to wait for.
#[test]
fn a_batch_that_does_not_fit_is_published_in_parts_and_loses_nothing() {
    model(Some(2), || {
        let bus = bus(2);
        let mut reader = subscribe(&bus);
        let mut publisher = bus.publisher(&topic());
        let several =
            thread::spawn(move || publish_all_with_room(&mut publisher, batch(&["a", "b", "c"])));
        let one = publisher_with_room(&bus, "d");
        let mut all = texts(&mut reader, 4);
        let order: Vec<_> = all.iter().filter(|text| *text != "d").cloned().collect();
        assert_eq!(order, ["a", "b", "c"]);
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert!(several.join().expect("no panic"));
        assert_eq!(one.join().expect("no panic"), 1);
        drop(reader);
        assert_empty(&bus);
    });
}

/// The only reader leaves while the rest of a batch waits for room; preemptions unbounded.
///
/// Catches: a publisher that waits for ever with the rest of a batch, and a part that is published
/// and counted nowhere.
#[test]
fn the_rest_of_a_batch_does_not_wait_for_a_reader_that_left() {
    model(None, || {
        let bus = bus(1);
        let reader = subscribe(&bus);
        let mut publisher = bus.publisher(&topic());
        let waiter =
            thread::spawn(move || publish_all_with_room(&mut publisher, batch(&["a", "b"])));
        drop(reader);
        assert!(!waiter.join().expect("no panic"));
        assert!(bus.counts().messages.published <= 1);
        assert_empty(&bus);
    });
}

/// A topic is removed and made anew while a publisher has the removed one; preemptions unbounded.
///
/// Catches: a publisher that goes on with a removed topic, and a message that is counted for a
/// subscriber and never delivered.
#[test]
fn a_publisher_finds_a_topic_that_was_made_anew() {
    model(None, || {
        let bus = bus(4);
        let last = subscribe(&bus);
        let publisher = bus.publisher(&topic());
        let subscriber = thread::spawn({
            let bus = bus.clone();
            move || {
                drop(last);
                subscribe(&bus)
            }
        });
        let told = publisher.publish("a".into());
        let mut new = subscriber.join().expect("no panic");
        let heard = poll(&mut new).is_some();
        let counts = bus.counts().messages;
        assert_eq!(u64::from(heard) + counts.lost_unsubscribed, told as u64);
        assert_eq!(publisher.publish("b".into()), 1);
        assert_eq!(texts(&mut new, 1), ["b"]);
        drop(new);
        assert_empty(&bus);
        assert_eq!(bus.counts().messages.published, 2);
    });
}
