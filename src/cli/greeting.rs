//! The greeting of the binary once it listens: the services and how to try them.

use busline::App;
use busline::rt::Tokio;
use busline::server::{Address, Config, Listeners};
use tracing::info;

use crate::output;

/// Logs the addresses, and prints the services with a way to try them.
pub(crate) fn greet(
    config: &Config,
    app: &App<Tokio>,
    listeners: &Listeners,
) -> std::io::Result<()> {
    let addresses = listeners.addresses()?;
    info!(?addresses, "listening");
    let port = addresses.first().map(std::net::SocketAddr::port);
    output::greet(Greeting::new(config, port).text(app));
    Ok(())
}

/// The address at which a client on this machine reaches the server.
struct Greeting {
    /// `http` or `https`, and `ws` or `wss`.
    schemes: [&'static str; 2],
    /// `None` if the server listens on no TCP address.
    host: Option<String>,
}

impl Greeting {
    fn new(config: &Config, port: Option<u16>) -> Self {
        let schemes = match config.tls() {
            Some(_) => ["https", "wss"],
            None => ["http", "ws"],
        };
        let named = config.listen().find_map(|address| match address {
            Address::Tcp { host, .. } => Some(host.as_str()),
            #[cfg(unix)]
            Address::Unix(_) => None,
        });
        let host = match named {
            Some("0.0.0.0" | "[::]") | None => "localhost",
            Some(host) => host,
        };
        Self {
            schemes,
            // The port comes from the socket, because the operating system may have chosen it.
            host: port.map(|port| format!("{host}:{port}")),
        }
    }

    fn text(&self, app: &App<Tokio>) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let [http, ws] = self.schemes;
        let Some(host) = &self.host else {
            return format!("busline {version} serves Unix sockets\n\nCtrl-C stops it.\n");
        };
        let paths = app.registry().paths("lobby");
        let lines = paths.map(|path| format!("  websocat {ws}://{host}/ws/{path}\n"));
        let lines = lines.collect::<String>();
        format!("busline {version} serves {http}://{host}/\n\n{lines}\nCtrl-C stops it.\n")
    }
}
