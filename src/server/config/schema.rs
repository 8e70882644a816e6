//! All keys, a line each: help, name, type, default, and when a change takes effect.

use std::path::PathBuf;

use super::admin::{Admin, LogFormat};
use super::history::RetentionText;
use super::key::{Key, Keys, keys};
use super::log_filter::LogFilter;
use super::problem::Problem;
use super::run::Run;
use super::source::{Place, Source};
use super::value::{Described, Kind, OneOrMore, Parsed, Ratio, Time, Value, Whole};
use crate::bus::ServiceName;
use crate::caller::Method;
use crate::client::address::Network;
use crate::client::host;
use crate::client::origin::Pattern;
use crate::limits::{
    DrainCode, Keep, OverRate, Payload, Publish, Rate, Readers, Recovery, SlowConsumer, Tell,
};
use crate::server::auth::{Anonymous, Join};
use crate::server::{Address, UnixGroup, UnixMode, Url};

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

keys! {
    /// The keys of the whole server, at the top of the file.
    pub(crate) struct ServerKeys {
        /// Addresses to listen on, HOST:PORT or unix:/PATH; `localhost` is both loopback
        /// addresses, of IPv4 and of IPv6
        listen: OneOrMore<Parsed<Address>> = "localhost:8080", Start;
        /// Permissions of the file of each Unix socket, in octal, whatever the umask; clients need
        /// the one to write
        unix_mode: Parsed<UnixMode> = "0660", Start;
        /// Group of the file of each Unix socket, by its name or its number; as the system has it
        /// unless it is set
        unix_group: Option<Parsed<UnixGroup>> = "", Start;
        /// Address of the operators' listener, with /metrics, /readyz and /debug; `off` for none;
        /// with a `?` behind it only if it is free
        admin: Parsed<Admin> = "localhost:8081?", Start;
        /// Address of a listener with /healthz, /readyz and /metrics alone, which more than
        /// operators may reach, as in a container; `off` for none
        probes: Parsed<Admin> = "off", Start;
        /// Threads that serve clients, each with connections of its own; 0 is one a core
        threads: Whole<0, 1024> = "0", Start;
        /// Let clients without a token in at addresses that others can reach
        allow_anonymous: bool = "false", Start;
        /// Pages of other hosts that may connect, such as https://*.example.com,
        /// http://localhost:*, file:// or null; `*` is any
        origins: Vec<Parsed<Pattern>> = "", Live;
        /// Hosts that requests may name beside localhost: over loopback, where those of `origins`
        /// count as well, and to operators' listeners, where every IP address does; `*` is any
        hosts: Vec<Parsed<host::Pattern>> = "", Live;
        /// File in which the server leaves the histories of rooms at its end, and finds them at its
        /// next start; none unless it is set
        history_file: Option<PathBuf> = "", Start;
        /// Level of the log on standard error: error, warn, info, debug, trace or off, for all or
        /// by module, such as `info,busline::server=debug`
        log: Parsed<LogFilter> = "info", Start;
        /// How to log
        log_format: LogFormat = "text", Start;
        /// Most lines of the log that wait to be written; further ones are dropped
        log_lines: Whole<1, 1_000_000> = "4096", Start;
    }
}

keys! {
    /// The keys of a service; values at the top of the file apply to services without their own.
    pub(crate) struct ServiceKeys {
        /// Largest message a client may send, in bytes; a longer one closes its session with 1009
        max_message_bytes: Whole<1, GIB> = "65536", Live;
        /// Messages a topic keeps for its slowest reader; a reader further behind loses the oldest
        window: Whole<1, 1_000_000> = "256", Start;
        /// Payload bytes a topic keeps for its slowest reader, at least one message
        window_bytes: Whole<1, GIB> = "1048576", Start;
        /// Time a service is kept running without clients, such as `0s`, `1m 30s`
        linger: Time<0, DAY> = "0s", Start;
        /// Time a service has to return once it is told to stop
        stop_grace: Time<0, HOUR> = "5s", Start;
        /// Action on a client that reads too slowly; `recover` where there is recovery and `skip`
        /// elsewhere unless it is set
        slow_consumer: Option<SlowConsumer> = "", Live;
        /// Messages to all that are kept for clients that come, or come back: `messages`, `bytes`
        /// and `ttl`, each a bound; none unless it is set
        history: Option<RetentionText> = "", Start;
        /// Clients that get messages of the history when they join
        recovery: Recovery = "asked", Live;
        /// Clients that may read the history
        read_history: Readers = "members", Live;
        /// Clients of a room that can be asked for
        presence: Keep = "off", Start;
        /// Clients that are told of joins and leaves
        join_leave: Tell = "off", Start;
        /// Time for which the notice of a leave is held back, and dropped with the join of the same
        /// subject
        leave_delay: Time<0, HOUR> = "0s", Start;
        /// Clients that may ask for the clients of a room
        read_presence: Readers = "members", Live;
        /// Claims of a client's token that others see as its `info`
        presence_info: Vec<String> = "", Live;
        /// Bytes a client may send, frames and pings included; any number unless it is set
        bytes: Option<Rate> = "", Live;
        /// Messages a client may send; any number unless it is set
        messages: Option<Rate> = "", Live;
        /// Action on a client that sends more
        over_rate: OverRate = "wait", Live;
        /// Clients that may join where tokens are asked for
        join: Join = "granted", Live;
        /// Rights of clients without a token where tokens are asked for; `all` where `join` is
        /// `anyone` and `no` elsewhere unless it is set
        anonymous: Option<Anonymous> = "", Live;
    }
}

keys! {
    /// The keys of a kind of rooms, beside those of a service.
    pub(crate) struct RoomKeys {
        /// The service of each room: `relay` passes the messages of a client on to all clients of
        /// its room; `echo`, `ping` and `timenow` are those of the server
        run: Run = "relay", Start;
        /// Clients that may send messages; `nobody` for a relay and `members` for a service unless
        /// it is set
        publish: Option<Publish> = "", Live;
        /// Pass a client's own messages on to it, too
        echo: bool = "true", Live;
        /// Messages that the room takes; others close the session with 1007
        payload: Payload = "any", Live;
        /// Only users that a key names after its last `#`, as in `talk#ann,bob`, may join it
        /// without a grant; `join` still decides whether they may
        user_limited: bool = "false", Live;
        /// Most clients of one room; the next client is answered 503
        clients: Whole<1, 10_000_000> = "10000", Start;
    }
}

keys! {
    /// Bounds of the whole server.
    pub(crate) struct LimitKeys {
        /// Most sessions at once; the next client is answered 503
        sessions: Whole<1, 10_000_000> = "131072", Start;
        /// Most sessions of one address at once, IPv6 by its /64
        sessions_per_address: Whole<1, 10_000_000> = "131072", Start;
        /// Most sessions of one subject at once
        sessions_per_subject: Whole<1, 10_000_000> = "131072", Start;
        /// Most rooms at once
        rooms: Whole<1, 10_000_000> = "100000", Start;
        /// Most rooms at once that clients of one address have made, IPv6 by its /64
        rooms_per_address: Whole<1, 10_000_000> = "100000", Start;
        /// Most rooms at once that clients of one subject have made
        rooms_per_subject: Whole<1, 10_000_000> = "1000", Start;
        /// Longest body of a call of the API, in bytes; a longer one is answered 413
        api_body_bytes: Whole<1024, GIB> = "1048576", Live;
        /// Most commands in a batch of the API
        api_batch: Whole<1, 1_000_000> = "1000", Live;
        /// Most channels in a broadcast of the API
        api_broadcast: Whole<1, 1_000_000> = "10000", Live;
        /// Most calls of the API that are served at once; the next one is answered 503
        api_in_flight: Whole<1, 1_000_000> = "256", Live;
        /// Most of these that wait for the answer of a service; one more is refused with 111
        api_rpcs: Whole<1, 1_000_000> = "128", Live;
        /// Most connections that are kept for the next call of the API; above it a connection is
        /// closed after its response
        api_connections: Whole<0, 1_000_000> = "1024", Live;
        /// Longest time that a kept connection waits for the next call of the API
        api_idle_timeout: Time<1, DAY> = "75s", Live;
        /// Most idempotency keys that are remembered; a further key takes the place of the oldest
        api_idempotency_keys: Whole<1, 100_000_000> = "100000", Start;
        /// Time for which an idempotency key is remembered
        api_idempotency_ttl: Time<SECOND, DAY> = "5m", Start;
        /// Most rooms whose last `version` is remembered; a further room takes the place of the one
        /// that was published to first
        api_versions: Whole<1, 100_000_000> = "100000", Start;
        /// Wrong keys of one address, IPv6 by its /64, that are answered 401; further ones are
        /// answered 429
        api_wrong_keys: Rate = "10/s burst 100", Live;
        /// Most bytes that the messages of all histories hold; above it the oldest go, first those
        /// of rooms without clients
        history_bytes: Whole<1_048_576, TIB> = "1073741824", Start;
        /// Most histories of rooms without clients; above it the oldest are forgotten
        positions: Whole<1, 100_000_000> = "1000000", Start;
        /// Time after which the history of a room without clients and messages is forgotten
        position_ttl: Time<SECOND, YEAR> = "1d", Start;
        /// Most messages that one reading of a history returns
        history_read_max: Whole<1, 1_000_000> = "1000", Start;
        /// Most clients that one answer or one notice of presence lists
        presence_max: Whole<1, 100_000> = "1000", Start;
        /// Joins and leaves of a room in a second that are told at once; further ones are told
        /// together
        presence_at_once: Whole<0, 100_000> = "10", Start;
        /// Most bytes of the `history_file`; histories that do not fit are left out
        history_file_bytes: Whole<4096, TIB> = "1073741824", Start;
        /// Longest time after the drain in which the `history_file` is written
        history_file_timeout: Time<SECOND, HOUR> = "10s", Start;
        /// Most bytes that all sessions together hold for clients
        queue_bytes: Whole<1_048_576, TIB> = "1073741824", Start;
        /// Clients of a service that are served by the thread it runs on; further ones are spread
        home_clients: Whole<0, 10_000_000> = "128", Live;
        /// Networks of proxies, whose X-Forwarded-For and Forwarded name the client
        proxies: Vec<Parsed<Network>> = "", Live;
        /// Connections that are accepted; further ones wait
        accepts: Rate = "10000/s", Start;
        /// Most connections of one address that are not upgraded yet; for one more the oldest that
        /// has sent no whole request gives way
        handshakes_per_address: Whole<1, 1_000_000> = "1024", Start;
        /// Pings of a client that are answered; one more closes its session with 1008
        pings: Rate = "10/s burst 100", Live;
        /// Longest time a session may last, each a little less; 0s is any
        age_max: Time<0, YEAR> = "0s", Live;
        /// Longest time a session may last without a message; 0s is any
        idle_max: Time<0, YEAR> = "0s", Live;
        /// Most connections that are not upgraded yet; for one more the oldest that has sent no
        /// whole request gives way, of the address that has most of these
        handshakes: Whole<1, 1_000_000> = "4096", Start;
        /// Longest time from a connection's start to the end of its request head
        handshake_timeout: Time<1, HOUR> = "10s", Start;
        /// Largest request head, in bytes
        request_head_bytes: Whole<8192, 1_048_576> = "16384", Start;
        /// Longest time from a message's first byte to its last, and a second more for each KiB
        /// that has come; a slower message closes its session with 1008; 0s is any
        message_timeout: Time<0, DAY> = "1m", Live;
        /// Longest time a session waits to hand a message to its service
        accept_timeout: Time<1, DAY> = "1m", Live;
        /// Longest time a message waits for the answers to earlier ones to be sent
        answers_timeout: Time<0, DAY> = "10s", Live;
        /// Longest time a service may take to answer a request
        request_timeout: Time<1, HOUR> = "10s", Live;
        /// Most requests of one client that wait for an answer; one more is refused with 111
        requests_per_client: Whole<1, 1_000_000> = "16", Live;
        /// Longest time a write may make no progress
        write_timeout: Time<1, DAY> = "1m", Live;
        /// Longest time a closing session may take; half of it is for the answers of its service
        close_timeout: Time<1, HOUR> = "5s", Live;
        /// Longest time from the signal to stop to the end
        drain_timeout: Time<1, DAY> = "30s", Live;
        /// Most sessions that are closed in a second once the server is to stop
        drain_per_second: Whole<1, 1_000_000> = "2000", Live;
        /// Time over which they are spread, at least
        drain_window: Time<0, DAY> = "0s", Live;
        /// Close code of these
        drain_code: DrainCode = "1001", Live;
        /// Silence after which a client is pinged; 0s pings nobody
        ping_interval: Time<0, DAY> = "25s", Live;
        /// Time a client has to answer a ping, with any byte; without one it is closed with 1011
        pong_timeout: Time<1, DAY> = "10s", Live;
    }
}

keys! {
    /// The authentication of clients.
    pub(crate) struct AuthKeys {
        /// Secret that is shared with the issuer of tokens, for HS256; at least 32 bytes unless
        /// `allow_weak_secret` is set
        secret: Option<Secret> = "", Secret;
        /// File with public keys that sign tokens: PEM, or a JWKS
        keys: Option<PathBuf> = "", Live;
        /// JWKS that somebody publishes, such as https://id.example/keys
        jwks_url: Option<Parsed<Url>> = "", Start;
        /// File with the authorities that may sign its server's certificate, in PEM, instead of
        /// those that the system trusts
        jwks_ca: Option<PathBuf> = "", Start;
        /// Time after which the JWKS is fetched again
        jwks_refresh: Time<SECOND, DAY> = "5m", Start;
        /// Shortest time between two fetches that tokens cause which name an unknown key
        jwks_cooldown: Time<SECOND, HOUR> = "5s", Start;
        /// Audiences of which a token must have one; without any it must have no `aud`
        audiences: Vec<String> = "", Live;
        /// Issuers of which a token must be; without any it may be of anybody who has the key
        issuers: Vec<String> = "", Live;
        /// How far the clocks of the issuer and of this machine may be apart
        leeway: Time<0, HOUR> = "5s", Live;
        /// Whether a client may show its token in the query, as ?token=
        query_token: bool = "true", Live;
        /// Take a `secret` and keys of the API that are shorter than 32 bytes, and so can be
        /// guessed; for trials
        allow_weak_secret: bool = "false", Live;
    }
}

keys! {
    /// The API for backends; without keys nobody may call it.
    pub(crate) struct ApiSection {
        /// Address of a listener with the API alone, which the machines of a backend may reach, as
        /// in a container; `off` for none
        listen: Parsed<Admin> = "off", Start;
        /// Serve the API on the addresses for clients, too, and not only on the operators' listener
        public: bool = "false", Start;
    }
}

keys! {
    /// A key of the API, `[[api.keys]]` in the file, with a `name` for the log.
    pub(crate) struct ApiKeyKeys {
        /// Secret that callers show, of printable ASCII characters; at least 32 bytes unless
        /// `auth.allow_weak_secret` is set
        key: Option<Secret> = "", Secret;
        /// Methods that the key is for; all unless it is set
        methods: Vec<Parsed<Method>> = "", Live;
        /// Services and kinds of rooms that the key is for; all unless it is set
        kinds: Vec<Parsed<ServiceName>> = "", Live;
    }
}

keys! {
    /// The names by which callers of the API know rooms.
    pub(crate) struct ChannelKeys {
        /// Kind of the rooms of channels that name no kind, as `lobby` does and `news:1` does not;
        /// without one there are no such rooms
        default: Option<String> = "", Start;
    }
}

keys! {
    /// TLS on the TCP addresses.
    pub(crate) struct TlsKeys {
        /// File with the certificates, the server's own first, in PEM; read again when it changes
        certificate: Option<PathBuf> = "", Start;
        /// File with the private key of the certificate, in PEM
        key: Option<PathBuf> = "", Start;
    }
}

keys! {
    /// Traces for OpenTelemetry; without `endpoint` there are none.
    pub(crate) struct OtelKeys {
        /// Collector to send traces to, with OTLP over HTTP, such as http://localhost:4318; for a
        /// busline that was built with the feature `otel`
        endpoint: Option<Parsed<Url>> = "", Start;
        /// File with the authorities that may sign its certificate, in PEM, instead of those that
        /// the system trusts
        ca: Option<PathBuf> = "", Start;
        /// Name of this service in traces; `busline`, or what OTEL_SERVICE_NAME says, unless it is
        /// set
        service_name: Option<String> = "", Start;
        /// Share of the connections that is traced; all, or what OTEL_TRACES_SAMPLER says, unless
        /// it is set
        sampling: Option<Ratio> = "", Start;
    }
}

/// A section of the file, with its keys.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

/// All sections except for those of services, in the order in which they are shown.
pub(super) const SECTIONS: &[Section] = &[
    Section::of::<ServerKeys>(""),
    Section::of::<ServiceKeys>(""),
    Section::of::<LimitKeys>("limits"),
    Section::of::<AuthKeys>("auth"),
    Section::of::<ApiSection>("api"),
    Section::of::<ChannelKeys>("channels"),
    Section::of::<TlsKeys>("tls"),
    Section::of::<OtelKeys>("otel"),
];

/// A removed key.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// The setting to use instead.
    pub(super) hint: &'static str,
}

impl Gone {
    pub(super) fn at(&self, at: Source) -> Problem {
        Problem::Gone {
            at,
            place: Place::new(self.section, self.name),
            hint: self.hint,
        }
    }
}

/// Removed keys. A configuration with such a key is rejected, because the key would have no effect.
pub(super) const GONE: &[Gone] = &[Gone {
    section: "limits",
    name: "pings_missed_max",
    hint: "set `pong_timeout`, the time a client has to answer a ping",
}];

/// The keys of the section of one service.
pub(super) const SERVICE_KEYS: &[Key] = ServiceKeys::KEYS;

/// The keys of the section of one kind of rooms.
pub(super) const ROOM_KEYS: &[Key] = RoomKeys::KEYS;

/// The default of `run`.
pub(super) const RELAY: &str = "relay";

/// The default of `linger` of a kind of rooms.
pub(super) const ROOM_LINGER: &str = "30s";

/// The prefix of the sections of kinds of rooms.
pub(super) const ROOM: &str = "room";

/// The prefix of the sections of keys of the API, each a table of the array of this name.
pub(super) const API_KEYS: &str = "api.keys.";

/// The prefix of the sections of services.
pub(super) const SERVICE: &str = "service";

impl Section {
    const fn of<K: Keys>(name: &'static str) -> Self {
        Self {
            name,
            keys: K::KEYS,
        }
    }
}

/// The keys of a section, including the sections of services and of kinds of rooms.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    let service = section.starts_with("service.").then_some(SERVICE_KEYS);
    let room = section.starts_with("room.");
    let room = room
        .then_some([ROOM_KEYS, SERVICE_KEYS])
        .into_iter()
        .flatten();
    let own = SECTIONS.iter().filter(move |own| own.name == section);
    let key = section.starts_with(API_KEYS).then_some(ApiKeyKeys::KEYS);
    let own = own.map(|own| own.keys);
    own.chain(service).chain(room).chain(key).flatten()
}

/// A secret; its length is checked with all settings at hand.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret(pub(crate) String);

impl Value for Secret {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "SECRET";

    fn allowed() -> String {
        "a text".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        let given = !text.is_empty();
        given.then(|| Self(text.to_owned())).ok_or_else(String::new)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Described for Method {
    const PLACEHOLDER: &'static str = "METHOD";
    const ALLOWED: &'static str = "the name of a method, such as publish";
}

impl Described for ServiceName {
    const PLACEHOLDER: &'static str = "NAME";
    const ALLOWED: &'static str = "the name of a service or of a kind of rooms";
}

impl Described for Url {
    const PLACEHOLDER: &'static str = "URL";
    const ALLOWED: &'static str = "a URL without a password, http://HOST/PATH or https://HOST/PATH";
}

impl Described for Address {
    const PLACEHOLDER: &'static str = "HOST:PORT";
    const ALLOWED: &'static str =
        "an address: write HOST:PORT, such as localhost:8080, or unix:/PATH";
}

impl Described for UnixMode {
    const PLACEHOLDER: &'static str = "MODE";
    const ALLOWED: &'static str = "permissions in octal, such as 0660";
}

impl Described for UnixGroup {
    const PLACEHOLDER: &'static str = "GROUP";
    const ALLOWED: &'static str = "the name or the number of a group, such as www-data";
}

impl Described for Pattern {
    const PLACEHOLDER: &'static str = "ORIGIN";
    const ALLOWED: &'static str = "SCHEME://HOST or SCHEME://HOST:PORT, with * for a label of the \
                                   host or for the port, file://, null, or * alone";
}

impl Described for host::Pattern {
    const PLACEHOLDER: &'static str = "HOST";
    const ALLOWED: &'static str = "a host without a scheme and without a port, such as \
                                   bus.example, *.example.com or 10.0.0.7, or * alone";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::server::config::key::Change;

    /// The keys in the form of the documentation's table.
    fn table(section: &Section) -> String {
        let mut text =
            String::from("| key | default | reload | what |\n| --- | --- | --- | --- |\n");
        for key in section.keys {
            let default = match key.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let reload = match key.change {
                Change::Live | Change::Secret => "yes",
                Change::Start => "no",
            };
            let help = key.help.trim_start();
            writeln!(text, "| `{}` | {default} | {reload} | {help} |", key.name)
                .expect("a string takes everything");
        }
        text
    }

    #[test]
    fn the_page_lists_every_key_as_it_is() {
        let page = include_str!("../../../docs/configuration.md");
        let rooms = Section::of::<RoomKeys>("room.NAME");
        let key = Section::of::<ApiKeyKeys>("[api.keys]");
        for section in SECTIONS.iter().chain([&rooms, &key]) {
            let table = table(section);
            assert!(page.contains(&table), "put this there:\n\n{table}");
        }
    }
}
