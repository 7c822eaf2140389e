//! What each subcommand does.

/// Runs the command line; the exit code is 0, 1 (failed) or 2 (wrong usage).
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
