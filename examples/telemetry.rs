//! One trace: from a request, through its task and a retry, to a task that this task adds.
//!
//! `cargo run -p examples --example telemetry --features telemetry` shows it. The spans go to an OpenTelemetry
//! collector at `OTEL_EXPORTER_OTLP_ENDPOINT`, or at `http://localhost:4318`. If none listens there, the program prints the
//! spans.
#![allow(clippy::print_stdout, reason = "it shows the spans")]

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Router, routing::post};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use taskflow::observe::OpenTelemetry;
use taskflow::{BackgroundTasks, LogLevel, TaskContext, TaskManager};
use tower::ServiceExt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[taskflow::task(retries = 2, delay = "100ms")]
async fn charge(context: TaskContext, tasks: TaskManager, order: u64) -> Result<(), String> {
    context.log(LogLevel::Info, format!("charging order {order}"));
    if context.attempt() == 1 {
        return Err("the bank did not answer".to_owned());
    }
    tasks.add_task(send_receipt, (order,)).await.map_err(|error| error.to_string())?;
    Ok(())
}

#[taskflow::task]
async fn send_receipt(context: TaskContext, order: u64) {
    // An HTTP client would send this header, so that the trace goes on in the next service.
    let header = context.trace().map(|trace| trace.traceparent());
    println!("receipt of order {order}, traceparent: {}", header.unwrap_or_default());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT");
    let endpoint = endpoint.unwrap_or_else(|_| "http://localhost:4318".to_owned());
    let provider = if is_there(&endpoint) {
        println!("spans go to {endpoint}");
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(traces).build()?;
        SdkTracerProvider::builder().with_batch_exporter(exporter).build()
    } else {
        println!("no collector at {endpoint}, so the spans are printed");
        SdkTracerProvider::builder().with_simple_exporter(Print).build()
    };
    tracing_subscriber::registry()
        .with(EnvFilter::new("warn,taskflow=debug"))
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("shop")))
        .init();

    let tasks = TaskManager::builder().store("memory:").tracing(OpenTelemetry).start().await?;
    let order = async |tasks: BackgroundTasks| match tasks.add_task(charge, (42,)).await {
        Ok(task) => task.to_string(),
        Err(error) => error.to_string(),
    };
    let app = Router::new().route("/orders", post(order)).layer(tasks.layer());

    // A request that belongs to the trace of its caller.
    let request = Request::post("/orders")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let answer = app.oneshot(request.body(Body::empty())?).await?;
    let id = axum::body::to_bytes(answer.into_body(), 100).await?;
    println!("accepted as {}", String::from_utf8_lossy(&id));

    while tasks.counts().await?.success < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks.shutdown(Duration::from_secs(5)).await?;
    // Not on this thread: the HTTP client of the batch exporter blocks.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    Ok(())
}

/// Whether a server listens at this endpoint.
fn is_there(endpoint: &str) -> bool {
    let host = endpoint.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok())
}

/// Prints spans as they end.
#[derive(Debug)]
struct Print;

impl opentelemetry_sdk::trace::SpanExporter for Print {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
            println!(
                "{:22} trace {:?} span {:?} parent {:?} {took:.1?}",
                span.name,
                span.span_context.trace_id(),
                span.span_context.span_id(),
                span.parent_span_id,
            );
            for link in &span.links.links {
                println!("{:22} linked to span {:?}", "", link.span_context.span_id());
            }
        }
        Ok(())
    }
}
