//! The configuration: one typed value from a file, the environment and flags.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use clap::ArgMatches;
use tracing_subscriber::filter::Targets;

use crate::caller::Keys as ApiKeys;
use crate::client::host::Hosts;
use crate::client::origin::Origins;
use crate::limits::{
    AgePolicy, DrainPolicy, FetchPolicy, HistoryFileLimits, HistoryLimits, KeepalivePolicy, Limits,
    PresenceLimits, ServicePolicy,
};

mod addresses;
mod admin;
mod api;
mod file;
mod files;
mod flags;
mod history;
mod key;
mod kind;
mod log_filter;

mod policies;
mod print;
mod problem;
mod reload;
mod run;
mod schema;
mod source;
mod traces;
mod value;

pub use self::admin::{Admin, LogFormat};
pub use self::flags::command;
pub use self::problem::Problems;
pub use self::reload::Changes;
pub use self::run::Run;
pub use self::traces::TracePolicy;

use self::file::File;
use self::files::{Authorities, Files};
use self::key::{Keys, Reader};
use self::kind::{inbound, policy, room_policy, window};
use self::problem::Problem;
use self::schema::{
    ApiSection, AuthKeys, ChannelKeys, LimitKeys, OtelKeys, ROOM, RoomKeys, SERVICE, ServerKeys,
    ServiceKeys, TlsKeys,
};
use self::source::{Layer, Place};
use crate::server::auth::{Jwt, JwtPolicy, Keys as Keyring, Remote};
use crate::server::{Address, BindOptions, Roots, Tls};

/// The settings of the binary.
#[derive(Clone, Debug)]
pub struct Config {
    /// The combined values of all sources.
    layer: Layer,
    names: &'static [&'static str],
    server: ServerKeys,
    limits: LimitKeys,
    auth: AuthKeys,
    api: ApiSection,
    api_keys: ApiKeys,
    channels: ChannelKeys,
    tls: Option<Tls>,
    traces: Option<TracePolicy>,
    /// Read once, so that a replaced file takes effect only with the next reload.
    keys: Keyring,
    /// Hashes of the files that settings name.
    files: Files,
    /// The root certificates for the server that publishes keys.
    roots: Option<Roots>,
    service: ServiceKeys,
    services: BTreeMap<&'static str, ServiceKeys>,
    /// The kinds of rooms, by name.
    rooms: BTreeMap<String, (RoomKeys, ServiceKeys)>,
}

/// The sources of a process's settings, which can be read again while it runs.
#[derive(Clone, Debug)]
pub struct Sources {
    file: Option<String>,
    over: Layer,
    /// Problems for removed settings in the environment and in the flags.
    gone: Vec<Problem>,
    services: &'static [&'static str],
}

impl Sources {
    /// The sources of a command line, with this environment, for a server with these services.
    pub fn new(
        matches: &ArgMatches,
        variables: impl Fn(&str) -> Option<String>,
        services: &'static [&'static str],
    ) -> Self {
        let file = matches.get_one::<String>("config");
        Self {
            file: file.cloned().or_else(|| variables("BUSLINE_CONFIG")),
            gone: flags::gone(matches, &variables),
            over: flags::environment(variables, services).under(flags::given(matches, services)),
            services,
        }
    }

    /// Messages about variables that begin with our prefix and are not settings.
    pub fn unknown(&self, names: impl Iterator<Item = String>) -> Vec<String> {
        flags::unknown(names, self.services)
    }

    /// A file as the only source.
    pub fn file(path: &str, services: &'static [&'static str]) -> Self {
        Self {
            file: Some(path.to_owned()),
            over: Layer::default(),
            gone: Vec::new(),
            services,
        }
    }

    /// Reads the file, and combines it with the environment and the flags, which take precedence.
    ///
    /// # Errors
    ///
    /// All problems, each with its place and the allowed values.
    pub fn read(&self) -> Result<Config, Problems> {
        let Some(path) = &self.file else {
            return self.with_file("", "");
        };
        let text = std::fs::read_to_string(path).map_err(|error| Problem::Read {
            path: path.clone(),
            error: error.to_string(),
        })?;
        self.with_file(path, &text)
    }

    /// The configuration for a file with this text; `path` is the file's name in messages.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn with_file(&self, path: &str, text: &str) -> Result<Config, Problems> {
        let mut problems = self.gone.clone();
        let services = self.services;
        let file = File {
            path,
            text,
            services,
        };
        let layer = file.layer(&mut problems).under(self.over.clone());
        let config = Config::read(layer, services, &mut problems);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(problems))
        }
    }
}

impl Config {
    fn read(layer: Layer, services: &'static [&'static str], problems: &mut Vec<Problem>) -> Self {
        let server = ServerKeys::read(&mut Reader::new(&layer, "", problems));
        let service = ServiceKeys::read(&mut Reader::new(&layer, "", problems));
        let limits = LimitKeys::read(&mut Reader::new(&layer, "limits", problems));
        let auth = AuthKeys::read(&mut Reader::new(&layer, "auth", problems));
        let api = ApiSection::read(&mut Reader::new(&layer, "api", problems));
        addresses::check(&server, &api, problems);
        let api_keys = api::keys(&layer, auth.allow_weak_secret, problems);
        let channels = ChannelKeys::read(&mut Reader::new(&layer, "channels", problems));
        api::check_secret(&layer, &auth, problems);
        let mut files = Files::default();
        let keys = files::keys(&auth, &mut files, problems);
        let ca = Authorities {
            place: Place::new("auth", "jwks_ca"),
            file: auth.jwks_ca.as_ref(),
        };
        let roots = files::roots(auth.jwks_url.as_ref(), ca, &mut files, problems);
        let tls = TlsKeys::read(&mut Reader::new(&layer, "tls", problems));
        let tls = files::tls(&tls, problems);
        let otel = OtelKeys::read(&mut Reader::new(&layer, "otel", problems));
        let traces = traces::read(otel, &mut files, problems);
        let mut own = BTreeMap::new();
        for name in services {
            let section = format!("{SERVICE}.{name}");
            let mut reader = Reader::new(&layer, &section, problems).or("");
            own.insert(*name, ServiceKeys::read(&mut reader));
        }
        let kinds = layer.iter().filter(|(place, _)| place.key == "run");
        let kinds = kinds.filter_map(|(place, _)| place.section.split_once('.'));
        let mut rooms = BTreeMap::new();
        for (_, name) in kinds {
            let section = format!("{ROOM}.{name}");
            let mut reader = Reader::new(&layer, &section, problems);
            let keys = (RoomKeys::read(&mut reader), ServiceKeys::read(&mut reader));
            rooms.insert(name.to_owned(), keys);
        }
        api::check_default(&channels, &rooms, problems);
        let kinds = own
            .iter()
            .map(|(name, keys)| (SERVICE, *name, policy(keys)));
        let policies = rooms.iter();
        let policies =
            policies.map(|(name, (room, keys))| (ROOM, &**name, room_policy(room, keys)));
        for (section, name, policy) in kinds.chain(policies) {
            if let Some(fault) = policy.fault() {
                let section = format!("{section}.{name}");
                problems.push(Problem::Policy { section, fault });
            }
        }
        Self {
            rooms,
            server,
            service,
            limits,
            auth,
            api,
            api_keys,
            channels,
            tls,
            traces,
            keys,
            files,
            roots,
            services: own,
            names: services,
            layer,
        }
    }

    /// All settings as a file, each with its source; contains no secret.
    pub fn print(&self) -> String {
        print::print(&self.layer)
    }

    /// The addresses to listen on.
    pub fn listen(&self) -> impl Iterator<Item = &Address> {
        self.server.listen.0.iter().map(|address| &address.0)
    }

    /// The options for sockets.
    pub fn bind_options(&self) -> BindOptions {
        let group = self.server.unix_group.as_ref();
        BindOptions {
            unix_mode: self.server.unix_mode.0,
            unix_group: group.map(|group| group.0.clone()),
        }
    }

    /// The file in which the server leaves its histories to the next one, if there is to be one.
    pub fn history_file(&self) -> Option<&Path> {
        self.server.history_file.as_deref()
    }

    /// Whether clients without a token are allowed on public addresses.
    pub fn allow_anonymous(&self) -> bool {
        self.server.allow_anonymous
    }

    /// The pages of other hosts that may connect.
    pub fn origins(&self) -> Origins {
        let patterns = self.server.origins.iter();
        Origins::new(patterns.map(|pattern| pattern.0.clone()).collect())
    }

    /// The hosts that requests may name.
    pub fn hosts(&self) -> Hosts {
        let patterns = self.server.hosts.iter();
        Hosts::new(patterns.map(|pattern| pattern.0.clone()).collect())
    }

    /// The TLS settings, if TLS is configured.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether a client may show its token in the query.
    pub fn query_token(&self) -> bool {
        self.auth.query_token
    }

    /// Whether clients must authenticate.
    pub fn authenticates(&self) -> bool {
        !self.keys.is_empty() || self.auth.jwks_url.is_some()
    }

    /// Checks that authentication is required exactly if a running configuration requires it.
    ///
    /// # Errors
    ///
    /// When one of the two configurations requires authentication and the other does not.
    pub fn must_authenticate_as(&self, running: &Self) -> Result<(), Problems> {
        match (running.authenticates(), self.authenticates()) {
            (true, false) => Err(Problem::Conflict(
                "[auth] has no key any more: start the server again to let everybody in",
            )
            .into()),
            (false, true) => Err(Problem::Conflict(
                "[auth] has a key now: start the server again to ask for tokens",
            )
            .into()),
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// The authorizer of clients, with these published keys.
    pub fn jwt(&self, remote: Option<Remote>) -> Jwt {
        let jwt = Jwt::new(self.keys.clone(), self.jwt_policy());
        match remote {
            Some(remote) => jwt.with_remote(remote),
            None => jwt,
        }
    }

    /// The requirements for a token.
    fn jwt_policy(&self) -> JwtPolicy {
        let services = self.services.iter();
        let services = services.map(|(name, keys)| ((*name).to_owned(), keys));
        let rooms = self.rooms.iter();
        let rooms = rooms.map(|(name, (_room, keys))| (name.clone(), keys));
        let kinds: Vec<_> = services.chain(rooms).collect();
        let joins = kinds.iter().map(|(name, keys)| (name.clone(), keys.join));
        let anonymous = kinds.iter();
        let anonymous = anonymous.filter_map(|(name, keys)| Some((name.clone(), keys.anonymous?)));
        JwtPolicy {
            anonymous: anonymous.collect(),
            audiences: self.auth.audiences.clone(),
            issuers: self.auth.issuers.clone(),
            leeway: self.auth.leeway.get(),
            services: joins.collect(),
        }
    }

    /// The published keys to fetch, if their URL is configured.
    pub fn remote(&self) -> Option<Remote> {
        let policy = FetchPolicy {
            refresh: self.auth.jwks_refresh.get(),
            cooldown: self.auth.jwks_cooldown.get(),
            ..FetchPolicy::default()
        };
        let remote = Remote::new(self.auth.jwks_url.as_ref()?.0.clone()).with_policy(policy);
        Some(match &self.roots {
            Some(roots) => remote.with_roots(roots.clone()),
            None => remote,
        })
    }

    /// The export of traces, if it is configured.
    pub fn traces(&self) -> Option<&TracePolicy> {
        self.traces.as_ref()
    }

    /// The filter for log lines.
    pub fn log(&self) -> &Targets {
        &self.server.log.0.0
    }

    /// The format of log lines.
    pub fn log_format(&self) -> LogFormat {
        self.server.log_format
    }

    /// Maximum number of log lines that wait to be written.
    pub fn log_lines(&self) -> usize {
        self.server.log_lines.size()
    }

    /// The number of threads that serve clients.
    pub fn threads(&self) -> NonZeroUsize {
        let asked = NonZeroUsize::new(self.server.threads.size());
        asked.unwrap_or_else(|| available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// The address of the operators' listener.
    pub fn admin(&self) -> &Admin {
        &self.server.admin.0
    }

    /// The address of the listener for probes.
    pub fn probes(&self) -> &Admin {
        &self.server.probes.0
    }

    /// The configured limits.
    pub fn limits(&self) -> Limits {
        let keys = &self.limits;
        Limits {
            message_bytes: self.service.max_message_bytes.size(),
            window: window(&self.service),
            sessions: keys.sessions.size(),
            sessions_per_address: keys.sessions_per_address.size(),
            sessions_per_subject: keys.sessions_per_subject.size(),
            rooms: keys.rooms.size(),
            rooms_per_address: keys.rooms_per_address.size(),
            rooms_per_subject: keys.rooms_per_subject.size(),
            api: api::limits(keys),
            history: HistoryLimits {
                history_bytes: keys.history_bytes.get(),
                positions: keys.positions.size(),
                position_ttl: keys.position_ttl.get(),
                history_read_max: keys.history_read_max.size(),
            },
            presence: PresenceLimits {
                clients: keys.presence_max.size(),
                at_once: keys.presence_at_once.size(),
            },
            history_file: HistoryFileLimits {
                bytes: keys.history_file_bytes.get(),
                timeout: keys.history_file_timeout.get(),
            },
            queue_bytes: keys.queue_bytes.get(),
            home_clients: keys.home_clients.size(),
            inbound: inbound(&self.service),
            pings: keys.pings,
            age: AgePolicy {
                idle: keys.idle_max.get(),
                max: keys.age_max.get(),
            },
            accepts: keys.accepts,
            proxies: keys.proxies.iter().map(|network| network.0).collect(),
            handshakes_per_address: keys.handshakes_per_address.nonzero(),
            keepalive: KeepalivePolicy {
                interval: keys.ping_interval.get(),
                pong_timeout: keys.pong_timeout.get(),
            },
            message_timeout: keys.message_timeout.get(),
            accept_timeout: keys.accept_timeout.get(),
            answers_timeout: keys.answers_timeout.get(),
            request_timeout: keys.request_timeout.get(),
            requests_per_client: keys.requests_per_client.nonzero(),
            write_timeout: keys.write_timeout.get(),
            close_timeout: keys.close_timeout.get(),
            handshakes: keys.handshakes.nonzero(),
            handshake_timeout: keys.handshake_timeout.get(),
            request_head_bytes: keys.request_head_bytes.size(),
            drain_timeout: keys.drain_timeout.get(),
            drain: DrainPolicy {
                per_second: keys.drain_per_second.nonzero_u32(),
                window: keys.drain_window.get(),
                code: keys.drain_code,
            },
            ..Limits::default()
        }
    }

    /// The configured policy of a service or of a kind of rooms.
    pub fn policy(&self, name: &str) -> ServicePolicy {
        match self.rooms.get(name) {
            Some((room, keys)) => room_policy(room, keys),
            None => policy(self.services.get(name).unwrap_or(&self.service)),
        }
    }

    /// The configured kinds of rooms, in order, and what runs in each room.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, Run)> {
        self.rooms
            .iter()
            .map(|(name, (room, _keys))| (name.as_str(), room.run))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
