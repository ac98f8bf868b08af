//! The `posthouse` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    posthouse::failure::exit_on_panic();
    // Of a huge page a byte takes 2 MiB: that is most of what a node grows by under load. If the system refuses, it only takes more.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    posthouse::commands::main(std::env::args_os()).into()
}
