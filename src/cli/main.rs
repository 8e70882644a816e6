//! The binary: arguments, then the server, until a signal.
// The print macros panic if their reader is gone and block if it does not read: use `output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::ExitCode;

use busline::App;
use busline::app::{Builder, RegisterError};
use busline::rt::{Clock, Instant, Tokio};
use busline::server::auth::Remote;
use busline::server::{Config, Listeners, Run, Server, Sources, command};
use busline::service::{echo, ping, timenow};
use clap::{ArgMatches, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use futures::future::{Either, select};
use tracing::warn;

mod admin;
mod greeting;
mod histories;
mod logs;
mod notify;
mod open_files;
mod output;
mod reload;
mod signals;
mod threads;
mod trim;

use self::admin::AdminListeners;
use self::histories::LeftHistories;
use self::logs::Logs;
use self::notify::{Notify, State};
use self::open_files::shortage;
use self::reload::Reload;
use self::signals::Signals;
use self::threads::Threads;

/// An error that ends the process.
type Problem = Box<dyn std::error::Error>;

/// The exit code for an invalid command line.
const USAGE: u8 = 2;

/// The services of the binary.
const SERVICES: &[&str] = &["echo", "ping", "timenow"];

fn main() -> ExitCode {
    let done = match command_line().try_get_matches() {
        Ok(matches) => run(&matches),
        // The help or the version, which clap reports as an error.
        Err(help) if !help.use_stderr() => output::print_help(&help),
        Err(error) => {
            output::within(output::LAST_WORDS_MAX, move || drop(error.print()));
            return ExitCode::from(USAGE);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let problem = problem.to_string();
            let lines = problem.lines().map(|line| format!("busline: {line}\n"));
            output::complain(lines.collect());
            ExitCode::FAILURE
        }
    }
}

/// The command line of the server, with the load generator as a subcommand.
fn command_line() -> Command {
    command(SERVICES).subcommand(busline_bench::command())
}

/// Runs the subcommand.
fn run(matches: &ArgMatches) -> Result<(), Problem> {
    let sources = Sources::new(matches, variable, SERVICES);
    match matches.subcommand() {
        Some(("bench", matches)) => bench(matches),
        Some(("check", matches)) => {
            let file = matches.get_one::<String>("file").expect("it is required");
            name_variables(&sources);
            Sources::file(file, SERVICES).read()?;
            output::print(&format!("{file} is valid\n"))
        }
        Some(("completions", matches)) => {
            let shell = *matches.get_one::<Shell>("shell").expect("it is required");
            let mut script = Vec::new();
            generate(shell, &mut command_line(), "busline", &mut script);
            output::print(&String::from_utf8(script)?)
        }
        Some(("man", _)) => {
            let mut page = Vec::new();
            Man::new(command_line()).render(&mut page)?;
            output::print(&String::from_utf8(page)?)
        }
        Some(("config", _)) => {
            name_variables(&sources);
            output::print(&sources.read()?.print())
        }
        Some(_) | None => start(sources.read()?, sources),
    }
}

/// Reads a variable of the environment; invalid UTF-8 is replaced by U+FFFD.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}

/// Runs a workload of the load generator and prints its figures.
///
/// # Errors
///
/// Why there are no figures, or why they are not reliable; unreliable figures are printed as well.
fn bench(matches: &ArgMatches) -> Result<(), Problem> {
    let outcome = busline_bench::run(matches)?;
    let printed = output::print(&outcome.figures);
    let warnings = outcome.warnings.into_iter();
    let warnings = warnings.map(|warning| format!("busline bench: {warning}\n"));
    output::complain(warnings.collect());
    printed?;
    outcome.faults.map_or(Ok(()), Err)
}

/// Messages about unknown `BUSLINE_` variables, because a misspelt setting would have no effect.
fn unknown_variables(sources: &Sources) -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    sources.unknown(names)
}

/// Reports unknown variables on standard error.
fn name_variables(sources: &Sources) {
    let unknown = unknown_variables(sources).into_iter();
    let lines = unknown.map(|line| format!("busline: {line}\n"));
    output::complain(lines.collect());
}

/// Reports unknown variables in the log.
fn warn_of_variables(sources: &Sources) {
    for line in unknown_variables(sources) {
        warn!("{line}");
    }
}

/// Warns if the limit of open files is below the limit of sessions: clients would wait without a
/// reason.
fn warn_of_shortage(config: &Config, open_files: Option<u64>) {
    let (sessions, threads) = (config.limits().sessions, config.threads().get());
    if let Some(shortage) = open_files.and_then(|limit| shortage(sessions, threads, limit)) {
        warn!("{shortage}");
    }
}

fn start(config: Config, sources: Sources) -> Result<(), Problem> {
    let open_files = open_files::raise();
    threads::runtime()?.block_on(async {
        Tokio::start_worker()?;
        let logs = Logs::start(&config, &Tokio::current())?;
        warn_of_variables(&sources);
        for weak in config.weak_secrets() {
            warn!("{weak} can be guessed: it is shorter than 32 bytes; for trials only");
        }
        let signals = Signals::catch()?;
        let remote = config.remote();
        let builder = App::builder(Tokio::current()).log_lines_dropped(logs.dropped());
        let app = app(builder, &config, remote.clone())?;
        // Catch SIGHUP before readiness is reported: until the signal is caught, it would end the
        // process.
        let reload = Reload::new(sources, config.clone(), app.clone(), remote)?;
        let listeners = listeners(&config).await?;
        let is_open = !config.authenticates() && !config.allow_anonymous();
        if listeners.is_public()? && is_open {
            return Err(PUBLIC.into());
        }
        let admin = AdminListeners::listen(&config).await?;
        let server = Server::new(app.clone());
        let acceptor = server.acceptor();
        // After all that may keep the server from starting, as this takes the file away.
        let histories = LeftHistories::open(&config, &app)?;
        let threads = Threads::start(config.threads(), &listeners, &acceptor).await?;
        warn_of_shortage(&config, open_files);
        greeting::greet(&config, &app, &listeners)?;
        let notify = Notify::default();
        notify.tell(State::Ready);
        let serving = Serving {
            app,
            server,
            listeners,
            admin,
            reload,
            histories,
        };
        let served = serve_until_told(serving, signals, &logs, &notify);
        let served = Box::pin(served).await;
        drop(threads);
        served
    })
}

/// The sockets that systemd passes, or else the configured ones.
async fn listeners(config: &Config) -> Result<Listeners, Problem> {
    let listeners = match Listeners::from_systemd()? {
        Some(listeners) => listeners,
        None if config.threads() > NonZeroUsize::MIN => {
            config.bind_options().bind_shared(config.listen()).await?
        }
        None => config.bind_options().bind_all(config.listen()).await?,
    };
    Ok(match config.tls() {
        Some(tls) => listeners.with_tls(tls),
        None => listeners,
    })
}

/// The reason to refuse a public address without authentication, unless the configuration allows
/// it.
const PUBLIC: &str = "others can reach this address, and clients need not say who they are: \
                      listen on localhost, configure [auth], or allow it with --allow-anonymous";

fn app(
    builder: Builder<Tokio>,
    config: &Config,
    remote: Option<Remote>,
) -> Result<App<Tokio>, RegisterError> {
    let mut builder = builder
        .limits(config.limits())
        .origins(config.origins())
        .query_token(config.query_token())
        .hosts(config.hosts())
        .api_keys(config.api_keys())
        .api_public(config.api_public())
        .service_with("echo", echo, config.policy("echo"))?
        .service_with("ping", ping, config.policy("ping"))?
        .service_with("timenow", timenow, config.policy("timenow"))?;
    for (kind, run) in config.rooms() {
        let policy = config.policy(kind);
        builder = match run {
            Run::Echo => builder.room_with(kind, echo, policy)?,
            Run::Ping => builder.room_with(kind, ping, policy)?,
            Run::Relay => builder.relay_with(kind, policy)?,
            Run::Timenow => builder.room_with(kind, timenow, policy)?,
        };
    }
    if let Some(kind) = config.default_kind() {
        builder = builder.default_kind(kind);
    }
    if config.authenticates() {
        builder = builder.authorize(config.jwt(remote));
    }
    Ok(builder.build())
}

/// The parts of a process that serves.
struct Serving {
    app: App<Tokio>,
    server: Server<Tokio>,
    listeners: Listeners,
    admin: AdminListeners,
    reload: Reload,
    histories: LeftHistories,
}

/// Serves until the first signal, drains until the second.
async fn serve_until_told(
    serving: Serving,
    mut signals: Signals,
    logs: &Logs,
    notify: &Notify,
) -> Result<(), Problem> {
    let Serving {
        app,
        server,
        listeners,
        admin,
        reload,
        histories,
    } = serving;
    // The deadline of the drain, once it has begun.
    let until = Cell::new(Instant::ZERO);
    let admin = pin!(admin.serve(app.clone()));
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    let serve = pin!(async {
        // A dropped sender also starts the drain.
        let told = async { drained.await.unwrap_or_default() };
        let served = server.serve(listeners, told).await;
        app.stop_calls().await;
        histories.save(&app).await;
        logs.finish(until.get().saturating_since(app.rt().now()))
            .await;
        served
    });
    let signal = pin!(async {
        signals.next().await;
        until.set(app.rt().now() + app.limits().drain_timeout);
        notify.tell(State::Stopping);
        drop(drain);
        signals.next().await;
    });
    let trim = pin!(trim::after_sessions(&app));
    let reload = pin!(reload.run(notify));
    match select(select(serve, signal), select(trim, select(reload, admin))).await {
        Either::Left((Either::Left((served, _)), _)) => Ok(served?),
        Either::Left((Either::Right(((), _)), _)) => {
            Err("stopped at once by a second signal".into())
        }
        Either::Right((Either::Left((never, _)), _)) => match never {},
        Either::Right((
            Either::Right((Either::Left((never, _)) | Either::Right((never, _)), _)),
            _,
        )) => match never {},
    }
}
