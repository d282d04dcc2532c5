//! Log lines: what is logged, and to where.

use tracing_subscriber::EnvFilter;

/// Reads `[log] level`: a level, or directives such as `info,pgfanout::applier=debug`.
///
/// # Errors
/// What is wrong with it, with the remedy.
pub fn parse_level(level: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let remedy =
        "expected error, warn, info, debug or trace, or directives such as \"info,pgfanout::applier=debug\"";
    for directive in level.split(',').map(str::trim) {
        // A bare word that is no level would be taken for a module and everything else be silent.
        let is_module = directive.contains(['=', '[']);
        if !is_module && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive)) {
            return Err(format!("found {directive:?}, {remedy}"));
        }
    }
    EnvFilter::builder().parse(level).map_err(|error| format!("{error}, {remedy}"))
}
