//! Events, read by a parser as HTML describes it (9.2.6), at any division of the stream.

use proptest::prelude::*;

use super::*;
use crate::bus::Epoch;

/// An event as a page receives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    kind: String,
    data: String,
    /// The last id of the stream.
    id: String,
}

/// The parser of a browser.
#[derive(Default)]
struct Parser {
    line: String,
    after_return: bool,
    id: String,
    kind: String,
    data: String,
    events: Vec<Event>,
}

impl Parser {
    fn take(&mut self, text: &str) {
        for one in text.chars() {
            let after_return = std::mem::take(&mut self.after_return);
            match one {
                '\n' if after_return => {}
                '\n' | '\r' => {
                    self.after_return = one == '\r';
                    let line = std::mem::take(&mut self.line);
                    self.line(&line);
                }
                one => self.line.push(one),
            }
        }
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let (mut data, kind) = (
            std::mem::take(&mut self.data),
            std::mem::take(&mut self.kind),
        );
        if data.pop().is_some() {
            let kind = if kind.is_empty() {
                "message".to_owned()
            } else {
                kind
            };
            let id = self.id.clone();
            self.events.push(Event { kind, data, id });
        }
    }
}

fn parsed(frames: &Frames) -> Vec<Event> {
    let mut parser = Parser::default();
    for part in frames.parts() {
        parser.take(str::from_utf8(part.payload).expect("an event is text"));
    }
    assert_eq!((parser.line.as_str(), parser.data.as_str()), ("", ""));
    parser.events
}

fn texts(texts: &[&str]) -> Frames {
    let each: Vec<Frames> = texts.iter().map(|text| Frame::text(text).into()).collect();
    Frames::join(each.iter()).expect("one at least")
}

fn at(offset: u64) -> Position {
    let epoch = Epoch::from_bits(0x00ab_cdef_0123_4567);
    Position { epoch, offset }
}

fn only(frame: &Frame) -> &str {
    str::from_utf8(frame.payload_bytes()).expect("an event is text")
}

#[test]
fn an_event_has_the_text_that_is_documented() {
    for (frame, text) in [
        (message(&Frame::text("a"), None), "data: a\n\n"),
        (message(&Frame::text(""), None), "data: \n\n"),
        (
            message(&Frame::text("a\nb\r\nc\rd\n"), Some(at(7))),
            "id: 00abcdef01234567:7\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n",
        ),
        (
            message(&Frame::binary([1, 2]), Some(at(8))),
            "id: 00abcdef01234567:8\nevent: binary\ndata: AQI=\n\n",
        ),
        (
            notice("lagged", "{\"lagged\":3}", None),
            "event: lagged\ndata: {\"lagged\":3}\n\n",
        ),
    ] {
        assert_eq!(only(&frame), text);
    }
}

#[test]
fn no_text_can_pass_for_another_event_or_for_an_id() {
    for text in [
        "\n\nevent: lagged\ndata: {}\n\n",
        "\r\revent: x",
        "\r\n\r\nid: 1:1\r\n\r\n",
        "id: 9\nretry: 1",
        ": comment",
        " two  spaces ",
        "\u{feff}mark",
        "nul \u{0}, line \u{2028} and \u{85}",
    ] {
        let events = parsed(&encode_at(&texts(&[text, "next"]), at(1)));
        let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
        let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
        assert_eq!(kinds, ["message"; 2], "{text:?}");
        assert_eq!(ids, [at(1).to_string(), at(2).to_string()], "{text:?}");
        let data = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(events[0].data, data);
    }
}

#[test]
fn each_message_of_a_batch_has_its_own_frame_and_its_own_id() {
    let three = texts(&["a", "b\nc", ""]);
    assert_eq!(encode(&three).len(), 3);
    let events = parsed(&encode_at(&three, at(7)));
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids, [7, 8, 9].map(|offset| at(offset).to_string()));
    let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, ["a", "b\nc", ""]);
}

/// Texts with many line ends, fields and colons.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\r\n:a -]{0,12}(data|id|event)?[\r\n: ]{0,3}"
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back_with_its_line_ends_as_one(
        all in proptest::collection::vec(text(), 1..6),
        offset in 0..u64::MAX - 6,
    ) {
        let given: Vec<&str> = all.iter().map(String::as_str).collect();
        let frames = texts(&given);
        let expected: Vec<String> = all
            .iter()
            .map(|text| text.replace("\r\n", "\n").replace('\r', "\n"))
            .collect();
        for (events, has_ids) in [
            (parsed(&encode(&frames)), false),
            (parsed(&encode_at(&frames, at(offset))), true),
        ] {
            let data: Vec<String> = events.iter().map(|event| event.data.clone()).collect();
            prop_assert_eq!(&data, &expected);
            for (event, offset) in events.iter().zip(offset..) {
                let id = if has_ids { at(offset).to_string() } else { String::new() };
                prop_assert_eq!((event.kind.as_str(), &event.id), ("message", &id));
            }
        }
    }

    #[test]
    fn bytes_are_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let events = parsed(&encode(&Frame::binary(&bytes).into()));
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(events[0].kind.as_str(), BINARY);
        prop_assert_eq!(BASE64.decode(&events[0].data).expect("base64"), bytes);
    }
}
