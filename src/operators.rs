//! The operators' listener: where it is, unless it is off.

use busline::server::{Admin, BindError, Listeners, bind_all};
use tracing::{info, warn};

/// Listens for operators.
pub(crate) async fn listen(admin: &Admin) -> Result<Option<Listeners>, BindError> {
    let listeners = match admin {
        Admin::Off => return Ok(None),
        Admin::At(address) => bind_all([address]).await?,
        // Nobody has asked for it: a second server on the machine need not fail for it.
        Admin::IfFree(address) => match bind_all([address]).await {
            Ok(listeners) => listeners,
            Err(error) => {
                warn!(%error, "no operators' listener: choose another address with --admin");
                return Ok(None);
            }
        },
    };
    // Where that is unknown, it listens all the same.
    let addresses = listeners.addresses().unwrap_or_default();
    info!(?addresses, "operators' listener");
    Ok(Some(listeners))
}
