//! Nodes that work together: who they are, who lives, who holds what, and the one port between them.

pub mod authority;
pub mod fence;
pub mod identity;
pub mod membership;
pub mod placement;
pub mod tls;
