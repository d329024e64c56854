//! The client and the command line against a broker of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "support of tests")]

mod broker;
mod cli;
mod exec;
mod facade;
mod live;
mod render;
mod serving;
mod tls;
mod typed;
