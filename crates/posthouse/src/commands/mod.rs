//! The command line: a file per command; its help is its doc comment.

mod ask;
mod backup;
mod demo;
mod doctor;
mod drill;
mod fleet_node;
mod identity;
mod list_cluster;
mod mail;
mod nodes;
mod reload;
mod restore;
mod status;
mod up;
mod when;

use std::{ffi::OsString, io::Write};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

pub use up::Up;

use crate::failure::{Exit, Failure};

/// Posthouse, a mail gateway: it takes mail in by SMTP, keeps it safe, and hands it on by SMTP
#[derive(Debug, Parser)]
#[command(name = "posthouse", version, max_term_width = 100)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<Up>),
    Demo(demo::Demo),
    Drill(drill::Drill),
    Status(status::Status),
    Reload(reload::Reload),
    Doctor(doctor::Doctor),
    Backup(backup::Backup),
    Restore(restore::Restore),
    #[command(subcommand)]
    Mail(Box<mail::Mail>),
    ListCluster(list_cluster::ListCluster),
    #[command(subcommand)]
    Nodes(Box<nodes::Nodes>),
    #[command(subcommand)]
    Identity(Box<identity::Identity>),
    #[command(hide = true)]
    FleetNode(Box<fleet_node::FleetNode>),
}

/// Runs the command that `args` name, the first of which is the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let command_line = match CommandLine::try_parse_from(args) {
        Ok(command_line) => command_line,
        Err(error) => {
            // Help and version go to standard output, which may have been closed by a pager.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match command_line.command.run() {
        Ok(()) => Exit::Done,
        Err(failure) => {
            // There is nobody left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}", plain(&failure.to_string()));
            failure.exit()
        }
    }
}

/// A bar on standard error for work that takes its time; nobody sees it where that is no terminal.
fn progress(bytes: u64, what: &'static str) -> ProgressBar {
    let style = "{wide_bar} {bytes} of {total_bytes} {msg}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("it names what a bar has");
    ProgressBar::new(bytes).with_style(style).with_message(what)
}

/// A text for people as it goes to the terminal: what others said may be in it, so control characters
/// become `?`, but for the ends of lines.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Up(up) => up.run(),
            Self::Demo(demo) => demo.run(),
            Self::Drill(drill) => drill.run(),
            Self::Status(status) => status.run(),
            Self::Reload(reload) => reload.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
            Self::Mail(mail) => mail.run(),
            Self::ListCluster(list) => list.run(),
            Self::Nodes(nodes) => nodes.run(),
            Self::Identity(identity) => identity.run(),
            Self::FleetNode(node) => node.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::KEYS;

    #[test]
    fn every_command_and_every_flag_has_a_help_text() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in
                command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
            {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        CommandLine::command().debug_assert();
        walk(&CommandLine::command());
    }

    #[test]
    fn every_flag_of_up_names_its_key_in_the_file() {
        let command = CommandLine::command();
        let up = command.find_subcommand("up").unwrap();
        // The file cannot say where it is.
        let flags = up.get_arguments().filter(|arg| !["help", "config"].contains(&arg.get_id().as_str()));
        let mut seen = 0;
        for flag in flags {
            let help = flag.get_help().unwrap().to_string();
            let key =
                help.split_once("[key: ").and_then(|(_, rest)| rest.split_once(']')).map(|(key, _)| key);
            let key = key.unwrap_or_else(|| panic!("--{} names no key: {help}", flag.get_id()));
            let known = KEYS.iter().any(|known| *known == key || known.starts_with(&format!("{key}.")));
            assert!(known, "--{} names {key}, which is no key", flag.get_id());
            seen += 1;
        }
        assert!(seen >= 10, "{seen}");
    }

    #[test]
    fn every_command_that_asks_a_node_finds_it_and_speaks_json() {
        let command = CommandLine::command();
        let named = |name: &&str| command.find_subcommand(name).unwrap();
        let groups = ["mail", "nodes"].iter().map(named).flat_map(clap::Command::get_subcommands);
        for asking in groups.chain(["status", "reload", "backup", "list-cluster"].iter().map(named)) {
            for flag in ["data_dir", "json"] {
                assert!(
                    asking.get_arguments().any(|arg| arg.get_id() == flag),
                    "{} {flag}",
                    asking.get_name()
                );
            }
        }
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        let run = |line: &str| main(line.split(' ').map(OsString::from));
        assert_eq!(run("posthouse upp"), Exit::Usage);
        assert_eq!(run("posthouse up --smtp 127.0.0.1"), Exit::Usage);
    }
}
