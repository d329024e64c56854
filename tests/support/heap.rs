//! Looks for bytes in the memory of another process.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

/// Where a text was found: the mapping's name (`[heap]`, `[stack]`, a path, or nothing) and address.
#[derive(Debug)]
pub(crate) struct Found {
    #[expect(dead_code, reason = "shown by Debug when a test fails")]
    pub(crate) mapping: String,
    #[expect(dead_code, reason = "shown by Debug when a test fails")]
    pub(crate) address: u64,
}

/// All places of the text in what the process can write to: heap, stacks, data.
///
/// # Errors
/// When the memory can't be read: the process locked itself down, or it is not ours.
pub(crate) fn search(pid: u32, text: &[u8]) -> io::Result<Vec<Found>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        let mapping = words.nth(3).unwrap_or_default().to_owned();
        let content = read(&memory, start, end)?;
        let places = content.windows(text.len()).enumerate().filter(|(_, part)| *part == text);
        found.extend(
            places.map(|(at, _)| Found { mapping: mapping.clone(), address: start + at as u64 }),
        );
    }
    Ok(found)
}

fn read(memory: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(end - start).expect("fits")];
    match memory.read_exact_at(&mut content, start) {
        // Kernel pages such as [vvar] are listed and can't be read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Ok(Vec::new())
        }
        read => read.map(|()| content),
    }
}
