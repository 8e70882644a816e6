//! The network's own rules: order, windows, the end of a stream, resets and holds.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::wild::Lengths;

const NETWORK: Network = Network {
    zones: 1,
    tick_ms: 10,
    latency_ms_min: 5,
    latency_ms_max: 20,
    slack_ms: 0,
};

fn tcp(send_bytes: usize, receive_bytes: usize) -> Tcp {
    Tcp {
        send_bytes,
        receive_bytes,
        bytes_per_second: None,
        lengths: Lengths::Short,
    }
}

/// Runs one connection for 20 s, and returns what the client tells.
fn run<S, SFut, C, CFut>(tcp: &Tcp, server: S, client: C) -> Vec<String>
where
    S: Fn(SimIo) -> SFut + Clone + 'static,
    SFut: Future<Output = ()> + 'static,
    C: FnOnce(SimIo, Shared<Vec<String>>) -> CFut + 'static,
    CFut: Future<Output = ()> + 'static,
{
    let mut net = Simnet::new(1, &NETWORK, tcp);
    let told = Shared::new(Vec::new());
    net.server(move |mut listener| {
        let server = server.clone();
        async move {
            let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
            server(accepted.expect("there is no limit").0).await;
        }
    })
    .expect("it is there");
    let telling = told.clone();
    net.zone(0, |dial| async move {
        let io = dial.dial(1).await.expect("somebody listens");
        client(io, telling).await;
    });
    net.step(Duration::from_secs(20)).expect("no host fails");
    told.with(std::mem::take)
}

#[test]
fn all_bytes_arrive_in_order_through_small_buffers_and_then_the_end() {
    let server = |mut io: SimIo| async move {
        let bytes: Vec<u8> = (0..5_000_u32).map(|n| (n % 251) as u8).collect();
        io.write_all(&bytes).await.expect("the client reads");
    };
    let told = run(&tcp(64, 100), server, |mut io, told| async move {
        let mut bytes = Vec::new();
        let result = io.read_to_end(&mut bytes).await;
        let right = bytes
            .iter()
            .zip(0_u32..)
            .all(|(b, n)| u32::from(*b) == n % 251);
        told.with(|told| told.push(format!("{result:?} {right}")));
    });
    assert_eq!(told, ["Ok(5000) true"]);
}

#[test]
fn a_writer_waits_when_both_buffers_are_full_and_a_reset_ends_its_wait() {
    let server = |io: SimIo| async move {
        sleep(Duration::from_secs(2)).await;
        io.reset();
    };
    let told = run(&tcp(64, 100), server, |mut io, told| async move {
        let mut taken = 0;
        loop {
            match io.write(&[7; 50]).await {
                Ok(bytes) => taken += bytes,
                Err(error) => {
                    let now = elapsed().as_secs();
                    let kind = error.kind();
                    return told.with(|told| told.push(format!("{taken} {kind:?} {now}")));
                }
            }
        }
    });
    assert_eq!(told, ["164 ConnectionReset 2"]);
}

#[test]
fn data_to_a_closed_socket_is_answered_with_a_reset() {
    let told = run(
        &tcp(64, 100),
        |io| async move { drop(io) },
        |mut io, told| async move {
            sleep(Duration::from_secs(1)).await;
            let first = io.write(b"x").await.is_ok();
            sleep(Duration::from_secs(1)).await;
            let then = io.write(b"x").await.map_err(|error| error.kind());
            told.with(|told| told.push(format!("{first} {then:?}")));
        },
    );
    assert_eq!(told, ["true Err(ConnectionReset)"]);
}

#[test]
fn one_half_may_end_before_the_other() {
    let server = |mut io: SimIo| async move {
        let mut asked = String::new();
        io.read_to_string(&mut asked).await.expect("text");
        io.write_all(asked.to_uppercase().as_bytes())
            .await
            .expect("it still reads");
    };
    let told = run(&tcp(3, 2), server, |mut io, told| async move {
        io.write_all(b"question").await.expect("the server reads");
        io.shutdown().await.expect("it can be shut down");
        let mut answer = String::new();
        let result = io.read_to_string(&mut answer).await;
        told.with(|told| told.push(format!("{result:?} {answer}")));
    });
    assert_eq!(told, ["Ok(8) QUESTION"]);
}

#[test]
fn a_network_that_is_gone_keeps_nothing_of_what_looked_around() {
    let mut net = Simnet::new(1, &NETWORK, &Tcp::default());
    let looker = std::sync::Arc::new(());
    let (held, handle) = (looker.clone(), net.runtime.handle().clone());
    net.at_rest(move || {
        let _ = (&held, &handle);
    });
    net.step(Duration::from_secs(1)).expect("no host fails");
    drop(net);
    assert_eq!(std::sync::Arc::strong_count(&looker), 1);
}
