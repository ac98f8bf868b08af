//! The files of the checkout, and faults in them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A text file.
pub(crate) struct File {
    /// Its path from the root of the checkout, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl File {
    /// The last part of its path without the ending.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }

    /// Whether a program has made it.
    pub(crate) fn is_made(&self) -> bool {
        self.path.ends_with(".rs") && self.text.lines().take(4).any(|line| line.starts_with(MADE_OF))
    }

    /// A fault in the line that holds byte `at`.
    pub(crate) fn fault_at(&self, at: usize, what: impl Into<String>) -> Fault {
        self.fault(self.text[..at].matches('\n').count() + 1, what)
    }

    /// A fault in line `line`, counted from 1.
    pub(crate) fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, what: what.into() }
    }
}

/// How the line begins that says what a file was made of, and with which checksum.
const MADE_OF: &str = "// Made of ";

/// A file that was made of something else than what is there now.
pub(crate) fn made_of_another(file: &File, files: &[File]) -> Vec<Fault> {
    if !file.is_made() {
        return Vec::new();
    }
    let line = file.text.lines().find_map(|line| line.strip_prefix(MADE_OF)).unwrap_or_default();
    let (source, checksum) = line.split_once(" with the checksum ").unwrap_or((line, ""));
    let found = files.iter().find(|other| other.path == source).map(|other| fnv(&other.text));
    if found.as_deref() == Some(checksum.trim_end_matches('.')) {
        return Vec::new();
    }
    let what =
        format!("{source} is another by now: `cargo run --package xtask --features generate -- generate`");
    vec![file.fault(1, what)]
}

/// A checksum (FNV-1a).
fn fnv(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{sum:016x}")
}

/// Something untidy: where, and what to do.
#[derive(Debug)]
pub(crate) struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All text files of the checkout but what is built.
pub(crate) fn tree() -> Vec<File> {
    let root = root();
    let mut files = Vec::new();
    walk(root, root, &mut files);
    assert!(
        files.iter().any(|file| file.path == "xtask/tests/tidy/tree.rs"),
        "the walk misses this very file"
    );
    files
}

/// The root of the checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the checkout")
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the checkout can be read").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_folder = path.is_dir() && !path.is_symlink();
        // In a second worktree of a checkout this is a file, which says where the first one is.
        if name == ".git" {
            continue;
        }
        if is_folder && (name == "target" || name.starts_with('.') && !OUR_HIDDEN.contains(&&*name)) {
            continue;
        }
        if is_folder {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            // What is not text has no habits.
            let path = path.strip_prefix(root).expect("the walk stays below the root");
            files.push(File { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// Hidden folders that are ours.
const OUR_HIDDEN: [&str; 3] = [".cargo", ".ci", ".config"];
