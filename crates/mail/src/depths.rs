//! How much the dispatcher has of what, as metrics and lists show it.

/// How much waits for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Works whose time has not come.
    pub due: usize,
    /// Works that may go as soon as their site's limits let them.
    pub ready: usize,
    /// Works that wait for the end of a pause.
    pub paused: usize,
    /// Works whose domain is being looked up.
    pub asking: usize,
    /// Sites that are known.
    pub sites: usize,
    /// Sites that answer nobody and are left alone for a while.
    pub resting: usize,
    /// Deliveries under way.
    pub running: usize,
}
