//! `cargo xtask generate`: the code of the link's messages, from their descriptions; it is committed, so that a build needs no compiler for
//! them.

use anyhow::Result;

/// Where they are described.
const DESCRIPTION: &str = "crates/cluster/proto/link.proto";
/// Where the code goes.
const CODE: &str = "crates/cluster/src/wire";

/// Makes the code anew.
#[cfg(feature = "generate")]
pub(crate) fn run() -> Result<()> {
    use anyhow::Context;

    let descriptors = protox::compile([DESCRIPTION], ["crates/cluster/proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(CODE)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .context("the code cannot be made")?;
    std::fs::rename(format!("{CODE}/posthouse.link.v1.rs"), format!("{CODE}/generated.rs"))?;
    println!("{CODE}/generated.rs is made of {DESCRIPTION}");
    Ok(())
}

/// Says how.
#[cfg(not(feature = "generate"))]
pub(crate) fn run() -> Result<()> {
    anyhow::bail!(
        "run `cargo run --package xtask --features generate -- generate`: what makes {CODE} of {DESCRIPTION} is not built otherwise"
    )
}
