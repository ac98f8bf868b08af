//! A small disk for one folder of a node, in memory, which can be filled. The node sees it alone: it is mounted in a
//! namespace that ends with the node. It takes root.

use std::{path::PathBuf, process::Command};

use crate::{Node, Setup, foreign, tools};

/// Where a node has a small disk.
#[derive(Clone, Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    mib: u32,
}

/// Mounts the disk of the second argument's size at the first, and becomes the others.
const ON_IT: &str =
    "mkdir -p \"$1\" && mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" && shift 2 && exec \"$@\"";

impl SmallDisk {
    /// A disk of so many MiB for the spool of a node; none, with a line that says so, where this machine has no mount
    /// namespaces for us. It is empty after each start.
    #[must_use]
    pub fn for_spool(setup: &Setup, mib: u32) -> Option<Self> {
        if !foreign::has_namespaces() {
            eprintln!("skipped: a small disk needs root and a mount namespace of its own, and here it gets none");
            return None;
        }
        Some(Self { folder: setup.data_dir().join("spool"), mib })
    }

    /// The node, on this disk.
    #[must_use]
    pub fn under(&self, setup: Setup) -> Setup {
        let (folder, size) = (self.folder.display().to_string(), format!("{}m", self.mib));
        setup.within(&["unshare", "--mount", "sh", "-c", ON_IT, "sh", &folder, &size])
    }

    /// Writes until there is no room at all.
    ///
    /// # Panics
    /// If there is room left.
    pub fn fill(&self, node: &Node) {
        // What ends it is that there is no room.
        self.run(node, "! cat /dev/zero > ballast 2>/dev/null");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it cannot be given back.
    pub fn empty(&self, node: &Node) {
        self.run(node, "rm ballast");
    }

    fn run(&self, node: &Node, script: &str) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", node.id()));
        command.args(["sh", "-euc", &format!("cd \"$1\" && {script}"), "sh"]).arg(&self.folder);
        let _ = tools::run(&mut command, b"").done();
    }
}
