//! The part of a session that belongs to its connection, whatever rooms its client is in.

use std::sync::Arc;

use super::admit_error::AdmitError;
use crate::admission::permits::Permit;
use crate::app::{App, Policies};
use crate::client::peer::Peer;
use crate::limits::Limits;
use crate::rt::Runtime;

/// The connection of a client, with its place among the sessions.
pub(super) struct Connection<R: Runtime> {
    pub(super) app: App<R>,
    /// The limits in force when the client was admitted.
    pub(super) limits: Arc<Limits>,
    /// Held until the socket is closed, so that the session counts as one until then.
    _permit: Permit,
}

impl<R: Runtime> Connection<R> {
    /// Takes a place for a client.
    ///
    /// # Errors
    ///
    /// When all places are taken, or all that a client of this address or subject may have.
    pub(super) fn open(app: &App<R>, policies: &Policies, peer: &Peer) -> Result<Self, AdmitError> {
        let limits = &policies.limits;
        let permit = app.permit(peer);
        Ok(Self {
            app: app.clone(),
            limits: Arc::clone(limits),
            _permit: permit.map_err(|full| AdmitError::full(full, limits))?,
        })
    }
}
