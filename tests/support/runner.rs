//! Runs tests that need what a machine may not have: what is absent is skipped, and said by name at
//! the end. With `RINGPOST_SKIP=never`, as `tests/run` sets it, a skipped test fails the run; but for
//! one that the machine itself forbids, where `RINGPOST_MAY_SKIP=mount` says that it does.

use std::path::PathBuf;
use std::process::ExitCode;

/// One test.
pub struct Test {
    name: &'static str,
    /// Programs it drives, and packages, as [`installed`] has them.
    programs: &'static [&'static str],
    /// What else is lacking, in words; `None`: nothing.
    lacks: fn() -> Option<String>,
    run: fn(),
}

impl Test {
    /// A test that needs these programs.
    pub const fn driving(name: &'static str, programs: &'static [&'static str], run: fn()) -> Test {
        Test {
            name,
            programs,
            lacks: || None,
            run,
        }
    }

    /// The same, and `lacks` knows what else may be missing.
    pub const fn unless(self, lacks: fn() -> Option<String>) -> Test {
        Test { lacks, ..self }
    }

    /// What is in the way, and whether the machine forbids it, not only lacks it.
    fn obstacle(&self) -> Option<(String, bool)> {
        let programs = self.programs.iter().filter(|p| find(p).is_none());
        let absent: Vec<&str> = programs.copied().collect();
        if absent.is_empty() {
            (self.lacks)().map(|reason| (reason, true))
        } else {
            Some((format!("absent: {}", absent.join(", ")), false))
        }
    }
}

/// Runs those that the command line names, or all.
pub fn run_all(title: &str, tests: &[Test]) -> ExitCode {
    let filter: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let is_set = |name, wanted| std::env::var(name).is_ok_and(|value| value == wanted);
    let must = is_set("RINGPOST_SKIP", "never");
    let may_be_forbidden = is_set("RINGPOST_MAY_SKIP", "mount");
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), Vec::new());
    let mut excused = true;
    for test in tests {
        let name = test.name;
        if !filter.is_empty() && !filter.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        if let Some((obstacle, is_forbidden)) = test.obstacle() {
            excused &= !must || (is_forbidden && may_be_forbidden);
            println!("test {name} ... skipped, {obstacle}");
            skipped.push(format!("{name} ({obstacle})"));
        } else if std::panic::catch_unwind(test.run).is_ok() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed.push(name);
        }
    }
    for name in &failed {
        println!("failed: {name}");
    }
    for name in &skipped {
        println!("skipped: {name}");
    }
    println!(
        "\n{title}: {passed} passed, {} failed, {} skipped",
        failed.len(),
        skipped.len()
    );
    if failed.is_empty() && excused {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where `tests/run` puts packages that are not Debian's: `python` and `node` are below it.
pub fn installed(path: &str) -> PathBuf {
    // The test program is two folders below the target folder.
    let program = std::env::current_exe().expect("a test program has a path");
    let target = program.ancestors().nth(3).unwrap_or(&program);
    target.join("clients").join(path)
}

/// A program in the search path; with a slash in it, a package.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(installed(program)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file())
}
