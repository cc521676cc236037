//! Reads a document by the table: fills defaults, names what is wrong, warns of unknown keys.
//!
//! What comes out holds every key of the table, each in the plain form of its kind. A value that
//! cannot be used is named and replaced by its default, so that reading goes on and finds the rest.

use serde_json::{Map, Value};

use super::env::{Variables, join};
use super::kind::{Form, Kind, Outcome};
use super::table::{self, Row};
use super::{Problem, Warning};

/// Reads a document and gathers what is wrong with it.
pub(super) struct Reader {
    variables: Variables,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(mut variables: Variables) -> Self {
        Self { problems: std::mem::take(&mut variables.problems), variables, warnings: Vec::new() }
    }

    pub(super) fn document(&mut self, written: &Value) -> Value {
        match written {
            Value::Null => self.section("", "", None),
            Value::Object(map) => self.section("", "", Some(map)),
            other => {
                let problem = Problem::new("", shown(other, Kind::Section), "a mapping");
                self.problems.push(problem);
                self.section("", "", None)
            }
        }
    }

    /// Reads the mapping whose rows stand below `prefix` in the table and which stands at `path`.
    fn section(&mut self, prefix: &str, path: &str, written: Option<&Map<String, Value>>) -> Value {
        let mut read = Map::new();
        let free = table::row(&join(prefix, "*"));
        for (key, value) in written.into_iter().flatten() {
            if table::row(&join(prefix, key)).is_none() {
                match free {
                    Some(_) => drop(read.insert(key.clone(), value.clone())),
                    None => self.warnings.push(Warning::new(join(path, key), unknown(prefix, key))),
                }
            }
        }
        for (name, row) in table::children(prefix) {
            let value = written.and_then(|map| map.get(name));
            if let Some(value) = self.row(row, &join(path, name), value) {
                read.insert(name.to_owned(), value);
            }
        }
        Value::Object(read)
    }

    /// Reads what stands at `row`; `None` for a row that has no value.
    fn row(&mut self, row: &Row, path: &str, written: Option<&Value>) -> Option<Value> {
        match (row.kind, written) {
            (Kind::Json, _) => None,
            (Kind::Unused, _) => {
                if written.is_some_and(|value| !value.is_null()) {
                    self.warnings.push(Warning::new(path, format!("has no effect: {}", row.doc)));
                }
                None
            }
            (Kind::Section | Kind::Optional, Some(Value::Object(map))) => {
                Some(self.section(row.path, path, Some(map)))
            }
            (Kind::Section, None | Some(Value::Null)) => Some(self.section(row.path, path, None)),
            (Kind::Section, Some(other)) => {
                self.wrong(path, other, row.kind);
                Some(self.section(row.path, path, None))
            }
            (Kind::Optional, Some(other)) if !other.is_null() => {
                self.wrong(path, other, row.kind);
                Some(Value::Null)
            }
            (Kind::Optional, _) => Some(Value::Null),
            (_, None) => Some(self.default(row, path)),
            // APISIX takes `null` for "without", which for a list is the empty one.
            (Kind::List(..) | Kind::Items | Kind::Listens, Some(Value::Null)) => {
                Some(Value::Array(Vec::new()))
            }
            (_, Some(Value::Null)) => Some(self.default(row, path)),
            (_, Some(value)) => Some(match self.value(row, path, value) {
                Some(read) => read,
                None => self.default(row, path),
            }),
        }
    }

    fn default(&mut self, row: &Row, path: &str) -> Value {
        let default = row.default();
        if default.is_null() {
            return default;
        }
        // Rows of which the default itself is wrong do not pass the tests.
        self.value(row, path, &default).unwrap_or(Value::Null)
    }

    /// Reads a value of a kind other than a section; `None` when it was wrong as a whole.
    fn value(&mut self, row: &Row, path: &str, value: &Value) -> Option<Value> {
        match (row.kind, value) {
            (Kind::Listens, Value::Number(_)) => {
                Some(Value::Array(vec![self.item(row, path, value)?]))
            }
            (Kind::Items | Kind::Listens, Value::Array(items)) => {
                let mut read = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    read.extend(self.item(row, &format!("{path}[{index}]"), item));
                }
                Some(Value::Array(read))
            }
            (Kind::Entries, Value::Object(map)) => {
                let mut read = Map::new();
                for (name, entry) in map {
                    let path = join(path, name);
                    match entry {
                        Value::Object(entry) => {
                            let entry = self.section(&join(row.path, "*"), &path, Some(entry));
                            read.insert(name.clone(), entry);
                        }
                        Value::Null => {}
                        other => self.wrong(&path, other, Kind::Section),
                    }
                }
                Some(Value::Object(read))
            }
            (Kind::List(..), _) => self.list(row.kind, path, value),
            (kind, _) => self.leaf(kind, path, value),
        }
    }

    fn item(&mut self, row: &Row, path: &str, item: &Value) -> Option<Value> {
        let rows = format!("{}[]", row.path);
        match item {
            Value::Object(map) => Some(self.section(&rows, path, Some(map))),
            Value::Number(_) if matches!(row.kind, Kind::Listens) => {
                let port = self.leaf(Kind::Int(1, 65_535), path, item)?;
                let map = Map::from_iter([("port".to_owned(), port)]);
                Some(self.section(&rows, path, Some(&map)))
            }
            other => {
                let single = match row.kind {
                    Kind::Listens => Kind::Listen,
                    _ => Kind::Section,
                };
                self.wrong(path, other, single);
                None
            }
        }
    }

    fn list(&mut self, kind: Kind, path: &str, value: &Value) -> Option<Value> {
        let Kind::List(&item, form) = kind else {
            return None;
        };
        let mut read = Vec::new();
        match (value, form) {
            (Value::Array(items), _) => {
                for (index, value) in items.iter().enumerate() {
                    read.extend(self.leaf(item, &format!("{path}[{index}]"), value));
                }
            }
            (Value::String(text), Form::Split(by)) => {
                for part in text.split(by).map(str::trim).filter(|part| !part.is_empty()) {
                    read.extend(self.leaf(item, path, &Value::from(part)));
                }
            }
            (value, Form::OrOne) if !value.is_object() => read.push(self.leaf(item, path, value)?),
            _ => {
                self.wrong(path, value, kind);
                return None;
            }
        }
        Some(Value::Array(read))
    }

    /// Reads a single value; `None` when it is wrong or left out.
    fn leaf(&mut self, kind: Kind, path: &str, value: &Value) -> Option<Value> {
        let text = match self.variables.texts.get(path) {
            Some(Some(text)) if kind.is_text() && !value.is_string() => {
                Some(Value::from(text.as_str()))
            }
            _ => None,
        };
        let mut value = text.as_ref().unwrap_or(value);
        // nginx's own config has no types, so APISIX takes numbers written as texts there.
        let number;
        if let (Kind::Int(..), Value::String(text)) = (kind, value)
            && path.starts_with("nginx_config.")
            && let Ok(parsed) = text.parse::<u64>()
        {
            number = Value::from(parsed);
            value = &number;
        }
        match kind.read(value) {
            Outcome::Good(read) => Some(read),
            Outcome::Dropped(reason) => {
                self.warnings.extend(reason.map(|reason| Warning::new(path, reason)));
                None
            }
            Outcome::Wrong => {
                self.wrong(path, value, kind);
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, value: &Value, kind: Kind) {
        // A variable that is not set has been named already.
        if !matches!(self.variables.texts.get(path), Some(None)) {
            self.problems.push(Problem::new(path, shown(value, kind), kind.expected()));
        }
    }
}

/// The value, shortened, unless it may be a secret.
fn shown(value: &Value, kind: Kind) -> String {
    const MOST_CHARACTERS: usize = 60;
    match value {
        Value::Null => "null".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
        _ if kind.is_secret() => "(hidden)".into(),
        Value::String(_) if kind.is_compound() => "a text".into(),
        Value::String(text) if matches!(kind, Kind::Url) && text.contains('@') => "(hidden)".into(),
        Value::String(text) if text.chars().count() > MOST_CHARACTERS => {
            format!("{:?}…", text.chars().take(MOST_CHARACTERS).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Number(_) if kind.is_compound() && !matches!(kind, Kind::Listens) => {
            "a number".into()
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Why an unknown key is one, with the known key that was probably meant.
fn unknown(prefix: &str, key: &str) -> String {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let near = table::children(prefix).find(|(name, _)| distance(&plain(name), &plain(key)) <= 2);
    match near {
        Some((name, _)) => format!("unknown key, ignored; did you mean {name}?"),
        None => "unknown key, ignored".into(),
    }
}

/// How many characters must be put in, taken out or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
