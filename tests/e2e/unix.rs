//! A Unix socket: the same server on a file.

use std::path::PathBuf;

use busline::server::{BindError, bind};
use busline::service::echo;
use tokio::net::UnixStream;

use crate::raw::echoes_early;
use crate::server::{Server, soon};

pub(crate) fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("busline-{}-{name}.sock", std::process::id()))
}

async fn start(path: &std::path::Path) -> Result<Server, BindError> {
    let listeners = bind(&format!("unix:{}", path.display())).await?;
    assert!(!listeners.is_public().expect("it can be told"));
    Ok(Server::start_on(listeners, |app| app.service("echo", echo)))
}

pub(crate) async fn echoes(path: &std::path::Path) {
    let stream = soon(UnixStream::connect(path)).await.expect("it listens");
    echoes_early(stream, "/ws/echo").await;
}

#[tokio::test]
async fn a_service_is_reached_through_a_file_that_goes_with_the_server() {
    let path = path("reached");
    let mut server = start(&path).await.expect("a free path");
    echoes(&path).await;
    let taken = start(&path).await;
    assert!(taken.is_err(), "another server listens there");
    server.drain();
    server.ended().await.expect("nothing is left");
    assert!(!path.exists());
}

#[tokio::test]
async fn the_file_of_a_successor_stays_when_a_server_ends() {
    let path = path("successor");
    let mut old = start(&path).await.expect("a free path");
    std::fs::remove_file(&path).expect("it is there");
    let mut new = start(&path).await.expect("a free path");
    old.drain();
    old.ended().await.expect("nothing is left");
    echoes(&path).await;
    new.drain();
    new.ended().await.expect("nothing is left");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_a_server_left_behind_is_replaced_and_any_other_is_not() {
    let path = path("left");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a free path"));
    assert!(path.exists(), "std leaves it");
    let mut server = start(&path).await.expect("nobody listens there");
    echoes(&path).await;
    server.drain();
    server.ended().await.expect("nothing is left");
    std::fs::write(&path, "precious").expect("a free path");
    assert!(start(&path).await.is_err());
    assert_eq!(
        std::fs::read_to_string(&path).expect("it is there"),
        "precious"
    );
    std::fs::remove_file(&path).expect("it is there");
}
