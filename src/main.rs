//! Start-up of the `ringpost` program: the allocator, then the command line.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ringpost::commands::run()
}
