//! `posthouse nodes …`

mod add_key;
mod cordon;
mod drain;
mod list;
mod remove;
mod resume;
mod show;
mod state;
mod takeover;

use clap::Subcommand;

use crate::failure::Failure;

pub(super) use state::{readiness, state};

/// See the nodes of a cluster, and say who takes part; on its manager
#[derive(Debug, Subcommand)]
pub(super) enum Nodes {
    List(list::List),
    Show(show::Show),
    AddKey(add_key::AddKey),
    Cordon(cordon::Cordon),
    Drain(drain::Drain),
    Resume(resume::Resume),
    Remove(remove::Remove),
    Takeover(takeover::Takeover),
}

impl Nodes {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::AddKey(add_key) => add_key.run(),
            Self::Cordon(cordon) => cordon.run(),
            Self::Drain(drain) => drain.run(),
            Self::Resume(resume) => resume.run(),
            Self::Remove(remove) => remove.run(),
            Self::Takeover(takeover) => takeover.run(),
        }
    }
}
