//! `cargo xtask generate`: the code of the link's messages, from their description; it is committed, so that a build needs no compiler for it.

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
        .codec_path("crate::wire::codec::Codec")
        .out_dir(CODE)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .context("the code cannot be made")?;
    let made = format!("{CODE}/posthouse.link.v1.rs");
    let code = std::fs::read_to_string(&made)?;
    let checksum = std::fs::read(DESCRIPTION)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let head =
        "//! The messages between nodes; made by `cargo xtask generate`, and not to be changed by hand.";
    let code = format!("{head}\n// Made of {DESCRIPTION} with the checksum {checksum:016x}.\n{code}");
    std::fs::write(format!("{CODE}/generated.rs"), code)?;
    std::fs::remove_file(made)?;
    let mut format = std::process::Command::new("rustfmt");
    format.arg("--edition=2024").arg(format!("{CODE}/generated.rs"));
    anyhow::ensure!(format.status()?.success(), "rustfmt has failed");
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
