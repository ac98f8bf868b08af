//! A spool whose bytes were changed at will, with checksums that fit: it opens or says why not, never panics, and what it takes from then on
//! it keeps.
//!
//! `cargo xtask fuzz` runs this for as long as one likes.

mod changes;
mod spool;
