//! Sets up the programs of others that tests and benches run, once.
//!
//! Mail servers are only ever unpacked: installing one would replace the mail transport agent of the
//! machine. The others are installed where we may, else swaks is unpacked too.

mod apt;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use self::apt::Apt;
use crate::{place, step::Note};

/// Makes sure that all foreign programs are there; quick where they are.
///
/// # Errors
/// Says what to install by hand.
pub(crate) fn set_up() -> Result<Note> {
    let mut done: Vec<Note> = install_packages()?.into_iter().collect();
    for server in &SERVERS {
        done.extend(unpack_server(server)?);
    }
    write_scripts()?;
    done.extend(link_swaks()?);
    Ok(if done.is_empty() { "all there".into() } else { done.join(", ") })
}

/// Makes sure that Postfix, smtp-source and smtp-sink are unpacked: all that a bench needs.
///
/// # Errors
/// Says what to install by hand.
pub(crate) fn set_up_postfix() -> Result<Note> {
    let note = unpack_server(&POSTFIX)?;
    write_scripts()?;
    Ok(note.unwrap_or_else(|| "all there".into()))
}

/// Installs the packages of commands that are missing, where this user may.
fn install_packages() -> Result<Option<Note>> {
    let swaks_is_unpacked = place::foreign().join(SWAKS_UNPACKED).exists();
    let missing: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|(name, command)| which(command).is_none() && !(*name == "swaks" && swaks_is_unpacked))
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let apt = Apt::find(&missing.join(" "))?;
    if apt.may_install() {
        apt.install(&missing)?;
        return Ok(Some(format!("installed {}", missing.join(" "))));
    }
    match missing.iter().filter(|name| **name != "swaks").copied().collect::<Vec<_>>() {
        others if others.is_empty() => Ok(None),
        others => bail!("cannot install here; run: sudo apt-get install {}", others.join(" ")),
    }
}

/// Puts swaks beside the other tools: the installed one, else one unpacked for us alone.
fn link_swaks() -> Result<Option<Note>> {
    let link = place::foreign().join("bin/swaks");
    if link.exists() {
        return Ok(None);
    }
    let (target, note) = match which("swaks") {
        Some(installed) => (installed, None),
        None => {
            let apt = Apt::find("swaks")?;
            unpack(&apt, "swaks", &place::foreign().join("swaks"))?;
            (place::foreign().join(SWAKS_UNPACKED), Some("unpacked swaks".to_owned()))
        }
    };
    // A link to a swaks that was since removed is in the way.
    fs::remove_file(&link).or_else(not_found_is_fine)?;
    symlink(target, &link).with_context(|| format!("cannot link {}", link.display()))?;
    Ok(note)
}

/// Unpacks a mail server and the libraries that it needs and the machine lacks.
fn unpack_server(server: &Server) -> Result<Option<Note>> {
    let root = place::foreign().join(server.package);
    if root.exists() {
        return Ok(None);
    }
    let package = server.package;
    let apt = Apt::find(&format!("{package} (unpacked, not installed)"))?;
    // All or nothing: what was cut short is begun again.
    let part = root.with_extension("part");
    fs::remove_dir_all(&part).or_else(not_found_is_fine)?;
    apt.unpack_into(package, &part)?;
    let libraries = unpack_libraries(&apt, server, &part)?;
    fs::rename(&part, &root).with_context(|| format!("cannot make {}", root.display()))?;
    let with = if libraries.is_empty() { String::new() } else { format!(" with {}", libraries.join(" ")) };
    Ok(Some(format!("unpacked {package}{with}")))
}

/// Unpacks the shared libraries that a server needs and the machine lacks, from the packages that it depends on.
fn unpack_libraries(apt: &Apt, server: &Server, root: &Path) -> Result<Vec<String>> {
    let mut unpacked: Vec<String> = Vec::new();
    let mut wanted = apt.libraries_of(server.package)?;
    while let Some(library) = missing_library(server, root)? {
        let round: BTreeSet<String> =
            wanted.into_iter().filter(|package| !unpacked.contains(package)).collect();
        if round.is_empty() {
            bail!("{} needs {library}, and no package that it depends on brings it", server.package);
        }
        wanted = Vec::new();
        for package in round {
            apt.unpack_into(&package, root)?;
            wanted.extend(apt.libraries_of(&package)?);
            unpacked.push(package);
        }
    }
    Ok(unpacked)
}

/// A library that some part of a server does not find, if any.
fn missing_library(server: &Server, root: &Path) -> Result<Option<String>> {
    for program in server.programs {
        let output = Command::new("ldd")
            .arg(root.join(program))
            .env("LD_LIBRARY_PATH", library_path(&root.display().to_string()))
            .output()
            .context("cannot run ldd (package libc-bin)")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let missing = text.lines().find(|line| line.contains("not found"));
        if let Some(name) = missing.and_then(|line| line.split_whitespace().next()) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// Writes the scripts that run the load tools of Postfix, and the one that runs a server beside the machine's own.
fn write_scripts() -> Result<()> {
    let bin = place::foreign().join("bin");
    fs::create_dir_all(&bin)?;
    for tool in POSTFIX_TOOLS {
        let libraries = library_path("$root");
        let script = format!(
            "#!/bin/sh\n# Debian's {tool} with the libraries unpacked beside it; written by cargo xtask.\n\
             root=${{0%/*}}/../postfix\nLD_LIBRARY_PATH={libraries} exec \"$root/usr/sbin/{tool}\" \"$@\"\n"
        );
        write_script(&bin.join(tool), &script)?;
    }
    write_script(&bin.join("beside"), BESIDE)
}

/// Writes a script where it is not there yet, in one move: a test may be about to run it.
fn write_script(path: &Path, script: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == script) {
        return Ok(());
    }
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        fs::write(&part, script)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Unpacks a package into a root of its own, all or nothing.
fn unpack(apt: &Apt, package: &str, root: &Path) -> Result<()> {
    let part = root.with_extension("part");
    for stale in [&part, root] {
        fs::remove_dir_all(stale).or_else(not_found_is_fine)?;
    }
    apt.unpack_into(package, &part)?;
    fs::create_dir_all(place::foreign().join("bin"))?;
    fs::rename(&part, root).with_context(|| format!("cannot make {}", root.display()))
}

fn library_path(root: &str) -> String {
    format!("{root}/usr/lib/postfix:{root}/usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

fn which(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    // What is for root is there too, whoever asks.
    let folders = std::env::split_paths(&paths).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn not_found_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Packages that are installed where their command is missing.
const PACKAGES: [(&str, &str); 7] = [
    ("swaks", "swaks"),
    ("curl", "curl"),
    ("python3", "python3"),
    ("systemd", "systemd-analyze"),
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("faketime", "faketime"),
];

const POSTFIX_TOOLS: [&str; 2] = ["smtp-source", "smtp-sink"];

/// A mail server of others.
struct Server {
    package: &'static str,
    /// What must find its libraries.
    programs: &'static [&'static str],
}

const POSTFIX: Server = Server {
    package: "postfix",
    programs: &[
        "usr/sbin/smtp-source",
        "usr/lib/postfix/sbin/master",
        "usr/lib/postfix/sbin/smtpd",
        "usr/lib/postfix/sbin/smtp",
        "usr/lib/postfix/libpostfix-util.so",
    ],
};

const SERVERS: [Server; 3] = [
    POSTFIX,
    Server { package: "opensmtpd", programs: &["usr/sbin/smtpd", "usr/sbin/smtpctl"] },
    Server { package: "exim4-daemon-light", programs: &["usr/sbin/exim4"] },
];

const BESIDE: &str = include_str!("foreign/beside.sh");

/// Where swaks lies under the foreign tools if it had to be unpacked.
const SWAKS_UNPACKED: &str = "swaks/usr/bin/swaks";
