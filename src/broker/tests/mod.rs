//! The broker under paused time, over a store that can be made to fail.

mod days;
mod fakes;
mod reloading;
mod serving;
mod watching;
