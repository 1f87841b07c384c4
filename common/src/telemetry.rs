//! Where log lines go: standard error, one line an event, filtered by `RUST_LOG` (default `info`).

use tracing_subscriber::EnvFilter;

/// Starts logging for the process. Later calls change nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
