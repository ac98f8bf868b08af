//! Namespaces of a test's own, which not every machine gives to everybody.

use std::{
    env,
    process::{Command, Stdio},
};

/// Which of the machine's things a test has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// What is mounted where.
    Mount,
    /// Interfaces, addresses and ports.
    Net,
}

/// Names the kinds that `cargo xtask test` has found this machine to give: who gets none then has not been skipped, but has failed.
const VARIABLE: &str = "POSTHOUSE_NAMESPACES";

impl Namespace {
    /// As the variable has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Net => "net",
        }
    }

    /// Whether we may make namespaces of mounts, and mount something there.
    pub(crate) fn mounts_are_given() -> bool {
        let mut probe = Command::new("unshare");
        let script = "mount -t tmpfs tmpfs /mnt && id -u | grep -qx 0";
        probe.args(["--mount", "--pid", "--fork", "sh", "-c", script]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }

    /// Says that `what` gets none, and what becomes of its test: it is skipped, or does without.
    ///
    /// # Panics
    /// If this machine is known to give them.
    pub(crate) fn is_missing_for(self, what: &str, test: &str) {
        let name = self.name();
        let given = env::var(VARIABLE).unwrap_or_default();
        assert!(
            !given.split(' ').any(|given| given == name),
            "{what} gets no {name} namespace, and {VARIABLE} says that this machine gives them"
        );
        eprintln!("{test}: {what} needs root and a {name} namespace of its own, and here it gets none");
    }
}
