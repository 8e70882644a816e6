//! On which thread clients are served: with their service, whichever thread accepted them.
//!
//! Who is served by a thread ends with it, which is how these tests tell.

use std::net::SocketAddr;
use std::pin::pin;
use std::thread::{self, JoinHandle};

use busline::rt::Tokio;
use busline::server::{Acceptor, Server, bind};
use busline::service::echo;
use busline::{App, Limits};
use futures::future::select;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::raw::{Raw, TEXT, echoes_early, frame};
use crate::server::soon;

/// A thread that accepts connections and serves who is placed there.
struct Thread {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Thread {
    async fn start(acceptor: Acceptor<Tokio>) -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let (tell, address) = oneshot::channel();
        let handle = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                Tokio::start_worker().expect("there are descriptors");
                let listeners = bind("127.0.0.1:0").await.expect("loopback has free ports");
                let addresses = listeners.addresses().expect("it is bound");
                tell.send(addresses[0]).expect("the test waits for it");
                drop(select(pin!(acceptor.accept(listeners)), ended).await);
            });
        });
        Self {
            address: soon(address).await.expect("the thread runs"),
            end,
            handle,
        }
    }

    async fn join(&self) -> Raw {
        Raw::join_at(self.address, "echo").await
    }

    async fn end(self) {
        self.end.send(()).expect("it runs");
        let ended = tokio::task::spawn_blocking(|| self.handle.join());
        let ended = soon(ended).await.expect("nobody aborts it");
        assert!(ended.is_ok(), "the thread panicked");
    }
}

/// Two threads of one server, which lasts as long as its handle.
async fn threads(home_clients: usize) -> ((App<Tokio>, Server<Tokio>), [Thread; 2]) {
    let builder = App::builder(Tokio::current()).limits(Limits {
        home_clients,
        ..Limits::default()
    });
    let app = builder.service("echo", echo).expect("a valid name").build();
    let server = Server::new(app.clone());
    let first = Thread::start(server.acceptor()).await;
    let second = Thread::start(server.acceptor()).await;
    ((app, server), [first, second])
}

async fn echoes(client: &mut Raw, text: &str) {
    client.send(&frame(TEXT, text.as_bytes())).await;
    assert_eq!(client.frame().await, (TEXT, text.as_bytes().to_vec()));
}

#[tokio::test]
async fn a_client_is_served_with_its_service_and_outlives_the_thread_that_accepted_it() {
    let (_server, [home, other]) = threads(2).await;
    let mut first = home.join().await;
    echoes(&mut first, "the service runs here").await;
    let mut second = other.join().await;
    echoes(&mut second, "from the other thread").await;
    other.end().await;
    echoes(&mut second, "it does not need it").await;
    echoes(&mut first, "nor does this one").await;
}

#[tokio::test]
async fn what_came_with_the_request_comes_along_to_another_thread() {
    let (_server, [home, other]) = threads(2).await;
    let mut first = home.join().await;
    echoes(&mut first, "the service runs here").await;
    let stream = soon(TcpStream::connect(other.address)).await;
    echoes_early(stream.expect("it listens"), "/ws/echo").await;
}

#[tokio::test]
async fn those_for_whom_there_is_no_room_with_the_service_stay_where_they_were_accepted() {
    let (_server, [home, other]) = threads(1).await;
    let mut first = home.join().await;
    echoes(&mut first, "the service runs here").await;
    let mut second = other.join().await;
    echoes(&mut second, "one is there already").await;
    other.end().await;
    second.end().await;
    // It would be the turn of the thread that is gone.
    let mut third = home.join().await;
    echoes(&mut third, "served all the same").await;
    echoes(&mut first, "and so is this one").await;
}

#[tokio::test]
async fn room_with_the_service_is_free_again_once_a_client_has_left() {
    let ((app, _server), [home, other]) = threads(1).await;
    let mut first = home.join().await;
    // It takes its place only after the handshake, and is to have it before the second one.
    echoes(&mut first, "the service runs here").await;
    let mut second = other.join().await;
    echoes(&mut second, "one is there already").await;
    drop(first);
    let left = async {
        while app.registry().status("echo").expect("it is there").clients > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(left).await;
    let mut third = other.join().await;
    echoes(&mut third, "there is room again").await;
    other.end().await;
    second.end().await;
    echoes(&mut third, "with the service").await;
}
