//! The state of the routes: the application, and the end of the server.

use crate::app::App;
use crate::rt::Runtime;
use crate::sync::{Cancelled, Canceller};

/// The state of the routes.
pub(in crate::server) struct Shell<R: Runtime> {
    app: App<R>,
    end: Cancelled,
}

impl<R: Runtime> Clone for Shell<R> {
    fn clone(&self) -> Self {
        Self {
            app: self.app.clone(),
            end: self.end.clone(),
        }
    }
}

impl<R: Runtime> Shell<R> {
    /// A shell whose connections and sessions end with `end`.
    pub(super) fn new(app: App<R>, end: Cancelled) -> Self {
        Self { app, end }
    }

    /// A shell whose connections and sessions end when the returned [`Canceller`] is dropped.
    pub(in crate::server) fn with_end(app: App<R>) -> (Canceller, Self) {
        let (alive, end) = Cancelled::new();
        (alive, Self::new(app, end))
    }

    pub(in crate::server) fn app(&self) -> &App<R> {
        &self.app
    }

    pub(in crate::server) fn end(&self) -> Cancelled {
        self.end.clone()
    }
}
