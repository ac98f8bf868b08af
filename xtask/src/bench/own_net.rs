//! A network of the bench's own, in which nobody answers on some addresses.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// Says to the process that was started within that it is there.
const WITHIN: &str = "POSTHOUSE_BENCH_NET";

/// Sets the network up: loopback, and an interface behind which everything is lost.
const SET_UP: &str = "ip link set lo up && ip link add nowhere type veth peer name hole && ip address add 10.0.0.1/8 dev nowhere && \
                      ip link set nowhere arp off up && ip link set hole arp off up && exec \"$@\"";

/// Goes on in a network namespace; returns only there.
///
/// # Errors
/// There is none for us: it takes root.
pub(crate) fn enter() -> Result<()> {
    if env::var_os(WITHIN).is_some() {
        return Ok(());
    }
    let program = env::current_exe().context("cannot tell which program this is")?;
    let mut inner = Command::new("unshare");
    inner.args(["--net", "sh", "-c", SET_UP, "sh"]).arg(program).args(env::args_os().skip(1));
    inner.env(WITHIN, "1").stdin(Stdio::null());
    Err(inner.exec()).context("cannot run unshare (package util-linux)")
}
