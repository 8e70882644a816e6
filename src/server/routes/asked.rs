//! The service or room that the path of a request names.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::bus::Room;
use crate::registry::JoinError;
use crate::rt::Runtime;
use crate::server::routes::shell::Shell;

/// The service or room of a path: `{service}`, `{kind}/` or `{kind}/{key}` at its end. A path names
/// no room with an empty key.
pub(super) struct Asked(pub(super) Result<Room, JoinError>);

impl<R: Runtime> FromRequestParts<Shell<R>> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shell: &Shell<R>) -> Result<Self, Infallible> {
        let names = Path::<Vec<String>>::from_request_parts(parts, shell).await;
        let has_key = parts.uri.path().ends_with('/');
        let registry = shell.app().registry();
        Ok(Self(match names.as_deref().map(Vec::as_slice) {
            Ok([service]) if has_key && !registry.has_rooms(service) => {
                registry.room(service, Some(""))
            }
            Ok([service]) => registry.room(service, None),
            Ok([kind, key]) => registry.room(kind, Some(key)),
            // A path that is not UTF-8 names no service.
            Ok(_) | Err(_) => Err(JoinError::Unknown),
        }))
    }
}
