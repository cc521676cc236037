//! Urlencoded forms: `name=value&…`.
//!
//! Source: the URL standard, section 5.1; OpenResty's `ngx.req.get_post_args` for names without a
//! value and for names that come again.

use serde_json::{Map, Value};

use crate::context::urlencoded::decoded;

/// The media type of such forms.
pub(super) const TYPE: &str = "application/x-www-form-urlencoded";

/// The fields by name: `true` for one without `=`, a list for one that comes more than once.
pub(super) fn parse(body: &[u8]) -> Value {
    let mut fields = Map::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = match at {
            Some(at) => (&pair[..at], Value::String(decoded(&pair[at + 1..]).into_owned())),
            None => (pair, Value::Bool(true)),
        };
        add(&mut fields, decoded(name).into_owned(), value);
    }
    Value::Object(fields)
}

fn add(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        None => {
            fields.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: &str, expected: &Value) {
        assert_eq!(parse(body.as_bytes()), *expected, "{body}");
    }

    #[test]
    fn takes_forms_apart() {
        check("", &json!({}));
        check("a=1&b=x%20y+z&c", &json!({ "a": "1", "b": "x y z", "c": true }));
        check("a%5B0%5D=%C3%A9&=x&a=", &json!({ "a[0]": "é", "": "x", "a": "" }));
        check("k=1&k=2&&k&j=3", &json!({ "k": ["1", "2", true], "j": "3" }));
        check("a=b=c&%=%zz", &json!({ "a": "b=c", "%": "%zz" }));
    }
}
