//! Services: async functions of a [`Context`], each run while at least one client is connected to
//! it.

use futures::future::{BoxFuture, FutureExt};

mod context;
mod echo;
mod event;
mod history;
mod json;
mod members;
mod ping;
mod roster;
mod stop;
mod timenow;

pub(crate) use self::context::Seed;
pub use self::context::{Context, Next};
pub use self::echo::echo;
pub use self::event::{Event, LeaveReason, NextEvent};
pub use self::json::BadJson;
pub(crate) use self::members::Members;
pub use self::ping::ping;
pub(crate) use self::roster::Leaving;
pub(crate) use self::stop::Stop;
pub use self::timenow::timenow;
pub use crate::bus::{Caller, Request, RequestError, Responder};

/// A service that clients reach at `/ws/<service>`.
///
/// Every async function of a [`Context`] is a service; it returns nothing, or a `Result` whose
/// error makes the run a crash.
///
/// ```
/// use busline::Context;
///
/// async fn shout(mut ctx: Context) {
///     while let Some(message) = ctx.recv().await {
///         if let Some(text) = message.as_text() {
///             ctx.publish(text.to_uppercase());
///         }
///     }
/// }
/// # fn check(_: impl busline::Service) {}
/// # check(shout);
/// ```
pub trait Service: Send + Sync + 'static {
    /// Runs the service for as long as it has clients. A return before the last client has left
    /// counts as a crash, like an error or a panic: the service is started again after a wait.
    ///
    /// The future should return soon after [`Context::recv`] has returned `None`.
    ///
    /// The future must not block its thread, which it shares with the sessions.
    fn run(&self, ctx: Context) -> BoxFuture<'static, Result<(), String>>;
}

impl<F, Fut> Service for F
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
{
    fn run(&self, ctx: Context) -> BoxFuture<'static, Result<(), String>> {
        self(ctx).map(Outcome::into_result).boxed()
    }
}

/// A return type of a service's function.
pub trait Outcome {
    /// The text of the error, if the service returned an error.
    ///
    /// # Errors
    ///
    /// When the service ended by an error.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: std::fmt::Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}
