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

    /// A fault in the line that holds byte `at`.
    pub(crate) fn fault_at(&self, at: usize, what: impl Into<String>) -> Fault {
        self.fault(self.text[..at].matches('\n').count() + 1, what)
    }

    /// A fault in line `line`, counted from 1.
    pub(crate) fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), line, what: what.into() }
    }
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
