//! The table, in the terminal and where the README shows it.

use std::{fmt::Write, fs};

use crate::contenders::Rig;

const BEGIN: &str = "<!-- benches:begin -->\n";
const END: &str = "<!-- benches:end -->";

pub struct Report {
    names: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Report {
    pub fn new() -> Self {
        let names =
            ["secret-broker", "tonic echo", "tonic echo (threads)", "Vault Agent", "Vault Proxy"];
        Self { names: names.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, what: &str, values: Vec<String>) {
        self.rows.push((what.to_owned(), values));
    }

    /// The size of the sidecar's binary, and that of Vault, which is Agent and Proxy too.
    pub fn binary(&mut self) {
        let size = |path| megabytes(fs::metadata(path).unwrap().len() as f64 / 1e6);
        let vault = size(crate::support::tool("vault"));
        let row = vec![size(Rig::binary()), String::new(), String::new(), vault.clone(), vault];
        self.row("binary, stripped", row);
    }

    fn table(&self) -> String {
        let mut table = format!("| | {} |\n", self.names.join(" | "));
        let _ = writeln!(table, "|---|{}", "---|".repeat(self.names.len()));
        for (what, values) in &self.rows {
            let _ = writeln!(table, "| {what} | {} |", values.join(" | "));
        }
        table
    }

    /// Prints the table, and puts it into the README if it is whole.
    pub fn write(&self, whole: bool) {
        let table = self.table();
        println!("\n{table}");
        if !whole {
            return;
        }
        let readme = fs::read_to_string("README.md").expect("runs at the root of the project");
        let (before, rest) = readme.split_once(BEGIN).expect("the README has a place for it");
        let (_, after) = rest.split_once(END).expect("and its end");
        fs::write("README.md", format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

pub fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

pub fn megabytes(mb: f64) -> String {
    format!("{mb:.1} MB")
}
