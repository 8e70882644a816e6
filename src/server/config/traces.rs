//! Where traces go, for a busline that was built to export them.

use super::files::{Files, roots};
use super::problem::Problem;
use super::schema::OtelKeys;
use super::source::Place;
use super::value::Ratio;
use crate::server::{Roots, Url};

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct TracePolicy {
    /// The collector; `/v1/traces` is added to a URL without a path.
    pub endpoint: Url,
    /// Who vouches for a collector of `https://`.
    pub roots: Option<Roots>,
    /// The name of this service; without one that of `OTEL_SERVICE_NAME`, or `busline`.
    pub service_name: Option<String>,
    /// Share of the connections that is traced, from 0 to 1; without one what
    /// `OTEL_TRACES_SAMPLER` says, or all.
    pub sampling: Option<f64>,
}

/// Reads it; what is wrong with it is added to the problems.
pub(super) fn read(
    keys: OtelKeys,
    files: &mut Files,
    problems: &mut Vec<Problem>,
) -> Option<TracePolicy> {
    let ca = (Place::new("otel", "ca"), keys.ca.as_ref());
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
