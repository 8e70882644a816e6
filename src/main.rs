//! The binary: arguments, then the server, until a signal.

use std::io::IsTerminal;
use std::pin::pin;
use std::process::ExitCode;

use busline::App;
use busline::app::RegisterError;
use busline::rt::Tokio;
use busline::server::auth::Remote;
use busline::server::{Address, Config, Listeners, Sources, bind_all, command, serve};
use busline::service::{echo, ping, timenow};
use clap::ArgMatches;
use futures::future::{Either, select};
use tracing::info;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod reload;
mod trim;

use self::reload::Reload;

/// Why the server ended other than as asked.
type Problem = Box<dyn std::error::Error>;

/// The services of the binary.
const SERVICES: &[&str] = &["echo", "ping", "timenow"];

fn main() -> ExitCode {
    match run(&command().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.to_string().lines() {
                eprintln!("busline: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asks for.
fn run(matches: &ArgMatches) -> Result<(), Problem> {
    let sources = Sources::new(matches, variable, SERVICES);
    match matches.subcommand() {
        Some(("check", matches)) => {
            let file = matches.get_one::<String>("file").expect("it is required");
            Sources::file(file, SERVICES).read()?;
            println!("{file} is valid");
            Ok(())
        }
        Some(("config", _)) => {
            print!("{}", sources.read()?.print());
            Ok(())
        }
        Some(_) | None => {
            let config = sources.read()?;
            log(&config);
            start(config, sources)
        }
    }
}

/// A variable of the environment; what is no text is not allowed anyway.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}

fn log(config: &Config) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(config.log().clone())
        .with(lines)
        .init();
}

fn start(config: Config, sources: Sources) -> Result<(), Problem> {
    // One thread keeps together what becomes ready together: fewer and larger writes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::catch()?;
        let remote = config.remote();
        let app = app(&config, remote.clone().map(|(remote, _)| remote))?;
        let listeners = bind_all(config.listen()).await?;
        let is_open = !config.authenticates() && !config.allow_anonymous();
        if listeners.is_public()? && is_open {
            return Err(PUBLIC.into());
        }
        greet(&config, &app, &listeners)?;
        let reload = Reload::new(sources, config, app.clone(), remote)?;
        serve_until_told(listeners, app, signals, reload).await
    })
}

/// Says no to a server that anybody may use who can reach it, unless that is what is wanted.
const PUBLIC: &str = "others can reach this address, and clients need not say who they are: \
                      listen on localhost, configure [auth], or allow it with --allow-anonymous";

fn app(config: &Config, remote: Option<Remote>) -> Result<App<Tokio>, RegisterError> {
    let mut builder = App::builder(Tokio::current())
        .limits(config.limits())
        .origins(config.origins())
        .service_with("echo", echo, config.policy("echo"))?
        .service_with("ping", ping, config.policy("ping"))?
        .service_with("timenow", timenow, config.policy("timenow"))?;
    if config.authenticates() {
        builder = builder.authorize(config.jwt(remote));
    }
    Ok(builder.build())
}

/// Tells what is served and how to try it.
fn greet(config: &Config, app: &App<Tokio>, listeners: &Listeners) -> Result<(), Problem> {
    let addresses = listeners.addresses()?;
    // The port the system chose, where it was asked to.
    let host = config.listen().next().map_or("localhost", Address::host);
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
async fn serve_until_told(
    listeners: Listeners,
    app: App<Tokio>,
    mut signals: Signals,
    reload: Reload,
) -> Result<(), Problem> {
    let trimmed = app.clone();
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
    let reload = pin!(reload.run());
    match select(select(serve, signal), select(trim, reload)).await {
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
