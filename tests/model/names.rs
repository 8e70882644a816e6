//! Names of topics, services and rooms: what parses is what the grammar allows, and comes back as
//! it was.

use busline::bus::{ClientId, NameError, Room, ServiceName, Topic};

/// The body of the fuzz target: any bytes as a name.
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    topic(&text);
    service(&text);
    room(&text);
}

fn topic(text: &str) {
    let allowed = |byte: u8| (0x21..=0x7e).contains(&byte);
    let parsed = text.parse::<Topic>();
    // The topic of a room may be longer, and its key may have spaces.
    let of_room = text.contains(":from-") && parsed.is_ok();
    if !of_room {
        let parsed = parsed.clone().map(|topic| topic.to_string());
        assert_eq!(parsed, expected(text, 255, allowed));
    }
    if let Ok(topic) = parsed {
        assert_eq!(topic.to_string(), text);
    }
}

fn service(text: &str) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || b"0123456789._-".contains(&byte);
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let expected = expected(text, 64, allowed).and_then(|name| {
        let good = name.bytes().next().is_some_and(first);
        if good {
            Ok(name)
        } else {
            Err(NameError::BadByte { at: 0 })
        }
    });
    let parsed = text.parse::<ServiceName>();
    assert_eq!(parsed.clone().map(|name| name.to_string()), expected);
    let Ok(name) = parsed else {
        return;
    };
    // The topics of a service are told apart from those of any other.
    let topic = Topic::from_ws_to_service(&name);
    assert_eq!(
        topic
            .to_string()
            .split_once(':')
            .map(|(service, _)| service),
        Some(text)
    );
    assert_eq!(topic.to_string().parse(), Ok(topic.clone()));
}

fn room(key: &str) {
    let kind: ServiceName = "chat".parse().expect("a valid name");
    let allowed = |byte: u8| (0x20..=0x7e).contains(&byte);
    let room = Room::new(&kind, key);
    let shown = room.clone().map(|room| room.key().to_owned());
    let expected = match key {
        "" => Ok(String::new()),
        key => expected(key, 255 - "chat:".len(), allowed),
    };
    assert_eq!(shown, expected);
    let Ok(room) = room else {
        return;
    };
    for topic in [
        Topic::from_ws_to_service(&room),
        Topic::from_service_to_ws(&room),
        Topic::from_service_to_client(&room, ClientId::new(7)),
    ] {
        assert_eq!(topic.to_string().parse(), Ok(topic.clone()));
    }
}

fn expected(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        let bytes = text.len();
        return Err(NameError::TooLong { bytes, max });
    }
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(at) => Err(NameError::BadByte { at }),
        None => Ok(text.to_owned()),
    }
}
