//! `/ws/`: admits a client and upgrades its connection.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::bus::Room;
use crate::rt::Runtime;
use crate::server::handshake::{Handshake, HandshakeError};
use crate::server::routes::asked::Asked;
use crate::server::routes::entrance::{self, Newcomer};
use crate::server::routes::refusal::Refusal;
use crate::server::routes::shell::Shell;
use crate::server::upgrade::{Kind, Upgrade};
use crate::server::wish::Wishes;
use crate::session::{Admission, Asking};

/// Admits a client and upgrades its connection.
pub(super) async fn join<R: Runtime>(
    State(shell): State<Shell<R>>,
    Asked(room): Asked,
    mut request: Request,
) -> Response {
    let app = shell.app();
    let is_foreign = !entrance::is_allowed(app, &request);
    let handshake = Handshake::parse(request.version(), request.headers());
    let room = match room {
        Ok(room) => room,
        Err(error) => {
            let refusal = Refusal::of_admission(app, &error.into());
            let handshake = handshake.ok().filter(|_| !is_foreign);
            return refusal.answer(app, handshake, request);
        }
    };
    if is_foreign {
        return entrance::foreign(app, &request);
    }
    let handshake = match handshake {
        Ok(handshake) if app.limits().compress_bytes_min.is_some() => handshake,
        Ok(handshake) => handshake.without_extensions(),
        Err(error) => return no_handshake(app, error, request),
    };
    let admission = match newcomer(app, &room, &request, &handshake) {
        Ok(client) => entrance::admit(app, &room, client).await,
        Err(refusal) => Err(refusal),
    };
    match admission {
        Ok(admission) => {
            upgrade(
                &shell,
                admission.compressing(handshake.deflate()),
                &mut request,
            );
            handshake.into_response()
        }
        Err(refusal) => refusal.answer(app, Some(handshake), request),
    }
}

/// The client of a request.
fn newcomer<R: Runtime>(
    app: &App<R>,
    room: &Room,
    request: &Request,
    handshake: &Handshake,
) -> Result<Newcomer, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let wishes = entrance::wishes(app, room, |kind| Wishes::read(query, kind))?;
    let asking = Asking {
        subprotocol: handshake.subprotocol(),
        wish: wishes.messages,
        join_leave: wishes.join_leave,
    };
    Newcomer::of(app, request, asking)
}

/// Spawns the upgrade of the connection.
fn upgrade<R: Runtime>(shell: &Shell<R>, admission: Admission<R>, request: &mut Request) {
    let upgrade = hyper::upgrade::on(&mut *request);
    let kind = request.extensions().get::<Kind<R>>().copied();
    let task = Box::new(Upgrade::new(admission, shell.end())).run(upgrade, kind);
    shell.app().rt().spawn(Box::pin(task));
}

/// Reports the error of a request, and discards its body, which may still be arriving.
fn no_handshake<R: Runtime>(app: &App<R>, error: HandshakeError, request: Request) -> Response {
    if error == HandshakeError::Body {
        entrance::discard_body(app, request);
    }
    error.into_response()
}
