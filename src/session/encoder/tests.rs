//! The forms of messages and notices, and how often each is told.

use super::*;
use crate::bus::{Client, ClientId, Why};
use crate::client::identity::Identity;

#[test]
fn what_is_written_can_be_read() {
    let texts = [
        "",
        "plain",
        "\"quoted\" \\ \n \u{0} \u{7f} \u{1f600}",
        "{\"lagged\":3}",
    ];
    let each = texts.map(|text| Frames::from(Frame::text(text)));
    let plain = Frames::join(each.iter()).expect("some");
    let enveloped = Encoder::of(Subprotocol::Json).encoded(&plain);
    assert_ne!(enveloped, plain);
    assert_eq!(
        Subprotocol::Json.read(enveloped).messages,
        Some(plain.clone())
    );
    assert_eq!(Encoder::Plain.encoded(&plain), plain);
}

#[test]
fn bytes_and_plain_texts_are_as_they_are() {
    let bytes = Frames::from(Frame::binary([1, 2, 3]));
    assert_eq!(Encoder::of(Subprotocol::Json).encoded(&bytes), bytes);
    assert_eq!(
        Subprotocol::Json.read(bytes.clone()).messages,
        Some(bytes.clone())
    );
    let text = Frames::from(Frame::text("a"));
    let both = Frames::join([&bytes, &text].into_iter()).expect("two");
    let enveloped: Vec<_> = Encoder::of(Subprotocol::Json)
        .encoded(&both)
        .iter()
        .collect();
    assert_eq!(
        enveloped,
        [Frame::binary([1, 2, 3]), Frame::text(r#"{"text":"a"}"#)]
    );
}

#[test]
fn an_envelope_is_made_once_for_all_receivers() {
    let frames = Frames::from(Frame::text("hello"));
    let at = |frames: Frames| frames.as_bytes().as_ptr();
    let encoder = Encoder::of(Subprotocol::Json);
    assert_eq!(at(encoder.encoded(&frames)), at(encoder.encoded(&frames)));
}

#[test]
fn a_restart_is_told_once_and_the_first_start_never() {
    let mut encoder = Encoder::of(Subprotocol::Json);
    assert_eq!(encoder.at_rest(), None, "nothing runs yet");
    encoder.runs(Generation::new(3));
    assert_eq!(encoder.at_rest(), None);
    assert_eq!(encoder.before(Generation::new(3)), None);
    encoder.runs(Generation::new(4));
    assert_eq!(
        encoder.before(Generation::new(3)),
        None,
        "a message of the old one is left"
    );
    let notice = Frame::text(r#"{"service":"restarted","generation":4}"#);
    assert_eq!(encoder.before(Generation::new(4)), Some(notice));
    assert_eq!(encoder.at_rest(), None);
    encoder.runs(Generation::new(5));
    let notice = Frame::text(r#"{"service":"restarted","generation":5}"#);
    assert_eq!(encoder.at_rest(), Some(notice));
    assert_eq!(encoder.at_rest(), None);
}

fn events(joined: Joined, recovery: Recovery) -> Encoder {
    let mut encoder = Encoder::of(Subprotocol::Events);
    encoder.greet(joined, recovery);
    encoder
}

fn said(frame: Option<Frame>) -> String {
    let frame = frame.expect("it is told");
    String::from_utf8(frame.payload_bytes().to_vec()).expect("an event is text")
}

fn at(offset: u64) -> Position {
    let epoch = Epoch::from_bits(0xff);
    Position { epoch, offset }
}

#[test]
fn the_first_event_has_the_id_from_which_nothing_is_missed_and_nothing_repeated() {
    let (position, why) = (at(9), Why::Evicted);
    for (joined, kind, id) in [
        (
            Joined::Present {
                position,
                messages: 0,
            },
            "position",
            9,
        ),
        (
            Joined::Present {
                position,
                messages: 3,
            },
            "position",
            6,
        ),
        (
            Joined::Recovered {
                position,
                messages: 2,
            },
            "recovered",
            7,
        ),
        (Joined::NotRecovered { why, position }, "recovered", 9),
    ] {
        let first = said(events(joined, Recovery::Asked).greeting());
        let head = format!("id: 00000000000000ff:{id}\nevent: {kind}\ndata: {{");
        assert!(first.starts_with(&head), "{joined:?}: {first}");
        let mut json = Encoder::of(Subprotocol::Json);
        json.greet(joined, Recovery::Asked);
        let data = format!("data: {}\n\n", said(json.greeting()));
        assert!(first.ends_with(&data), "{joined:?}: {first}");
    }
}

#[test]
fn events_tell_no_position_where_nobody_recovers_and_no_history_is() {
    let frames = Frames::from(Frame::text("a"));
    let about = About {
        from: None,
        offset: Some(7),
        tags: None,
    };
    let present = Joined::Present {
        position: at(9),
        messages: 0,
    };
    for (joined, recovery) in [
        (present, Recovery::Off),
        (Joined::Unrecorded, Recovery::Asked),
    ] {
        let mut encoder = events(joined, recovery);
        assert_eq!(encoder.greeting(), None);
        assert_eq!(encoder.passed_over(8), None);
        assert_eq!(
            encoder.encoded_with(&frames, about, &Encodings::default()),
            encoder.encoded(&frames)
        );
    }
    let with_ids = events(present, Recovery::Asked);
    let encoded = with_ids.encoded_with(&frames, about, &Encodings::default());
    let text = said(encoded.iter().next());
    assert_eq!(text, "id: 00000000000000ff:7\ndata: a\n\n");
    assert!(said(with_ids.passed_over(8)).starts_with("id: 00000000000000ff:8\nevent: "));
}

#[test]
fn an_event_is_made_once_for_all_receivers_and_beside_the_envelope() {
    let frames = Frames::from(Frame::text("x".repeat(2_000)));
    let at = |frames: &Frames| frames.as_bytes().as_ptr();
    let (events, json) = (Subprotocol::Events, Subprotocol::Json);
    let encoded = |subprotocol| Encoder::of(subprotocol).encoded(&frames);
    let mut pinned = frames.pinned_bytes();
    for subprotocol in [events, json] {
        let form = encoded(subprotocol);
        assert_eq!(at(&form), at(&encoded(subprotocol)), "{subprotocol:?}");
        pinned += form.pinned_bytes();
        assert!(frames.pinned_bytes() >= pinned, "its memory counts");
    }
    assert_ne!(at(&encoded(events)), at(&encoded(json)));
}

#[test]
fn messages_of_other_senders_and_places_share_no_encoding() {
    let one = Frames::from(Frame::text("a"));
    let two = Frames::join([&one, &one].into_iter()).expect("two");
    let client = |id, subject: &str| {
        let identity = Identity {
            subject: Some(subject.into()),
            ..Identity::default()
        };
        let topic = "t".parse().expect("a name");
        Client::new(ClientId::new(id), identity, topic)
    };
    let senders = [client(0, "ann"), client(1, "bob")];
    let from = [None, Some(&senders[0]), Some(&senders[1])];
    let abouts = from.into_iter().flat_map(|from| {
        let offsets = [None, Some(1), Some(2)];
        offsets.map(|offset| About {
            from,
            offset,
            tags: None,
        })
    });
    let all: Vec<_> = abouts.filter(|about| !about.is_empty()).collect();
    for encoder in [Encoder::of(Subprotocol::Json), told()] {
        for (before, after) in all
            .iter()
            .flat_map(|one| all.iter().map(move |two| (*one, *two)))
        {
            let shared = Encodings::shared();
            encoder.encoded_with(&two, before, &shared);
            let encoded = encoder.encoded_with(&two, after, &shared);
            let own = encoder.encoded_with(&two, after, &Encodings::default());
            assert!(encoded == own, "{before:?} {after:?}");
        }
    }
}

#[test]
fn tags_are_in_the_envelope_of_each_message_and_in_no_event() {
    let each = ["a", "b"].map(|text| Frames::from(Frame::text(text)));
    let frames = Frames::join(each.iter()).expect("two");
    let tags = [("k", "\"")].into_iter().collect();
    let about = About {
        offset: Some(7),
        tags: Some(&tags),
        ..About::default()
    };
    let told_by = |encoder: &Encoder, about| {
        let encoded = encoder.encoded_with(&frames, about, &Encodings::default());
        let texts = encoded.iter().map(|frame| said(Some(frame)));
        texts.collect::<String>()
    };
    let json = Encoder::of(Subprotocol::Json);
    assert_eq!(
        told_by(&json, about),
        r#"{"text":"a","offset":7,"tags":{"k":"\""}}{"text":"b","offset":8,"tags":{"k":"\""}}"#
    );
    let notice = said(json.before_binary(about));
    assert_eq!(notice, r#"{"binary":{"offset":7,"tags":{"k":"\""}}}"#);
    let untagged = About {
        tags: None,
        ..about
    };
    assert_eq!(told_by(&told(), about), told_by(&told(), untagged));
}

/// An encoder of events that tells positions.
fn told() -> Encoder {
    let epoch = Epoch::from_bits(255);
    let position = Position { epoch, offset: 7 };
    let present = Joined::Present {
        position,
        messages: 0,
    };
    let mut encoder = Encoder::of(Subprotocol::Events);
    encoder.greet(present, Recovery::Asked);
    encoder
}

#[test]
fn losses_and_restarts_are_events() {
    let mut encoder = Encoder::of(Subprotocol::Events);
    assert_eq!(
        said(encoder.lagged(3)),
        "event: lagged\ndata: {\"lagged\":3}\n\n"
    );
    assert_eq!(encoder.lagged(0), None);
    assert_eq!(encoder.before(Generation::new(1)), None);
    let restart = said(encoder.before(Generation::new(2)));
    let data = r#"{"service":"restarted","generation":2}"#;
    assert_eq!(restart, format!("event: service\ndata: {data}\n\n"));
}
