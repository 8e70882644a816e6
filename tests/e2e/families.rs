//! IPv4 and IPv6 beside each other.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use busline::server::{Address, BindError, Listeners, bind, bind_all, bind_shared};
use busline::service::echo;

use crate::raw::Raw;
use crate::server::Server;

/// A port that nobody else has in either family; the system gives it to nobody for a while.
fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("there are free ports");
    free.local_addr().expect("it is bound").port()
}

fn at(port: u16, hosts: &[&str]) -> Vec<Address> {
    let address = |host: &&str| format!("{host}:{port}").parse().expect("an address");
    hosts.iter().map(address).collect()
}

/// Clients of both families are served there.
async fn serves_both(listeners: Listeners, port: u16) {
    let _server = Server::start_on(listeners, |app| app.service("echo", echo));
    for host in ["127.0.0.1", "[::1]"] {
        let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
        drop(Raw::join_at(address, "echo").await);
    }
}

#[tokio::test]
async fn the_wildcards_of_both_families_serve_in_either_order() {
    for hosts in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let port = free_port();
        let listeners = bind_all(&at(port, &hosts)).await;
        serves_both(listeners.expect("each has its family"), port).await;
    }
}

#[tokio::test]
async fn the_wildcards_of_both_families_serve_with_several_threads() {
    for hosts in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let port = free_port();
        let listeners = bind_shared(&at(port, &hosts)).await;
        let first = listeners.expect("each has its family");
        let second = first.again().expect("beside the first");
        let third = second.again().expect("beside both");
        drop((first, second));
        serves_both(third, port).await;
    }
}

#[tokio::test]
async fn the_wildcard_of_ipv6_leaves_one_address_of_ipv4_to_another_listener() {
    let port = free_port();
    let listeners = bind_all(&at(port, &["[::]", "127.0.0.1"])).await;
    serves_both(listeners.expect("each has its family"), port).await;
}

#[tokio::test]
async fn the_wildcard_of_ipv6_alone_takes_ipv4_as_well() {
    let file = "/proc/sys/net/ipv6/bindv6only";
    let takes = std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
    assert!(takes, "the system of these tests has it so by default");
    let listeners = bind("[::]:0").await.expect("there are free ports");
    let port = listeners.addresses().expect("it is bound")[0].port();
    serves_both(listeners, port).await;
}

#[tokio::test]
async fn both_wildcards_get_a_free_port_each() {
    let listeners = bind_all(&at(0, &["0.0.0.0", "[::]"])).await;
    let addresses = listeners.expect("there are free ports").addresses();
    let addresses = addresses.expect("they are bound");
    assert_eq!(addresses.len(), 2);
    assert!(addresses.iter().all(|address| address.port() > 0));
}

#[tokio::test]
async fn an_address_that_another_of_the_list_takes_in_is_told_of() {
    for hosts in [
        ["127.0.0.1", "127.0.0.1"],
        ["0.0.0.0", "127.0.0.1"],
        ["[::]", "[::1]"],
    ] {
        let port = free_port();
        let addresses = at(port, &hosts);
        let all = bind_all(&addresses).await.map(drop);
        let shared = bind_shared(&addresses).await.map(drop);
        for error in [all, shared].map(|bound| bound.expect_err("one is too many")) {
            assert!(matches!(error, BindError::Listed { .. }), "{error}");
            let text = error.to_string();
            assert!(!text.contains("another program"), "{text}");
            assert!(text.contains(&format!("{}:{port}, which is listed as well", hosts[0])));
        }
    }
}
