//! Checks before every route: the request names one of our hosts, and routes for operators refuse
//! pages of other sites.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tracing::warn;

mod named;
mod rule;

pub(super) use self::rule::Audience;

use self::rule::{Page, Rule};
use crate::app::App;
use crate::client::host::Authority;
use crate::metrics::RefuseReason;
use crate::refusal::{Refusal, Wrong, printable};
use crate::rt::Runtime;
use crate::server::caller;
use crate::server::network_path::NetworkPath;

/// The header in which a browser relates the site of the requesting page to the site of the server.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The checks before the routes of a listener.
#[derive(Clone)]
pub(super) struct Gate<R: Runtime> {
    app: App<R>,
    audience: Audience,
}

impl<R: Runtime> Gate<R> {
    /// Puts a gate before these routes; the [`NetworkPath`] of a connection is an extension of its
    /// requests.
    pub(super) fn before<S>(app: &App<R>, audience: Audience, routes: Router<S>) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let app = app.clone();
        routes.layer(from_fn_with_state(Self { app, audience }, pass::<R>))
    }

    /// Checks a request; returns the reason to refuse it, if there is one.
    fn judge(&self, request: &Request) -> Result<(), Wrong> {
        let host = host(request);
        let policies = self.app.policies();
        let network_path = request.extensions().get::<NetworkPath>().copied();
        let rule = Rule {
            audience: self.audience,
            network_path: network_path.unwrap_or(NetworkPath::Unknown),
            hosts: &policies.hosts,
            origins: &policies.origins,
        };
        let is_ours = host.is_none_or(|named| rule.takes(&named.host));
        // The rule concerns requests without credentials: a page has no key of a caller. A wrong
        // key is answered, and counted, where the API is.
        if !is_ours && !caller::shows_key(request) {
            return Err(Wrong::Host);
        }
        match self.audience {
            Audience::Operators if rule.is_foreign(page(request.headers()), host) => {
                Err(Wrong::Origin)
            }
            // A service's route checks the origin itself; other routes for clients are of no use to
            // pages of other sites.
            Audience::Clients | Audience::Operators => Ok(()),
        }
    }

    fn refuse(&self, wrong: Wrong, request: &Request) -> Response {
        let metrics = self.app.metrics();
        match self.audience {
            Audience::Clients => metrics.refused.add(RefuseReason::Host),
            Audience::Operators => metrics.operators_refused.add(1),
        }
        tell(&self.app, self.audience, wrong, request);
        let named = host(request).map_or_else(String::new, |named| named.host.to_string());
        match (wrong, self.audience) {
            (Wrong::Origin, _) => (StatusCode::FORBIDDEN, FOREIGN.to_owned()),
            (Wrong::Host, Audience::Clients) => (
                StatusCode::MISDIRECTED_REQUEST,
                format!("`{named}` is not in `hosts`: {TAKEN_OVER_LOOPBACK}\n"),
            ),
            (Wrong::Host, Audience::Operators) => (
                StatusCode::MISDIRECTED_REQUEST,
                format!("`{named}` is not in `hosts`: {TAKEN_OF_OPERATORS}\n"),
            ),
        }
        .into_response()
    }
}

const FOREIGN: &str = "pages of other sites may not read what is for operators\n";

const TAKEN_OVER_LOOPBACK: &str = "a connection over loopback may name localhost, a loopback \
                                   address, and the hosts that `hosts` or `origins` lists";

const TAKEN_OF_OPERATORS: &str =
    "operators may name an IP address, localhost, and the hosts that `hosts` lists";

/// Passes a request on to its route, with the [`Authority`] it names as an extension.
async fn pass<R: Runtime>(
    State(gate): State<Gate<R>>,
    mut request: Request,
    next: Next,
) -> Response {
    match named::host(request.version(), request.uri(), request.headers()) {
        Ok(Some(host)) => drop(request.extensions_mut().insert(host)),
        Ok(None) => {}
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
    match gate.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(wrong) => gate.refuse(wrong, &request),
    }
}

/// The host that a request names, after [`pass`] has stored it.
pub(super) fn host(request: &Request) -> Option<&Authority> {
    request.extensions().get()
}

/// The headers about the requesting page.
fn page(headers: &HeaderMap) -> Page<'_> {
    Page {
        origin: origin(headers),
        is_cross_site: is_cross_site(headers),
    }
}

/// Whether a browser says that a page of another site has caused the request.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().is_ok_and(names_cross_site);
    headers.get_all(SEC_FETCH_SITE).iter().any(text)
}

fn names_cross_site(field: &str) -> bool {
    let mut sites = field.split(',').map(str::trim);
    sites.any(|site| site.eq_ignore_ascii_case("cross-site"))
}

/// The origin of the requesting page; `None` for a client that is not a browser. A field that is
/// not text and repeated fields yield the empty text, which is no origin.
pub(super) fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::ORIGIN).iter();
    match (fields.next(), fields.next()) {
        (None, _) => None,
        (Some(origin), None) => Some(origin.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
    }
}

/// Reports a refused request to operators, with the values that the refusal depended on.
pub(super) fn tell<R: Runtime>(app: &App<R>, audience: Audience, wrong: Wrong, request: &Request) {
    let origins = request.headers().get_all(header::ORIGIN).iter();
    let origins: Vec<_> = origins.map(HeaderValue::as_bytes).collect();
    let refusal = Refusal {
        listener: audience.name(),
        wrong,
        origin: (!origins.is_empty()).then(|| printable(&origins.join(&b", "[..]))),
        host: host(request).map(|host| printable(host.to_string().as_bytes())),
    };
    let rt = app.rt();
    let Some(untold) = app.refusals().keep(refusal.clone(), rt.now(), rt.wall()) else {
        return;
    };
    let Refusal {
        listener,
        origin,
        host,
        ..
    } = refusal;
    let untold = (untold > 0).then_some(untold);
    let why = match (wrong, audience) {
        (Wrong::Host, _) => "its host is not in `hosts`",
        (Wrong::Origin, Audience::Clients) => {
            "its page is neither of the host that it names nor in `origins`"
        }
        (Wrong::Origin, Audience::Operators) => "its page is of another site",
    };
    warn!(listener, origin, host, untold, "request refused: {why}");
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
