//! The `posthouse` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    posthouse::failure::exit_on_panic();
    posthouse::commands::main(std::env::args_os()).into()
}
