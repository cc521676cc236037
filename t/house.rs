//! The rules of the house, as tests: which room may use which, and how a file looks.
//!
//! Each checker is a function over text that returns what is wrong, as lines a person can act
//! on; the tests at the end first show that each one can fail, then run all over the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the table in `src/lib.rs`.
#[derive(Debug, PartialEq)]
struct Room {
    name: String,
    uses: Uses,
}

#[derive(Debug, PartialEq)]
enum Uses {
    Everything,
    These(Vec<String>),
}

/// Files may not be longer, in lines.
const LONGEST: usize = 800;

/// File names that say that the right room was not found.
const EMPTY_NAMES: [&str; 11] = [
    "mod", "util", "utils", "common", "helper", "helpers", "misc", "types", "manager", "handler",
    "base",
];

/// What stands at the top, beside dot files and the settings of cargo's tools.
const TOP: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "src", "conf", "t", "ci", "Makefile", "README.md"];
const ALSO_AT_THE_TOP: [&str; 2] = ["deny.toml", "clippy.toml"];

// === impl Room ===

impl Room {
    fn may_use(&self, other: &str) -> bool {
        match &self.uses {
            Uses::Everything => true,
            Uses::These(rooms) => self.name == other || rooms.iter().any(|room| room == other),
        }
    }
}

/// The rows of the table of rooms in the docs of `src/lib.rs`.
fn rooms(lib: &str) -> Vec<Room> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end().trim_end_matches('|').split('|').collect();
        let name = cells[0].trim().trim_end_matches('`').to_owned();
        let uses = match cells.get(2).map_or("", |cell| cell.trim()) {
            "everything" => Uses::Everything,
            list => Uses::These(
                list.split(',')
                    .map(|room| room.trim().to_owned())
                    .filter(|room| !room.is_empty())
                    .collect(),
            ),
        };
        Room { name, uses }
    })
    .collect()
}

/// The room of a file below `src/` (`proxy.rs` and `proxy/pipeline.rs` are in `proxy`), `None`
/// for `lib.rs` and `main.rs`, which are the house itself.
fn room_of(file: &Path) -> Option<String> {
    let first = file.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

/// Rooms without a row, rows without a room, and rows that name what is no room.
fn wrong_rows(rooms: &[Room], files: &[PathBuf]) -> Vec<String> {
    let rows: BTreeSet<&str> = rooms.iter().map(|room| room.name.as_str()).collect();
    let built: BTreeSet<String> = files.iter().filter_map(|file| room_of(file)).collect();
    let mut wrong = Vec::new();
    for room in &built {
        if !rows.contains(room.as_str()) {
            wrong.push(format!("src/{room} has no row in the table of src/lib.rs"));
        }
    }
    for room in rooms {
        if !files.contains(&PathBuf::from(format!("{}.rs", room.name))) {
            wrong.push(format!(
                "the table of src/lib.rs has a row `{0}`, but src/{0}.rs is missing",
                room.name
            ));
        }
        if let Uses::These(uses) = &room.uses {
            for used in uses.iter().filter(|used| !rows.contains(used.as_str())) {
                wrong.push(format!("the row `{}` may use `{used}`, which has no row", room.name));
            }
        }
    }
    wrong
}

/// Arrows of `source` (a file below `src/`) that the table does not have.
fn wrong_arrows(rooms: &[Room], file: &Path, source: &str) -> Vec<String> {
    let Some(name) = room_of(file) else {
        return Vec::new();
    };
    // `wrong_rows` reports a room without a row.
    let Some(room) = rooms.iter().find(|room| room.name == name) else {
        return Vec::new();
    };
    let is_room = |name: &str| rooms.iter().any(|room| room.name == name);
    let mut wrong = Vec::new();
    let code = code_only(source);
    for (line, used) in names_after(&code, "crate::") {
        if !is_room(&used) {
            wrong.push(format!("src/{}:{line}: `crate::{used}` is no room", file.display()));
        } else if !room.may_use(&used) {
            wrong.push(format!(
                "src/{}:{line}: `{name}` may not use `{used}` (see the table in src/lib.rs)",
                file.display()
            ));
        }
    }
    // The other way out of a room: as many `super::` as the file lies deep.
    let way_out = "super::".repeat(file.components().count());
    for (line, used) in names_after(&code, &way_out) {
        if is_room(&used) && used != name {
            wrong.push(format!(
                "src/{}:{line}: name the room `{used}` as `crate::{used}`, not through `super`",
                file.display()
            ));
        }
    }
    wrong
}

/// The names that follow `prefix` in `code`, each with its line; of `prefix{a::B, c}`, `a` and `c`.
fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        // `mycrate::` is another word than `crate::`, and `super::super::` is found at its end.
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let from = start + prefix.len();
        let line_of = |at: usize| code[..at].matches('\n').count() + 1;
        let rest = &code[from..];
        if !rest.starts_with('{') {
            found.extend(first_name(rest).map(|name| (line_of(start), name)));
            continue;
        }
        let mut depth = 0;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (c == '{' || c == ',') {
                found.extend(
                    first_name(rest[at + 1..].trim_start()).map(|name| (line_of(from + at), name)),
                );
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|(_, name)| !["super", "self"].contains(&name.as_str()));
    found
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// `source` with comments and the insides of literals blanked, line for line.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let blank = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !code
                .ends_with(|c: char| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') =>
            {
                raw_string(rest)
            }
            '\'' => character(rest),
            _ => 0,
        };
        let kept = if blank == 0 { c.len_utf8() } else { 0 };
        code.push_str(&rest[..kept]);
        code.extend(
            rest[kept..kept.max(blank)].chars().map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[kept.max(blank)..];
    }
    code
}

/// The length of the block comment that `text` starts with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the string literal that `text` starts with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string literal that `text` starts with, 0 when it starts with none.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let body = 2 + hashes;
    let end = format!("\"{}", "#".repeat(hashes));
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// The length of the character literal that `text` starts with, 0 when it starts a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => text[3..].find('\'').map_or(text.len(), |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// What is wrong with how a file looks: its first line, its name, its length.
fn wrong_looks(file: &Path, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !source.starts_with("//! ") {
        wrong.push(format!(
            "{}: the first line is no `//!` that says what the file is for",
            file.display()
        ));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        wrong.push(format!(
            "{}: `{stem}` says nothing; name the file for what it holds",
            file.display()
        ));
    }
    let lines = source.lines().count();
    if lines > LONGEST {
        wrong.push(format!("{}: {lines} lines, more than {LONGEST}: two topics?", file.display()));
    }
    wrong
}

/// Things left undone in code or comments.
fn leftovers(file: &Path, source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut wrong = Vec::new();
    for (number, (line, code)) in source.lines().zip(code.lines()).enumerate() {
        let macros =
            ["todo!", "unimplemented!", "dbg!"].into_iter().filter(|word| code.contains(word));
        let marks = ["TODO", "FIXME"].into_iter().filter(|word| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == *word)
        });
        for word in macros.chain(marks) {
            wrong.push(format!("{}:{}: `{word}` is left over", file.display(), number + 1));
        }
    }
    wrong
}

/// Lines with an `unsafe` block or impl and no `// SAFETY:` in the comment above.
fn unexplained_unsafe(file: &Path, source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let code = code_only(source);
    let mut wrong = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let is_unsafe = line.match_indices("unsafe").any(|(at, word)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].trim_start();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                && (after.is_empty() || after.starts_with('{') || after.starts_with("impl"))
        });
        if is_unsafe && !is_explained(&lines, number) {
            wrong.push(format!(
                "{}:{}: `unsafe` without `// SAFETY:` above",
                file.display(),
                number + 1
            ));
        }
    }
    wrong
}

/// Whether `// SAFETY:` stands on the line or in the comment above its statement.
fn is_explained(lines: &[&str], number: usize) -> bool {
    if lines[number].contains("// SAFETY:") {
        return true;
    }
    for line in lines[..number].iter().rev().map(|line| line.trim()) {
        if line.starts_with("// SAFETY:") {
            return true;
        }
        let in_between = line.starts_with("//") || line.starts_with("#[");
        // rustfmt may break `let x =` from its `unsafe { … }`.
        let same_statement = !line.is_empty() && !line.ends_with([';', '{', '}', ',']);
        if !in_between && !same_statement {
            return false;
        }
    }
    false
}

/// Entries at the top that do not belong there, and those that are missing.
fn wrong_top(entries: &BTreeSet<String>) -> Vec<String> {
    let extra = entries.iter().filter(|entry| {
        let name = entry.as_str();
        !name.starts_with('.') && !TOP.contains(&name) && !ALSO_AT_THE_TOP.contains(&name)
    });
    let missing = TOP.iter().filter(|name| !entries.contains(**name));
    extra
        .map(|entry| format!("{entry}: does not belong at the top level"))
        .chain(missing.map(|name| format!("{name}: is missing at the top level")))
        .collect()
}

// The tree.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `dir` with its text, its path relative to `dir`, in order.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(dir, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(dir).unwrap().to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// What git would keep of the top level; without git, what lies there less what a build makes.
fn top_entries() -> BTreeSet<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match git {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|path| root().join(path).exists())
            .filter_map(|path| path.split('/').next().map(str::to_owned))
            .collect(),
        _ => std::fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["target", "data", "logs"].contains(&name.as_str()))
            .collect(),
    }
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_room_has_a_row_and_every_row_a_room() {
    let src = sources(&root().join("src"));
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let files: Vec<PathBuf> = src.into_iter().map(|(file, _)| file).collect();
    let rooms = rooms(&lib);
    assert!(rooms.len() > 10, "the table of src/lib.rs was not found: {rooms:?}");
    none(&wrong_rows(&rooms, &files));
}

#[test]
fn rooms_use_only_what_their_row_allows() {
    let rooms = rooms(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let src = sources(&root().join("src"));
    let wrong: Vec<_> =
        src.iter().flat_map(|(file, text)| wrong_arrows(&rooms, file, text)).collect();
    none(&wrong);
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    for dir in ["src", "t"] {
        let files = sources(&root().join(dir));
        let wrong: Vec<_> = files
            .iter()
            .flat_map(|(file, text)| wrong_looks(&Path::new(dir).join(file), text))
            .collect();
        none(&wrong);
    }
}

#[test]
fn nothing_is_left_over_and_every_unsafe_has_its_reason() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&root().join("src")) {
        let file = Path::new("src").join(file);
        wrong.extend(leftovers(&file, &text));
        wrong.extend(unexplained_unsafe(&file, &text));
    }
    none(&wrong);
}

#[test]
fn the_top_level_holds_what_it_should() {
    none(&wrong_top(&top_entries()));
}

/// That each checker can fail.
mod checkers {
    use super::*;

    const LIB: &str = "\
//! | room | owns | may use |
//! |---|---|---|
//! | `low` | bytes; `x` | |
//! | `mid` | things | low |
//! | `high` | all | everything |
";

    fn arrows(file: &str, source: &str) -> Vec<String> {
        wrong_arrows(&rooms(LIB), Path::new(file), source)
    }

    #[test]
    fn the_table_is_read() {
        let these = |list: &[&str]| Uses::These(list.iter().map(|&room| room.to_owned()).collect());
        assert_eq!(
            rooms(LIB),
            [
                Room { name: "low".into(), uses: these(&[]) },
                Room { name: "mid".into(), uses: these(&["low"]) },
                Room { name: "high".into(), uses: Uses::Everything },
            ]
        );
    }

    #[test]
    fn rows_and_rooms_must_agree() {
        let files = |list: &[&str]| -> Vec<PathBuf> { list.iter().map(PathBuf::from).collect() };
        let all = files(&["lib.rs", "main.rs", "low.rs", "mid.rs", "mid/x.rs", "high.rs"]);
        assert!(wrong_rows(&rooms(LIB), &all).is_empty());
        assert_eq!(wrong_rows(&rooms(LIB), &all[..5]).len(), 1, "a row without a room");
        let more = files(&["low.rs", "mid.rs", "high.rs", "attic/x.rs"]);
        assert_eq!(wrong_rows(&rooms(LIB), &more).len(), 1, "a room without a row");
        let typo = rooms("//! | `low` | bytes | midd |");
        assert_eq!(wrong_rows(&typo, &all[..3]).len(), 1, "a row that names no room");
    }

    #[test]
    fn an_arrow_outside_the_table_is_found() {
        assert!(arrows("mid.rs", "use crate::low::Thing;").is_empty());
        assert!(arrows("mid.rs", "use crate::mid::x::Thing;").is_empty());
        assert!(arrows("high/x.rs", "fn f() { crate::mid::g(crate::low::h()) }").is_empty());
        assert_eq!(arrows("low.rs", "use crate::mid::Thing;").len(), 1);
        assert_eq!(
            arrows("low/x.rs", "\n\nfn f() { crate::high::g() }")[0].split(':').nth(1),
            Some("3")
        );
        assert_eq!(
            arrows("low.rs", "use crate::{\n    low::{a, mid},\n    mid::b,\n    high,\n};").len(),
            2
        );
        assert_eq!(arrows("low.rs", "pub(in crate::mid) fn f() {}").len(), 1);
        assert_eq!(arrows("low.rs", "use crate::Thing;").len(), 1, "no room");
        assert_eq!(arrows("low.rs", "macro_rules! m { () => { $crate::mid::f() } }").len(), 1);
        assert!(arrows("main.rs", "use crate::anything;").is_empty());
    }

    #[test]
    fn a_way_round_through_super_is_found() {
        assert_eq!(arrows("low.rs", "use super::mid::Thing;").len(), 1);
        assert_eq!(arrows("low/x.rs", "use super::super::mid::Thing;").len(), 1);
        assert!(arrows("low/x.rs", "use super::mid::Thing;").is_empty(), "a file low/mid.rs");
        assert!(arrows("low.rs", "mod tests { use super::*; }").is_empty());
    }

    #[test]
    fn comments_and_literals_are_not_arrows() {
        for source in [
            "// crate::mid::x",
            "/// See [`crate::mid`].",
            "/* /* */ crate::mid::x */",
            "const A: &str = \"crate::mid::x \\\" crate::mid\";",
            "const A: &str = r#\"\" crate::mid::x\"#;",
            "const A: &[u8] = br\"crate::mid\";",
        ] {
            assert!(arrows("low.rs", source).is_empty(), "{source}");
        }
        for source in [
            "const A: &str = \"//\"; use crate::mid::x;",
            "const A: char = '\"'; use crate::mid::x; const B: char = '\"';",
            "const A: char = '\\''; use crate::mid::x;",
            "const A: char = '\\u{1F}'; use crate::mid::x;",
            "fn f<'a>(a: &'a str) -> &'a str { crate::mid::x(a) }",
            "/* */ use crate::mid::x;",
            "let bar = \"\"; use crate::mid::x;",
        ] {
            assert_eq!(arrows("low.rs", source).len(), 1, "{source}");
        }
    }

    #[test]
    fn looks_are_checked() {
        let look = |file: &str, source: &str| wrong_looks(Path::new(file), source).len();
        assert_eq!(look("src/ring.rs", "//! A ring.\n"), 0);
        assert_eq!(look("src/ring.rs", "// A ring.\n"), 1);
        assert_eq!(look("src/ring.rs", "\n//! A ring.\n"), 1);
        assert_eq!(look("src/low/mod.rs", "//! A room.\n"), 1);
        assert_eq!(look("src/util.rs", "//! This and that.\n"), 1);
        let line = |count: usize| "//! A line.\n".repeat(count);
        assert_eq!(
            (look("src/a.rs", &line(LONGEST)), look("src/a.rs", &line(LONGEST + 1))),
            (0, 1)
        );
    }

    #[test]
    fn leftovers_are_found() {
        let left = |source: &str| leftovers(Path::new("a.rs"), source).len();
        assert_eq!(left("fn f() { todo!() }"), 1);
        assert_eq!(left("fn f() { unimplemented!(\"x\") }"), 1);
        assert_eq!(left("fn f() { dbg!(1); }"), 1);
        assert_eq!(left("// TODO: later"), 1);
        assert_eq!(left("//! FIXME"), 1);
        assert_eq!(left("// todo!() is banned; const TODOS"), 0);
        assert_eq!(left("fn f() { g(\"todo!()\") }"), 0);
    }

    #[test]
    fn unsafe_needs_its_reason() {
        let bare = |source: &str| unexplained_unsafe(Path::new("a.rs"), source).len();
        assert_eq!(bare("fn f() {\n    unsafe { g() }\n}"), 1);
        assert_eq!(bare("// SAFETY: far away\n\nunsafe { g() }"), 1);
        assert_eq!(bare("// SAFETY: of another\nlet a = 1;\nunsafe { g() }"), 1);
        assert_eq!(bare("unsafe impl Send for X {}"), 1);
        assert_eq!(bare("// SAFETY: g has no conditions,\n// none at all.\nunsafe { g() }"), 0);
        assert_eq!(bare("// SAFETY: fine\n#[allow(unsafe_code)]\nunsafe impl Send for X {}"), 0);
        assert_eq!(bare("// SAFETY: fine\nlet x =\n    unsafe { g() };"), 0);
        assert_eq!(bare("// unsafe { g() }\nlet s = \"unsafe {\"; let not_unsafe = {};"), 0);
    }

    #[test]
    fn the_top_level_is_checked() {
        let top = |more: &[&str]| -> BTreeSet<String> {
            TOP.iter().chain(more).map(|&name| name.to_owned()).collect()
        };
        assert!(wrong_top(&top(&[".gitignore", ".ci", "deny.toml"])).is_empty());
        assert_eq!(wrong_top(&top(&["notes.txt"])).len(), 1);
        let mut less = top(&[]);
        less.remove("README.md");
        assert_eq!(wrong_top(&less).len(), 1);
    }
}
