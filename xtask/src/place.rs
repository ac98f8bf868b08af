//! Where things lie in a checkout.

use std::path::{Path, PathBuf};

/// The variable that tells tests where the foreign tools are.
pub(crate) const FOREIGN_VARIABLE: &str = "POSTHOUSE_FOREIGN";

/// The variable that tells tests which kinds of namespaces they get here, so that none is skipped without a word.
pub(crate) const NAMESPACES_VARIABLE: &str = "POSTHOUSE_NAMESPACES";

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the checkout")
}

/// Programs of others that tests and benches use: `bin/smtp-source`, `bin/smtp-sink`, `bin/swaks`, and
/// Debian's Postfix, unpacked and never installed, in `postfix/`.
pub(crate) fn foreign() -> PathBuf {
    root().join("target/foreign")
}

/// Where benches keep their queues: a real file system, the same for all.
pub(crate) fn bench() -> PathBuf {
    root().join("target/bench")
}

/// Where former releases are built.
pub(crate) fn former() -> PathBuf {
    root().join("target/former")
}
