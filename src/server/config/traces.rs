//! The settings for traces, for a busline that was built to export them.

use super::files::{Authorities, Files, roots};
use super::problem::Problem;
use super::schema::OtelKeys;
use super::source::Place;
use super::value::Ratio;
use crate::server::{Roots, Url};

/// The collector for traces, and the sampling.
#[derive(Clone, Debug)]
pub struct TracePolicy {
    /// The collector; `/v1/traces` is added to a URL without a path.
    pub endpoint: Url,
    /// The root certificates for a collector of `https://`.
    pub roots: Option<Roots>,
    /// The name of this service; if `None`, the value of `OTEL_SERVICE_NAME`, or `busline`.
    pub service_name: Option<String>,
    /// Share of the connections that is traced, from 0 to 1; if `None`, the setting of
    /// `OTEL_TRACES_SAMPLER`, or all connections.
    pub sampling: Option<f64>,
}

/// Reads the settings; errors are added to the problems.
pub(super) fn read(
    keys: OtelKeys,
    files: &mut Files,
    problems: &mut Vec<Problem>,
) -> Option<TracePolicy> {
    let ca = Authorities {
        place: Place::new("otel", "ca"),
        file: keys.ca.as_ref(),
    };
    let roots = roots(keys.endpoint.as_ref(), ca, files, problems);
    let endpoint = keys.endpoint?.0;
    if !cfg!(feature = "otel") {
        problems.push(Problem::Conflict(
            "`otel.endpoint` is set, but this busline was built without traces: build it with \
             `--features otel`",
        ));
    }
    Some(TracePolicy {
        endpoint,
        roots,
        service_name: keys.service_name,
        sampling: keys.sampling.map(Ratio::get),
    })
}
