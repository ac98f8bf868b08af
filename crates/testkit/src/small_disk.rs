//! A small disk for the spool of a node, in memory, which can be filled. The node sees it alone: it is mounted in a namespace
//! that ends with the node. It takes root.

use std::{fs, process::Command};

use crate::{Node, Setup, namespaces::Namespace, tools};

/// A disk of so many MiB; empty at each start of the node.
#[derive(Clone, Copy, Debug)]
pub struct SmallDisk {
    mib: u32,
}

/// Mounts a disk of the second argument's size at the first, and becomes the others.
const ON_IT: &str = "mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" && shift 2 && exec \"$@\"";

impl SmallDisk {
    /// A disk of so many MiB; none, with a line that says so, where this machine has no mount namespaces for us.
    ///
    /// # Panics
    /// If it is known to have them.
    #[must_use]
    pub fn of(mib: u32) -> Option<Self> {
        if !Namespace::mounts_are_given() {
            Namespace::Mount.is_missing_for("a small disk", "skipped");
            return None;
        }
        Some(Self { mib })
    }

    /// A node whose spool lies on it.
    ///
    /// # Panics
    /// If its data directory cannot be made.
    #[must_use]
    pub fn under(self, setup: Setup) -> Setup {
        let spool = setup.data_dir().join("spool");
        fs::create_dir_all(&spool).expect("the folder is ours");
        // Without an identity it would be somebody's directory, and not a node's.
        let id = format!("{:032x}\n", fastrand::u128(..));
        fs::write(setup.data_dir().join("node-id"), id).expect("the folder is ours");
        let spool = spool.display().to_string();
        let size = format!("{}m", self.mib);
        setup.within(&["unshare", "--mount", "sh", "-c", ON_IT, "sh", &spool, &size])
    }

    /// Writes until there is no room at all.
    ///
    /// # Panics
    /// If there is room left.
    pub fn fill(self, node: &Node) {
        // What ends it is that there is no room.
        run(node, "! cat /dev/zero > ballast 2>/dev/null");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn empty(self, node: &Node) {
        run(node, "rm ballast");
    }
}

/// Runs a script where the node's spool is, as the node sees it.
fn run(node: &Node, script: &str) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", node.id()));
    command.args(["sh", "-euc", &format!("cd \"$1\"; {script}"), "sh"]);
    let _ = tools::run(command.arg(node.setup().data_dir().join("spool")), b"").done();
}
