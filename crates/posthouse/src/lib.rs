//! Posthouse: a mail gateway and job server in one binary.
//!
//! This crate puts the parts together: what the operator says ([`config`], [`commands`]), what a
//! running node answers ([`api`] over [`control`] and [`console`]), and the node itself ([`node`]).

pub mod api;
pub mod backup;
pub mod commands;
pub mod config;
pub mod console;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod failure;
pub mod fleet;
pub mod listen;
pub mod logging;
pub mod node;
mod output;
mod runtime;
pub mod sender;
pub mod sink;
pub mod systemd;
