//! YAML for people: a value written in blocks, certificates line by line.

use std::fmt::Write as _;

use serde_json::Value;

/// The YAML text of `value`, with a line feed at its end.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0, true);
    out
}

/// Writes `value` at `depth`; `fresh` when the line it begins on is empty.
fn block(out: &mut String, value: &Value, depth: usize, fresh: bool) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, field)) in fields.iter().enumerate() {
                if index > 0 || !fresh {
                    out.push_str(&pad);
                }
                out.push_str(&scalar(name));
                out.push(':');
                below(out, field, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !fresh {
                    out.push_str(&pad);
                }
                out.push_str("- ");
                if is_block(item) {
                    block(out, item, depth + 1, true);
                } else {
                    leaf(out, item, depth + 1);
                }
            }
        }
        other => leaf(out, other, depth),
    }
}

/// What follows a name and its colon.
fn below(out: &mut String, value: &Value, depth: usize) {
    if is_block(value) {
        out.push('\n');
        block(out, value, depth, false);
    } else {
        out.push(' ');
        leaf(out, value, depth);
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn leaf(out: &mut String, value: &Value, depth: usize) {
    if let Value::String(text) = value
        && is_literal(text)
    {
        let pad = "  ".repeat(depth.max(1));
        out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
        for line in text.trim_end_matches('\n').split('\n') {
            // Writing to a string cannot fail.
            let _ = write!(out, "\n{pad}{line}");
        }
    } else {
        match value {
            Value::String(text) => out.push_str(&scalar(text)),
            other => out.push_str(&other.to_string()),
        }
    }
    out.push('\n');
}

/// Whether a text of several lines, such as a certificate, can stand as it is.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.starts_with([' ', '\n'])
        && !body.ends_with('\n')
        && body.chars().all(|c| c == '\n' || (' '..='~').contains(&c))
}

/// A text in one line: bare where nobody can take it for anything else, else as in JSON.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-.".contains(&b));
    let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !means_else.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_what_reads_back_as_the_same() {
        let value = json!({
            "routes": [
                {"id": "1", "uri": "/*", "desc": "a: b # c", "labels": {"env": "no", "n": "1"},
                 "methods": ["GET"], "nothing": null, "empty": {}, "none": [], "on": true},
                {"vars": [["arg_x", "==", "1"], [[1, 2], []]], "weight": 1.5},
            ],
            "ssls": [{"cert": "-----BEGIN\nabc=\n-----END\n", "key": "a\nb", "odd": " x\ny\n\n"}],
            "text": "Grüße\t\"quoted\"",
        });
        let text = text(&value);
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, value, "{text}");
        assert!(text.contains("uri: \"/*\"\n") && text.contains("id: \"1\""), "{text}");
        assert!(text.contains("cert: |\n      -----BEGIN\n      abc="), "{text}");
    }
}
