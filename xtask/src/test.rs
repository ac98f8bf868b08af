//! `cargo xtask test`: what must hold before a change lands, as one command.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    foreign, place,
    step::{Note, Report, command, output, run as run_command, run_reading, step, works},
};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only this step (tests bring their tools along).
    #[arg(long, value_enum)]
    only: Option<Step>,
    /// Goes to the test runner: cargo nextest where it is installed, else cargo test.
    #[arg(last = true)]
    runner: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install or unpack the foreign tools that tests use.
    Tools,
    /// Check the format.
    Fmt,
    /// Check the lints.
    Clippy,
    /// Check the house habits that a machine can see.
    Tidy,
    /// Check licences and banned crates, where cargo-deny is installed.
    Deny,
    /// Run all tests.
    Tests,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().expect("no step is hidden").get_name().to_owned()
    }

    fn is_wanted(self, only: Option<Self>) -> bool {
        match only {
            None => true,
            Some(Self::Tests) => matches!(self, Self::Tests | Self::Tools),
            Some(only) => self == only,
        }
    }
}

/// Runs the steps: all of them even where one fails, so that one run tells everything.
///
/// # Errors
/// Names the steps that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut failed = Vec::new();
    let mut tally = Tally::default();
    let (given, missing) = namespaces();
    for each in Step::value_variants().iter().filter(|each| each.is_wanted(options.only)) {
        let outcome = step(&each.name(), || match each {
            Step::Tools => foreign::set_up(),
            Step::Fmt => fmt(),
            Step::Clippy => clippy(),
            Step::Tidy => tidy(),
            Step::Deny => deny(),
            Step::Tests => tests(&options.runner, &given, &mut tally),
        });
        if outcome.is_err() {
            failed.push(each.name());
        }
    }
    if tally != Tally::default() {
        eprintln!("{} passed, {} failed", tally.passed, tally.failed);
        if !missing.is_empty() {
            eprintln!(
                "what needs namespaces of its own has tested nothing, or on loopback: to this user the machine gives none of: {}",
                missing.join(", ")
            );
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn fmt() -> Result<Note> {
    run_command(&mut command("cargo", &["fmt", "--all", "--check"]))?;
    Ok("ok".into())
}

fn clippy() -> Result<Note> {
    let mut clippy = command("cargo", &["clippy", "--workspace", "--all-targets"]);
    let version = output(&mut command("rustc", &["--version"]))?;
    let note = if version.starts_with(WARNINGS_DENIED_WITH) {
        clippy.args(["--", "-D", "warnings"]);
        "ok, warnings denied".to_owned()
    } else {
        format!("ok, warnings shown but not denied: this is {}", version.trim())
    };
    run_command(&mut clippy)?;
    Ok(note)
}

fn tidy() -> Result<Note> {
    run_command(&mut command("cargo", &["test", "--quiet", "--package", "xtask", "--test", "tidy"]))?;
    Ok("ok".into())
}

fn deny() -> Result<Note> {
    if !works(&mut command("cargo", &["deny", "--version"])) {
        return Ok("skipped: cargo-deny is not installed".into());
    }
    // Advisories need the network and change by the day; the rest depends on this checkout alone.
    run_command(&mut command("cargo", &["deny", "check", "licenses", "bans", "sources"]))?;
    Ok("ok".into())
}

/// Which kinds of namespaces tests get on this machine, and which not.
fn namespaces() -> (Vec<&'static str>, Vec<&'static str>) {
    let mount = ["--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs tmpfs /mnt && id -u | grep -qx 0"];
    let net = ["--net", "sh", "-c", "ip link set lo up"];
    let kinds = [("mount", &mount[..]), ("net", &net[..])];
    let (given, missing): (Vec<_>, Vec<_>) =
        kinds.into_iter().partition(|(_, probe)| works(&mut command("unshare", probe)));
    let names = |kinds: Vec<(&'static str, _)>| kinds.into_iter().map(|(name, _)| name).collect();
    (names(given), names(missing))
}

fn tests(arguments: &[String], given: &[&str], tally: &mut Tally) -> Result<Note> {
    let nextest = works(&mut command("cargo", &["nextest", "--version"]));
    let mut suites = if nextest {
        vec![(Report::Err, command("cargo", &["nextest", "run", "--no-fail-fast"]))]
    } else {
        vec![(Report::Out, command("cargo", &["test", "--no-fail-fast"]))]
    };
    if nextest && arguments.is_empty() {
        suites.push((Report::Out, command("cargo", &["test", "--doc", "--no-fail-fast"])));
    }
    let mut outcome = Ok(());
    for (report, mut suite) in suites {
        suite.args(scope(arguments)).args(arguments).env(place::FOREIGN_VARIABLE, place::foreign());
        // Who gets none of these here has failed, and is not skipped.
        suite.env(place::NAMESPACES_VARIABLE, given.join(" "));
        outcome = outcome.and(run_reading(&mut suite, report, |line| tally.read(line)));
    }
    outcome?;
    Ok(if nextest { "ok, by cargo nextest" } else { "ok, by cargo test" }.into())
}

/// All crates, unless the arguments choose some.
fn scope(arguments: &[String]) -> Option<&'static str> {
    let chooses = |argument: &String| argument.starts_with("-p") || argument.starts_with("--package");
    (!arguments.iter().any(chooses)).then_some("--workspace")
}

/// How many tests passed and failed, as the runners' closing lines say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds what a line of a runner says, if it is a closing line.
    fn read(&mut self, line: &str) {
        let line = without_colours(line);
        if !line.contains("Summary [") && !line.starts_with("test result:") {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let number: u64 = pair[0].parse().unwrap_or(0);
            match pair[1].trim_end_matches([',', ';']) {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

/// The line without its terminal escapes (ECMA-48, section 5.4: ESC `[` … a letter).
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

/// The compiler whose warnings fail the run: others warn of other things.
const WARNINGS_DENIED_WITH: &str = "rustc 1.95.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_adds_the_closing_lines_of_both_runners_and_nothing_else() {
        let mut tally = Tally::default();
        tally.read("        PASS [   0.004s] base size::tests::5 passed");
        assert_eq!(tally, Tally::default());
        tally.read("     Summary [   0.021s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped");
        tally.read("\u{1b}[32;1mtest result: ok\u{1b}[0m. 3 passed; 0 failed; 1 ignored; 0 measured");
        assert_eq!(tally, Tally { passed: 14, failed: 1 });
    }

    #[test]
    fn a_chosen_crate_is_tested_alone() {
        let arguments = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(scope(&arguments("-p queue recovery")), None);
        assert_eq!(scope(&arguments("recovery")), Some("--workspace"));
    }

    #[test]
    fn tests_alone_bring_their_tools_along() {
        assert!(Step::Tools.is_wanted(Some(Step::Tests)));
        assert!(!Step::Clippy.is_wanted(Some(Step::Tests)));
        assert!(Step::Clippy.is_wanted(None));
    }
}
