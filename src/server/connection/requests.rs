//! The requests of one connection: each with the facts that the routes need about the connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use futures::future::{Either, Pending, pending};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::app::App;
use crate::caller::Place;
use crate::rt::Runtime;
use crate::server::deadline::Deadline;
use crate::server::epilogue::Epilogue;
use crate::server::network_path::NetworkPath;
use crate::server::places::Mark;
use crate::server::upgrade::Kind;
use crate::sync::OnceLock;

/// Serves the requests of one connection by the routes.
pub(super) struct Requests<R: Runtime> {
    routes: TowerToHyperService<Router>,
    keeper: Arc<Keeper<R>>,
    facts: Facts<R>,
}

/// The facts about a connection that are extensions of each of its requests, beside its [`Mark`].
pub(super) struct Facts<R: Runtime> {
    pub(super) address: Option<SocketAddr>,
    pub(super) network_path: NetworkPath,
    pub(super) deadline: Deadline,
    pub(super) kind: Kind<R>,
    pub(super) epilogue: Epilogue,
}

impl<R: Runtime> Requests<R> {
    pub(super) fn new(routes: Router, keeper: Keeper<R>, facts: Facts<R>) -> Self {
        Self {
            routes: TowerToHyperService::new(routes),
            keeper: Arc::new(keeper),
            facts,
        }
    }

    fn tell(&self, extensions: &mut Extensions) {
        // As axum does it.
        if let Some(address) = self.facts.address {
            extensions.insert(ConnectInfo(address));
        }
        extensions.insert(self.facts.network_path);
        extensions.insert(self.facts.deadline.clone());
        extensions.insert(self.facts.kind);
        extensions.insert(self.facts.epilogue.clone());
        extensions.insert(self.keeper.mark.clone());
    }
}

impl<R: Runtime> Service<Request<Incoming>> for Requests<R> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Answering<R>, Pending<Result<Response, Infallible>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // The whole request head is there; too late if the connection was displaced before.
        if !self.keeper.mark.serve() {
            return Either::Right(pending());
        }
        self.tell(request.extensions_mut());
        Either::Left(Answering {
            answer: self.routes.call(request),
            keeper: Arc::clone(&self.keeper),
        })
    }
}

/// A request that is being served.
pub(super) struct Answering<R: Runtime> {
    answer: <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future,
    keeper: Arc<Keeper<R>>,
}

impl<R: Runtime> Future for Answering<R> {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.answer).poll(cx))?;
        Poll::Ready(Ok(self.keeper.finish(response)))
    }
}

/// Decides whether a connection is kept after a response.
pub(super) struct Keeper<R: Runtime> {
    app: App<R>,
    mark: Mark,
    /// The place of a connection that is kept, until it ends.
    place: OnceLock<Place>,
}

impl<R: Runtime> Keeper<R> {
    pub(super) fn new(app: App<R>, mark: Mark) -> Self {
        Self {
            app,
            mark,
            place: OnceLock::new(),
        }
    }

    /// Keeps the connection after the response if its request allows it and there is a place, and
    /// lets the response close it otherwise.
    ///
    /// hyper's own switch for this would add `close` to the `Connection: Upgrade` of a 101
    /// response, too, which some clients refuse.
    fn finish(&self, mut response: Response) -> Response {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        if self.mark.may_be_kept() && self.has_place() {
            self.mark.keep();
        } else {
            let close = HeaderValue::from_static("close");
            response.headers_mut().append(header::CONNECTION, close);
        }
        response
    }

    /// Whether the connection has a place among those that are kept, or takes one now.
    fn has_place(&self) -> bool {
        if self.app.is_draining() {
            return false;
        }
        if self.place.get().is_some() {
            return true;
        }
        let place = self.app.callers().keep(&self.app.limits().api);
        place.is_some_and(|place| self.place.set(place).is_ok())
    }
}
