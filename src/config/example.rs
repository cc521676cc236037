//! Writes `conf/config.yaml.example` from the table.

use std::fmt::Write as _;

use super::kind::Kind;
use super::table::{self, ROWS, Row};

/// Columns that a line of the example may have.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Every key that conf/config.yaml may hold, with its default. Written from src/config/table.rs:
# change it there, then run `UPDATE_EXAMPLE=1 cargo test --lib config::`.
#
# Names, defaults and meaning are those of Apache APISIX 3.18; what stands under `sluice` is Sluice's
# own. A file needs only what it changes: mappings are filled up with the defaults, lists replaced.
#
# Times are written 500ms, 60s, 1m or 1h 30m, a bare number counting seconds; sizes 16384, 64k or
# 10m. ${{NAME}} stands for an environment variable, ${{NAME:=value}} for one with a default. Paths
# of files start from the folder that holds conf/. Keys without a default are commented out, with
# an example. An unknown key is ignored with a warning; a value of the wrong type is an error.
";

const UNUSED: &str = "
# Keys of APISIX that are known and have no effect here, so that a file may keep them:
#
";

/// The annotated list of every key with its default.
pub(super) fn text() -> String {
    let mut out = HEAD.to_owned();
    section(&mut out, "", "", false);
    out.push_str(UNUSED);
    for row in ROWS.iter().filter(|row| row.is_unused()) {
        let _ = writeln!(out, "#   {}: {}", row.path, row.doc);
    }
    out
}

/// Writes the rows below `prefix`, each line beginning with `start`.
///
/// In a section that is commented out as a whole (`off`), its keys need no mark of their own.
fn section(out: &mut String, prefix: &str, start: &str, off: bool) {
    // Sections stand apart from what comes before and after them.
    let mut after = None;
    for (name, row) in table::children(prefix).filter(|(_, row)| !row.is_unused()) {
        let is_section = matches!(row.kind, Kind::Section | Kind::Optional);
        if prefix.is_empty() || after == Some(true) || (is_section && after.is_some()) {
            let _ = writeln!(out, "{}", start.trim_end());
        }
        after = Some(is_section);
        wrapped(out, &format!("{start}# "), "", row.doc);
        match row.kind {
            Kind::Json => {
                let _ = writeln!(out, "{start}# <name of a plugin>: {}", row.example);
            }
            _ if is_section && !off && has_defaults(row) => {
                let _ = writeln!(out, "{start}{name}:");
                section(out, row.path, &format!("{start}  "), false);
            }
            _ if is_section => {
                let _ = writeln!(out, "{start}# {name}:");
                section(out, row.path, &format!("{start}#   "), true);
            }
            _ => {
                items(out, row, start);
                leaf(out, name, row, start, off);
            }
        }
    }
}

/// Whether the section at `row` stands in the file without being asked for.
fn has_defaults(row: &Row) -> bool {
    matches!(row.kind, Kind::Section)
        && table::children(row.path)
            .any(|(_, row)| row.default != "null" || matches!(row.kind, Kind::Section))
}

/// Writes a key and its default, a long list one item a line.
fn leaf(out: &mut String, name: &str, row: &Row, start: &str, off: bool) {
    if row.default == "null" {
        let mark = if off { "" } else { "# " };
        let _ = writeln!(out, "{start}{mark}{name}: {}", row.example);
        return;
    }
    let line = format!("{start}{name}: {}", row.default);
    let list = row.default.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
    match list {
        Some(list) if line.len() > WIDTH => {
            let _ = writeln!(out, "{start}{name}:");
            for item in list.split(", ") {
                let _ = writeln!(out, "{start}  - {item}");
            }
        }
        _ => {
            let _ = writeln!(out, "{line}");
        }
    }
}

/// Writes, as a comment, what an item of the list or mapping at `row` may hold.
fn items(out: &mut String, row: &Row, indent: &str) {
    for end in ["[]", ".*"] {
        let rows = format!("{}{end}", row.path);
        for (index, (name, row)) in
            table::children(&rows).filter(|(_, row)| !row.is_unused()).enumerate()
        {
            if index == 0 {
                let _ = writeln!(out, "{indent}# Each may hold:");
            }
            let default = match row.default {
                "null" => format!(" Such as {}.", row.example),
                default => format!(" Default: {default}."),
            };
            let doc = format!("{name}: {}{default}", row.doc);
            wrapped(out, &format!("{indent}#   "), "  ", &doc);
        }
    }
}

/// Writes `text` as lines beginning with `start`, all but the first with `hang` too.
fn wrapped(out: &mut String, start: &str, hang: &str, text: &str) {
    let mut line = start.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = format!("{start}{hang}");
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{line}");
}
