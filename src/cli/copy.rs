//! `copy`: the program itself into a directory, for containers that have no program of ours.

use std::{io, path::Path};

use super::{
    Failure,
    args::CopyArgs,
    failure::{OK, OTHER},
    render::file::{Access, put},
};

/// The name it gets.
const NAME: &str = "secret-broker";
/// Anybody may run it.
const MODE: u32 = 0o755;

pub(super) fn run(args: &CopyArgs) -> Result<u8, Failure> {
    let to = args.directory.join(NAME);
    let at = |error: io::Error| Failure::new(OTHER, format!("{}: {error}", to.display()));
    copy(&to).map_err(at)?;
    Ok(OK)
}

fn copy(to: &Path) -> io::Result<()> {
    // The running file itself, also where its path was replaced meanwhile.
    let mut program = std::fs::File::open("/proc/self/exe")?;
    put(to, Access { mode: MODE, owner: None }, |file| io::copy(&mut program, file).map(drop))
}
