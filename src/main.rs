//! The binary: arguments, then the server, until a signal.

use std::future::pending;
use std::io::IsTerminal;
use std::pin::pin;
use std::process::ExitCode;

use busline::App;
use busline::app::RegisterError;
use busline::rt::Tokio;
use busline::server::{Config, Listeners, LogFormat, bind, serve, serve_admin};
use busline::service::{echo, ping, timenow};
use clap::Parser;
use futures::future::{Either, select};
use tracing::{info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod trim;

/// Why the server ended other than as asked.
type Problem = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let config = Config::parse();
    log(&config);
    match start(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("busline: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn log(config: &Config) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let lines = match config.log_format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry()
        .with(config.log.clone())
        .with(lines)
        .init();
}

fn start(config: &Config) -> Result<(), Problem> {
    // One thread keeps together what becomes ready together: fewer and larger writes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        let app = app(config)?;
        let listeners = bind(&config.listen).await?;
        let admin = admin(config).await?;
        greet(config, &app, &listeners)?;
        run(listeners, admin, app, signals).await
    })
}

fn app(config: &Config) -> Result<App<Tokio>, RegisterError> {
    let builder = App::builder(Tokio::current())
        .limits(config.limits())
        .lifecycle(config.lifecycle())
        .service("echo", echo)?
        .service("ping", ping)?
        .service("timenow", timenow)?;
    Ok(builder.build())
}

/// Where operators listen unless told otherwise.
const ADMIN: &str = "localhost:8081";

/// The operators' listener, unless it is off.
async fn admin(config: &Config) -> Result<Option<Listeners>, Problem> {
    let listeners = match config.admin.as_deref() {
        Some("off") => return Ok(None),
        Some(address) => bind(address).await?,
        // Nobody has asked for it: a second server on the machine need not fail for it.
        None => match bind(ADMIN).await {
            Ok(listeners) => listeners,
            Err(error) => {
                warn!(%error, "no operators' listener: choose another address with --admin");
                return Ok(None);
            }
        },
    };
    info!(addresses = ?listeners.addresses()?, "operators' listener");
    Ok(Some(listeners))
}

/// Tells what is served and how to try it.
fn greet(config: &Config, app: &App<Tokio>, listeners: &Listeners) -> Result<(), Problem> {
    let addresses = listeners.addresses()?;
    // The port the system chose, where it was asked to.
    let host = config
        .listen
        .rsplit_once(':')
        .map_or("localhost", |(host, _)| host);
    let host = match (host, addresses.first()) {
        ("0.0.0.0" | "[::]", Some(first)) => format!("localhost:{}", first.port()),
        (host, Some(first)) => format!("{host}:{}", first.port()),
        (host, None) => host.to_owned(),
    };
    println!(
        "busline {} serves http://{host}/",
        env!("CARGO_PKG_VERSION")
    );
    println!();
    for name in app.registry().names() {
        println!("  websocat ws://{host}/ws/{name}");
    }
    println!();
    println!("Ctrl-C stops it.");
    info!(?addresses, "listening");
    Ok(())
}

/// Serves until the first signal, drains until the second.
async fn run(
    listeners: Listeners,
    admin: Option<Listeners>,
    app: App<Tokio>,
    mut signals: Signals,
) -> Result<(), Problem> {
    let trimmed = app.clone();
    let watched = app.clone();
    let operators = pin!(async {
        match admin {
            Some(listeners) => serve_admin(listeners, watched).await,
            None => pending().await,
        }
    });
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    let serve = pin!(serve(listeners, app, async {
        // A sender that is gone is a signal as well.
        drained.await.unwrap_or_default();
    }));
    let signal = pin!(async {
        signals.next().await;
        drop(drain);
        signals.next().await;
    });
    let trim = pin!(trim::after_sessions(&trimmed));
    match select(select(serve, signal), select(trim, operators)).await {
        Either::Left((Either::Left((served, _)), _)) => Ok(served?),
        Either::Left((Either::Right(((), _)), _)) => {
            Err("stopped at once by a second signal".into())
        }
        Either::Right((Either::Left((never, _)) | Either::Right((never, _)), _)) => match never {},
    }
}

/// The signals that ask the server to stop.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        let interrupt = pin!(self.interrupt.recv());
        let terminate = pin!(self.terminate.recv());
        select(interrupt, terminate).await;
    }
}

#[cfg(not(unix))]
impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        // Where Ctrl-C cannot be caught, nothing asks the server to stop.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
