//! The syntax of the core's policies: rates, and choices between words.

use super::admin::LogFormat;
use super::run::Run;
use super::value::{Described, Kind, Value};
use crate::client::address::Network;
use crate::limits::{
    DrainCode, Keep, OverRate, Payload, Publish, Rate, Readers, Recovery, SlowConsumer, Tell,
};
use crate::server::auth::{Anonymous, Join};

impl Value for Rate {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "N/s";

    fn allowed() -> String {
        "a rate such as `10/s` or `10/s burst 100`, of at least 1".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        rate(text).ok_or_else(String::new)
    }
}

fn rate(text: &str) -> Option<Rate> {
    let (per_second, rest) = text.split_once("/s")?;
    let burst = if rest.is_empty() {
        per_second
    } else {
        rest.strip_prefix(" burst ")?
    };
    let number = |text: &str| text.trim().parse().ok().filter(|number| *number >= 1);
    Some(Rate::new(number(per_second)?, number(burst)?))
}

impl Described for Network {
    const PLACEHOLDER: &'static str = "NETWORK";
    const ALLOWED: &'static str = "an address or a network, such as 10.0.0.0/8 or fd00::/8";
}

/// Declares the words of a choice.
macro_rules! choice {
    ($type:ty, $placeholder:literal, $($word:literal = $value:ident ($meaning:literal)),+) => {
        impl Value for $type {
            const KIND: Kind = Kind::Text;
            const PLACEHOLDER: &'static str = $placeholder;

            fn allowed() -> String {
                let words: &[&str] = &[$(concat!($word, " (", $meaning, ")")),+];
                format!("one of {}", words.join(", "))
            }

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$value),)+
                    _ => Err(String::new()),
                }
            }
        }
    };
}

choice!(
    SlowConsumer,
    "POLICY",
    "close" = Close("with 1013"),
    "latest" = Latest("it gets the newest only"),
    "recover" = Recover("it reads on from the history"),
    "skip" = Skip("it loses the oldest")
);
choice!(
    Recovery,
    "WHO",
    "always" = Always("all, from the position that they show"),
    "asked" = Asked("those that ask for it"),
    "newest" = Newest("all, the newest message"),
    "off" = Off("none")
);
choice!(
    Keep,
    "WHAT",
    "count" = Count("their numbers alone"),
    "list" = List("each of them"),
    "off" = Off("none")
);
choice!(
    Tell,
    "WHO",
    "all" = All("those of `busline.v1.json` and of events"),
    "asked" = Asked("those that ask with `?join_leave=true`"),
    "off" = Off("none")
);
choice!(
    Readers,
    "WHO",
    "all" = All("clients that are let in, also without joining"),
    "members" = Members("the clients of the room"),
    "nobody" = Nobody("no client")
);
choice!(
    Join,
    "WHO",
    "anyone" = Anyone("with a token or without"),
    "authenticated" = Authenticated("with any good token"),
    "granted" = Granted("whose token names the service")
);
choice!(
    Anonymous,
    "RIGHTS",
    "all" = All("those of a client with a token"),
    "listen" = Listen("it may join and send nothing"),
    "no" = No("it may not join")
);
choice!(
    OverRate,
    "POLICY",
    "close" = Close("with 1008"),
    "wait" = Wait("its socket is not read for a while")
);
choice!(
    Payload,
    "KIND",
    "any" = Any("texts and binary messages"),
    "binary" = Binary("binary messages"),
    "json" = Json("texts that are JSON"),
    "text" = Text("texts")
);
choice!(
    Publish,
    "WHO",
    "all" = All("clients that are let in, also without joining"),
    "members" = Members("the clients of the room"),
    "nobody" = Nobody("no client")
);
choice!(
    Run,
    "SERVICE",
    "echo" = Echo("a client receives its own messages"),
    "ping" = Ping("every client receives the messages of all"),
    "relay" = Relay("no service: messages of a client go to all clients"),
    "timenow" = Timenow("the time")
);
choice!(
    DrainCode,
    "CODE",
    "1001" = GoingAway("going away"),
    "1012" = Restart("service restart")
);

choice!(
    LogFormat,
    "FORMAT",
    "json" = Json("an object a line, for programs"),
    "text" = Text("for people")
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_a_second_and_so_many_at_once() {
        for (text, rate) in [
            ("10/s", Some(Rate::new(10, 10))),
            ("10/s burst 100", Some(Rate::new(10, 100))),
            ("1/s burst 1", Some(Rate::new(1, 1))),
            ("0/s", None),
            ("10/s burst 0", None),
            ("10", None),
            ("10/m", None),
            ("10/s100", None),
            ("/s", None),
            ("-1/s", None),
            ("", None),
        ] {
            assert_eq!(Rate::read(text).ok(), rate, "{text}");
        }
    }

    #[test]
    fn a_choice_names_what_there_is() {
        assert_eq!(Join::read("anyone"), Ok(Join::Anyone));
        assert_eq!(Join::read("Anyone"), Err(String::new()));
        assert!(Join::allowed().contains("granted (whose token names the service)"));
    }
}
