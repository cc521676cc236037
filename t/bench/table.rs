//! What the bench says: tables for people, one JSON file for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Columns of text, the first ones to the left and figures to the right.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

/// Everything found out so far.
#[derive(Default)]
pub struct Report {
    figures: Map<String, Value>,
}

// === impl Table ===

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let head = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.to_owned(), rows: vec![head] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        // A column of words has no digit in front in its first row.
        let is_text = |column: usize| {
            let first = self.rows.get(1).map(|row| row[column].as_str());
            first.is_some_and(|cell| cell.starts_with(|c: char| c.is_alphabetic()))
        };
        let mut text = format!("\n{}\n", self.title);
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if is_text(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text += &format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text
    }
}

// === impl Report ===

impl Report {
    /// Prints `table` and keeps `figures` for the file.
    pub fn add(&mut self, name: &str, table: Table, figures: Value) {
        say(&table.text());
        self.figures.insert(name.to_owned(), figures);
    }

    /// Writes the figures, with the machine that they are from.
    pub fn write(mut self, file: &Path) -> Result<()> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        self.figures.insert("machine".to_owned(), json!({ "cpu": model, "cores": cores }));
        let text = serde_json::to_string_pretty(&self.figures)? + "\n";
        std::fs::write(file, text)
            .with_context(|| format!("could not write {}", file.display()))?;
        say(&format!("\nfigures: {}\n", file.display()));
        Ok(())
    }
}

/// Microseconds as a person reads them.
pub fn micros(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Prints at once: a run takes minutes.
#[allow(clippy::print_stdout, reason = "the tables are this program's output")]
pub fn say(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    let _ = std::io::stdout().flush();
}
