//! Properties: random runs against reference models, and the fuzzers' corpora on stable.

#[path = "model/arriving.rs"]
mod arriving;
#[path = "model/asking.rs"]
mod asking;
#[path = "model/bounds.rs"]
mod bounds;
#[cfg(feature = "cli")]
#[path = "model/config.rs"]
mod config;
#[path = "model/consumers.rs"]
mod consumers;
#[path = "model/credentials.rs"]
mod credentials;
#[path = "model/ending.rs"]
mod ending;
#[path = "model/events.rs"]
mod events;
#[path = "model/gathered.rs"]
mod gathered;
#[path = "model/keeping.rs"]
mod keeping;
#[path = "model/leaving.rs"]
mod leaving;
#[path = "model/members.rs"]
mod members;
#[path = "model/memberships.rs"]
mod memberships;
mod model;
#[path = "model/newsroom.rs"]
mod newsroom;
#[path = "model/operator.rs"]
mod operator;
#[path = "model/order.rs"]
mod order;
#[path = "model/parting.rs"]
mod parting;
#[path = "model/presence.rs"]
mod presence;
#[path = "model/recovery.rs"]
mod recovery;
#[path = "model/regressions.rs"]
mod regressions;
#[path = "model/relay.rs"]
mod relay;
#[path = "model/requests.rs"]
mod requests;
#[path = "model/rights.rs"]
mod rights;
#[path = "model/rooms.rs"]
mod rooms;
#[path = "model/several.rs"]
mod several;
#[path = "model/silent.rs"]
mod silent;
#[path = "model/situations.rs"]
mod situations;
#[path = "model/taps.rs"]
mod taps;

use std::time::Duration;

use busline::limits::{KeepalivePolicy, SlowConsumer};
use busline::rt::Instant;
use busline::session::{Keepalive, Pulse};
use proptest::prelude::*;

use model::{bus, history, lobby, names, registry, session, streams, wire};

/// A thousand cases, or `PROPS_CASES` for a longer or shorter run.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPS_CASES").map_or(1000, |cases| cases.parse().expect("a number"));
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn bus_op() -> impl Strategy<Value = bus::Op> {
    use bus::{Op, Several};
    let bytes = prop_oneof![4 => 0..20_u8, 1 => any::<u8>()];
    let several = (any::<u8>(), bytes.clone(), 0..8_u8);
    let several = several.prop_map(|(topic, bytes, count)| Several {
        topic,
        bytes,
        count,
    });
    prop_oneof![
        2 => (any::<u8>(), bytes.clone())
            .prop_map(|(subscription, bytes)| Op::Batch { subscription, bytes }),
        1 => (any::<u8>(), bytes.clone()).prop_map(|(topic, bytes)| Op::Offer { topic, bytes }),
        1 => several.clone().prop_map(Op::OfferBatch),
        4 => (any::<u8>(), bytes).prop_map(|(topic, bytes)| Op::Publish { topic, bytes }),
        1 => several.prop_map(Op::PublishBatch),
        2 => any::<u8>().prop_map(|subscription| Op::Recv { subscription }),
        2 => any::<u8>().prop_map(|topic| Op::Subscribe { topic }),
        1 => any::<u8>().prop_map(|subscription| Op::Unsubscribe { subscription }),
    ]
}

fn history_op() -> impl Strategy<Value = history::Op> {
    use history::Op;
    let bytes = prop::option::of(0..9_u8);
    let behind = prop::option::weighted(0.7, any::<u8>());
    prop_oneof![
        3 => (any::<u8>(), bytes).prop_map(|(reader, bytes)| Op::Batches { reader, bytes }),
        1 => Just(Op::Expire),
        4 => (any::<u8>(), behind, any::<bool>())
            .prop_map(|(room, behind, recovers)| Op::Join { room, behind, recovers }),
        1 => any::<u8>().prop_map(|reader| Op::Latest { reader }),
        2 => any::<u8>().prop_map(|reader| Op::Leave { reader }),
        2 => Just(Op::Pass),
        6 => (any::<u8>(), any::<u8>(), prop::bool::weighted(0.2))
            .prop_map(|(room, count, is_live)| Op::Publish { room, count, is_live }),
        4 => any::<u8>().prop_map(|reader| Op::Recv { reader }),
        1 => any::<u8>().prop_map(|room| Op::Remove { room }),
    ]
}

fn lobby_op() -> impl Strategy<Value = lobby::Op> {
    use lobby::{Op, Way, Word};
    let ways = prop::sample::select(vec![Way::Close, Way::Drop, Way::Reset]);
    let words = vec![Word::Hello, Word::Hello, Word::Rest, Word::Crash];
    let words = prop::sample::select(words);
    prop_oneof![
        2 => any::<u8>().prop_map(Op::Advance),
        6 => any::<u8>().prop_map(Op::Enter),
        4 => (any::<u8>(), ways).prop_map(|(client, way)| Op::Go(client, way)),
        6 => any::<u8>().prop_map(Op::Run),
        6 => (any::<u8>(), words).prop_map(|(client, word)| Op::Say(client, word)),
        3 => any::<u8>().prop_map(Op::Settle),
    ]
}

fn registry_op() -> impl Strategy<Value = registry::Op> {
    use registry::{Op, Order};
    prop_oneof![
        3 => any::<u8>().prop_map(Op::Advance),
        1 => Just(Op::Drain),
        8 => Just(Op::Join),
        6 => any::<u8>().prop_map(Op::Leave),
        8 => any::<u8>().prop_map(Op::Run),
        4 => prop::sample::select(vec![Order::Fail, Order::Hang, Order::Obey, Order::Return])
            .prop_map(Op::Tell),
        6 => any::<u8>().prop_map(Op::Wait),
    ]
}

fn session_op() -> impl Strategy<Value = session::Op> {
    use session::Op;
    prop_oneof![
        8 => any::<u8>().prop_map(Op::Advance),
        1 => any::<u8>().prop_map(Op::Close),
        1 => Just(Op::Drain),
        1 => Just(Op::End),
        1 => Just(Op::Fail),
        6 => (0..100_u8).prop_map(Op::Fragments),
        6 => any::<u8>().prop_map(Op::Ping),
        6 => Just(Op::Pong),
        12 => any::<u8>().prop_map(Op::Publish),
        1 => any::<u8>().prop_map(Op::Raw),
        1 => Just(Op::Reset),
        24 => any::<u8>().prop_map(Op::Room),
        16 => any::<u8>().prop_map(Op::Run),
        8 => Just(Op::Settle),
        24 => (0..200_u8).prop_map(Op::Text),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_room_is_told_who_is_there_and_is_gone_once_it_is_over(
        ops in prop::collection::vec(lobby_op(), 0..120),
        drain_at in prop::option::of(0..120_usize),
    ) {
        let mut ops = ops;
        if let Some(at) = drain_at.filter(|at| *at < ops.len()) {
            ops.insert(at, lobby::Op::Drain);
        }
        lobby::run(&ops);
    }

    #[test]
    fn the_bus_does_what_topics_as_vectors_do(
        messages in prop_oneof![8 => 1..8_usize, 1 => Just(usize::MAX)],
        bytes in prop_oneof![8 => 0..64_usize, 1 => Just(1 << 20), 1 => Just(usize::MAX)],
        ops in prop::collection::vec(bus_op(), 0..200),
    ) {
        bus::run(messages, bytes, &ops);
    }

    #[test]
    fn who_comes_back_gets_all_that_was_said_or_is_told_why_not(
        window in 1..6_usize,
        ops in prop::collection::vec(history_op(), 0..150),
    ) {
        history::run(window, &ops);
    }

    #[test]
    fn the_leases_are_the_reference_count_whatever_happens(
        linger in prop_oneof![Just(0), Just(500)],
        ops in prop::collection::vec(registry_op(), 0..120),
    ) {
        registry::run(Duration::from_millis(linger), &ops);
    }

    #[test]
    fn a_session_ends_is_legal_and_is_counted_whatever_its_peer_does(
        window in 1..8_usize,
        slow_consumer in prop::sample::select(vec![
            SlowConsumer::Skip,
            SlowConsumer::Close,
            SlowConsumer::Latest,
        ]),
        ops in prop::collection::vec(session_op(), 0..120),
    ) {
        session::run(window, slow_consumer, &ops);
    }

    #[test]
    fn the_fuzz_targets_pass_on_any_bytes(
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        session::fuzz(&data);
        streams::fuzz(&data);
        registry::fuzz(&data);
        bus::fuzz(&data);
        wire::fuzz(&data);
    }

    #[test]
    fn names_are_what_the_grammar_allows(
        text in prop_oneof!["[a-z0-9._:-]{0,70}", "[!-~]{0,260}", ".{0,40}"],
    ) {
        names::fuzz(text.as_bytes());
    }

    #[cfg(feature = "cli")]
    #[test]
    fn arguments_are_taken_or_refused_with_a_word(
        lines in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec!["--listen", "--window", "--linger", "--log", "-V", "-h"])
                    .prop_map(str::to_owned),
                "--max-message-bytes=[0-9-]{0,12}",
                "[0-9]{0,4} ?(ms|s|m|h|d)?",
                ".{0,20}",
            ],
            0..6,
        ),
    ) {
        config::fuzz(lines.join("\n").as_bytes());
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_file_is_taken_or_refused_with_a_word(
        lines in prop::collection::vec(
            prop_oneof![
                "(listen|origins) = \\[?\"[a-z:*./0-9]{0,12}\"\\]?",
                "(window|max_message_bytes|linger) = \"?[0-9a-z]{0,6}\"?",
                "\\[(limits|service.ping|service.x|auth)\\]",
                "[a-z_.]{1,8} = [a-z0-9\\[\\]{}\"#-]{0,8}",
                ".{0,20}",
            ],
            0..8,
        ),
    ) {
        config::fuzz(format!("\n\n{}", lines.join("\n")).as_bytes());
    }

    /// Polled at each deadline, a peer is dead exactly when it has answered no ping in time.
    #[test]
    fn a_peer_is_dead_after_its_longest_silence_and_not_before(
        interval in 1..100_000_u64,
        pong_timeout in 0..100_000_u64,
        silences in prop::collection::vec(0..200_000_u64, 1..20),
    ) {
        let policy = KeepalivePolicy {
            interval: Duration::from_nanos(interval),
            pong_timeout: Duration::from_nanos(pong_timeout),
        };
        let longest = Keepalive::longest_silence(policy);
        let mut heard = Instant::ZERO;
        let mut keepalive = Keepalive::new(heard);
        for silence in silences {
            let silence = Duration::from_nanos(silence);
            let mut pings = 0;
            while keepalive.deadline(&policy) < heard + silence {
                let now = keepalive.deadline(&policy);
                match keepalive.on_time(&policy, now) {
                    Pulse::Ping => {
                        pings += 1;
                        keepalive.sent();
                        prop_assert!(keepalive.written(now));
                    }
                    Pulse::Dead => {
                        prop_assert_eq!(now, heard + longest);
                        prop_assert_eq!(pings, 1);
                        return Ok(());
                    }
                    Pulse::Wait => prop_assert_eq!(pings, 1),
                }
            }
            prop_assert!(silence <= longest, "alive after {:?} of silence", silence);
            heard = heard + silence;
            keepalive.heard(heard);
        }
    }

    /// A peer that answers each ping within three quarters of its time, as far as the machine is
    /// awake, is never dead, however the machine sleeps: at most once for each ping.
    #[test]
    fn a_machine_that_sleeps_kills_no_peer_that_answers(
        ticks in prop::collection::vec((1..4_u64, 0..40_u8), 1..400),
        sleep in 1..1_000_000_u64,
    ) {
        let policy = KeepalivePolicy {
            interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(20),
        };
        let mut now = Instant::ZERO;
        let mut keepalive = Keepalive::new(now);
        // How long it has been awake since the ping, and whether it has slept since.
        let mut asked: Option<(u64, bool)> = None;
        for (awake, choice) in ticks {
            let sleeps = choice == 0 && asked.is_none_or(|(_, has_slept)| !has_slept);
            now = now + Duration::from_secs(awake + if sleeps { sleep } else { 0 });
            if let Some((since, has_slept)) = &mut asked {
                *since += awake;
                *has_slept |= sleeps;
            }
            if asked.is_some_and(|(since, _)| since >= 12) {
                keepalive.heard(now);
                asked = None;
            }
            match keepalive.on_time(&policy, now) {
                Pulse::Ping => {
                    keepalive.sent();
                    prop_assert!(keepalive.written(now));
                    asked = Some((0, false));
                }
                Pulse::Dead => prop_assert!(false, "dead {:?} after its ping", asked),
                Pulse::Wait => {}
            }
        }
    }
}

/// Runs a fuzz target's body over its corpus.
fn replay(target: &str, body: impl Fn(&[u8])) {
    let corpus = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&corpus).expect("the corpus is in the tree");
    let mut count = 0;
    for file in files {
        let path = file.expect("a readable folder").path();
        body(&std::fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn the_corpus_of_each_fuzz_target_passes() {
    replay("bus", bus::fuzz);
    #[cfg(feature = "cli")]
    replay("config", config::fuzz);
    replay("names", names::fuzz);
    replay("lobby", lobby::fuzz);
    replay("registry", registry::fuzz);
    replay("session", session::fuzz);
    replay("streams", streams::fuzz);
    replay("wire", wire::fuzz);
}
