//! Nodes that work together: who they are, who lives, who holds what, and the one port between them.
//!
//! | what | files |
//! |---|---|
//! | who a node is | [`identity`], [`authority`], [`tls`] |
//! | who lives, and who may work | [`membership`] at the manager, [`fence`] at the worker |
//! | who gets what | [`placement`], `load` |
//! | what is said | [`wire`] |
//! | the two sides | [`manager`], [`worker`] |

pub mod authority;
mod boot_time;
pub mod fence;
#[cfg(test)]
mod home;
pub mod identity;
mod load;
pub mod manager;
pub mod membership;
mod pace;
pub mod placement;
#[cfg(test)]
mod simulation;
pub mod tls;
pub mod wire;
pub mod worker;

pub use load::{BURSTS, Place, SiteNumber};
pub use membership::Moment;
