//! The chores of this repository: `cargo xtask test`, `bench`, `fuzz`, `soak`.

mod bench;
mod foreign;
mod fuzz;
mod generate;
mod place;
mod soak;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Set up what the tests need, then check format, lints, house habits, and run all tests.
    Test(test::Options),
    /// Measure Posthouse against targets.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Feed the parsers and the spool with whatever breaks them, for as long as you like.
    Fuzz(fuzz::Options),
    /// Kill, freeze and starve a node under load for as long as you like, and settle the accounts.
    Soak(soak::Options),
    /// Make the code of the messages between nodes anew, from their description.
    Generate,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Bench(bench) => bench::run(&bench),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Soak(options) => soak::run(&options),
        Chore::Generate => generate::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
