//! The client and the command line against a broker of the test's own.

mod broker;
mod cli;
mod exec;
mod facade;
mod render;
mod tls;
mod typed;
