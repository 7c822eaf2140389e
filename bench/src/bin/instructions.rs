//! Runs one hot path a number of times, for callgrind to count its instructions.
//!
//! `instructions` lists the names; `instructions NAME TIMES` runs one. `bench/instructions` calls
//! both, and compares.

use std::process::ExitCode;

use hot_paths::HOT_PATHS;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for path in HOT_PATHS {
                println!("{}", path.name);
            }
            ExitCode::SUCCESS
        }
        [name, times] => match (
            HOT_PATHS.iter().find(|path| path.name == name),
            times.parse::<u32>(),
        ) {
            (Some(path), Ok(times)) => {
                let mut run = (path.prepare)();
                for _ in 0..times {
                    run();
                }
                ExitCode::SUCCESS
            }
            (None, _) => usage(&format!("no hot path is called {name}")),
            (_, Err(error)) => usage(&format!("{times}: {error}")),
        },
        _ => usage("two arguments or none"),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}; usage: instructions [NAME TIMES]");
    ExitCode::from(2)
}
