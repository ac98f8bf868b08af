//! Who may read and write the data directory.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::Finding;

const CHECK: &str = "permissions";
/// The bits that let others than the owner in.
const OTHERS: u32 = 0o077;
/// Most files that are looked at below the directory.
const MOST: usize = 100_000;

pub(super) fn check(dir: &Path) -> Vec<Finding> {
    let shown = dir.display();
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::skipped(
                CHECK,
                format!("{shown} does not exist yet; the first start makes it"),
            )];
        }
        Err(error) => return vec![Finding::problem(CHECK, format!("{shown} cannot be looked at: {error}"))],
    };
    let user = rustix::process::geteuid();
    if !user.is_root() && metadata.uid() != user.as_raw() {
        let finding =
            Finding::problem(CHECK, format!("{shown} belongs to another user (id {})", metadata.uid()));
        return vec![finding.advice("run the doctor as the user of the node, or as root")];
    }
    let mut odd = Odd::default();
    odd.look(dir, &metadata, metadata.uid());
    odd.below(dir, metadata.uid());
    odd.findings(dir)
}

/// What is not as the node makes it.
#[derive(Default)]
struct Odd {
    looked_at: usize,
    open: Vec<String>,
    foreign: Vec<String>,
}

impl Odd {
    fn look(&mut self, path: &Path, metadata: &Metadata, owner: u32) {
        self.looked_at += 1;
        if metadata.mode() & OTHERS != 0 && !metadata.is_symlink() {
            self.open.push(path.display().to_string());
        }
        if metadata.uid() != owner {
            self.foreign.push(path.display().to_string());
        }
    }

    fn below(&mut self, dir: &Path, owner: u32) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            // What a running node has removed meanwhile has no permissions.
            let Ok(metadata) = entry.metadata() else { continue };
            if self.looked_at >= MOST {
                return;
            }
            self.look(&entry.path(), &metadata, owner);
            if metadata.is_dir() {
                self.below(&entry.path(), owner);
            }
        }
    }

    fn findings(self, dir: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let [first, rest @ ..] = &self.foreign[..] {
            let finding = Finding::problem(CHECK, format!("{first}{} belong to another user", more(rest)));
            findings
                .push(finding.advice(format!("chown -R the data directory to its owner: {}", dir.display())));
        }
        if let [first, rest @ ..] = &self.open[..] {
            let finding =
                Finding::warning(CHECK, format!("{first}{} can be opened by other users", more(rest)));
            findings.push(finding.advice(format!("chmod -R go-rwx {}", dir.display())));
        }
        if findings.is_empty() {
            let dir = dir.display();
            findings.push(Finding::ok(CHECK, format!("{dir} and all in it belong to its user alone")));
        }
        findings
    }
}

fn more(rest: &[String]) -> String {
    if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) }
}
