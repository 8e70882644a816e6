//! OpenTelemetry traces: one span for each connection, sent to a collector with OTLP over HTTP.
//!
//! A thread of the SDK collects finished spans into batches. The batches are sent like all other
//! outgoing requests, on the server's own runtime. A full queue drops spans, so that no collector
//! can slow down a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tracing::{Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::TracePolicy;
use super::fetch::Endpoint;
use super::rate_limited_log::RateLimitedLog;
use crate::rt::{Clock, Spawn, Tokio};
use crate::sync::Mutex;

/// The collector's default path for traces.
const PATH: &str = "/v1/traces";

/// The default service name of traces.
const SERVICE: &str = "busline";

/// The exporter of this process's traces.
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

/// The environment's settings for the export cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot export traces: {0}")]
pub struct TracesError(#[from] opentelemetry_otlp::ExporterBuildError);

impl Traces {
    /// Starts the export on this runtime.
    ///
    /// Settings that [`TracePolicy`] does not contain come from the SDK's environment variables,
    /// such as `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and
    /// `OTEL_BSP_SCHEDULE_DELAY`.
    ///
    /// # Errors
    ///
    /// When one of the variables cannot be used.
    pub fn start(policy: TracePolicy, rt: &Tokio) -> Result<Self, TracesError> {
        let post = Arc::new(Post {
            endpoint: Endpoint::new(policy.endpoint.or_path(PATH)).with_roots(policy.roots),
            rt: rt.clone(),
            failure: Mutex::new(None),
        });
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(post.endpoint.url.to_string())
            .with_http_client(Client(Arc::clone(&post)))
            .build()?;
        let exporter = Exporter {
            inner: exporter,
            post,
            dropped_log: Mutex::new(RateLimitedLog::default()),
        };
        let mut builder = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(policy.service_name));
        if let Some(share) = policy.sampling {
            builder = builder.with_sampler(Sampler::TraceIdRatioBased(share));
        }
        Ok(Self(builder.build()))
    }

    /// The layer that records spans, of busline's own targets only.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        // Source location, thread and number of polls are of no use to operators.
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(SERVICE, Level::DEBUG))
    }

    /// Sends the remaining spans, within `limit`, and ends the export.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait only; the sending thread continues until `limit` has
    /// passed.
    pub async fn finish(&self, limit: Duration) {
        let provider = self.0.clone();
        // The SDK blocks its caller, and the runtime of this thread has to send the request.
        let done = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "traces were left behind"),
            Err(error) => warn!(%error, "traces were left behind"),
        }
    }
}

/// The resource that the traces describe: the service.
fn resource(service_name: Option<String>) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let builder = Resource::builder();
    let builder = match service_name {
        Some(name) => builder.with_service_name(name),
        None if named => builder,
        None => builder.with_service_name(SERVICE),
    };
    builder.build()
}

/// The SDK's exporter; reports failures in rate-limited log lines.
#[derive(Debug)]
struct Exporter {
    inner: SpanExporter,
    post: Arc<Post>,
    dropped_log: Mutex<RateLimitedLog>,
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.inner.export(batch).await;
        if let Err(error) = &sent {
            let due = self.dropped_log.lock().due(self.post.rt.now(), spans);
            if let Some(spans) = due {
                let failure = self.post.failure.lock().take();
                let error = failure.unwrap_or_else(|| error.to_string());
                warn!(url = %self.post.endpoint.url, spans, %error, "traces not sent, and lost");
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The transport for requests to the collector.
struct Post {
    endpoint: Endpoint,
    rt: Tokio,
    /// The error of the last request, if it failed.
    failure: Mutex<Option<String>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Post").field(&self.endpoint.url).finish()
    }
}

impl Post {
    /// Sends a request from a thread without a runtime.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (tell, told) = oneshot::channel();
        let (endpoint, rt) = (self.endpoint.clone(), self.rt.clone());
        let task = async move {
            // The receiver may be gone.
            drop(tell.send(endpoint.fetch(&rt, request).await));
        };
        self.rt.spawn(task.boxed());
        let answer = told.await?;
        *self.failure.lock() = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the answer is {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        Ok(answer?)
    }
}

/// The HTTP client for the SDK's exporter.
#[derive(Debug)]
struct Client(Arc<Post>);

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.0.send(request).boxed()
    }
}
