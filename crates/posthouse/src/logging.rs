//! What a node writes to standard error.

use std::{
    io::{IsTerminal, stderr},
    sync::OnceLock,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, Registry, fmt, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat, LogLevel};

/// The level of the lines that are written: there is one standard error, and so one level.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts writing lines of `log.level` and above in `log.format`; once in a process.
pub fn start(log: Log) {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(level).with(lines).init();
    // Whoever starts twice has panicked above.
    let _ = LEVEL.set(handle);
}

/// Writes lines of this level and above from now on.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        handle.reload(filter(level)).expect("lines are written as long as the process lives");
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
