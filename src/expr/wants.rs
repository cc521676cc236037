//! What a config asks for of an exchange besides what every exchange has at hand.
//!
//! Bodies are passed on as they come, and heads given away once they are written, unless somebody
//! names a variable that is made of them. Conditions of routes need not be known for that: they
//! are asked first, and say that they lack the body. What plugins and logs are configured with is
//! looked through when it is compiled.

use serde_json::Value;

/// What is to be kept for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// How much of the request's body is to be read before it is passed on.
    pub body: Option<Need>,
    /// Whether the response's head is looked at when it has been sent.
    pub response_head: bool,
    /// Whether a plugin looks at the response's body as it passes.
    pub response_body: bool,
}

/// What for a body is read, and with that how much of one. Later ones include earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// For `graphql_*` variables.
    Graphql,
    /// For every variable.
    Any,
}

// === impl Wants ===

impl Wants {
    /// What the texts of a config ask for, wherever in it they stand: in conditions, templates, log
    /// formats, Lua. May find more than there is, never less.
    pub fn of(config: &Value) -> Self {
        match config {
            Value::String(text) => Self::of_text(text),
            Value::Array(items) => Self::all(items.iter().map(Self::of)),
            Value::Object(members) => Self::all(members.values().map(Self::of)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::default(),
        }
    }

    /// What one text asks for.
    pub fn of_text(text: &str) -> Self {
        let has = |name: &str| text.contains(name);
        // The last two are how Lua functions ask.
        let names = ["post_arg", "request_body", "get_body", "read_body"];
        let body = if names.into_iter().any(has) {
            Some(Need::Any)
        } else {
            has("graphql_").then_some(Need::Graphql)
        };
        let response_head = has("sent_http_") || has("upstream_http_");
        Self { body, response_head, response_body: false }
    }

    /// What any of them asks for.
    pub fn all(each: impl IntoIterator<Item = Self>) -> Self {
        each.into_iter().fold(Self::default(), Self::and)
    }

    /// What either asks for.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            body: self.body.max(other.body),
            response_head: self.response_head | other.response_head,
            response_body: self.response_body | other.response_body,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(config: &Value, body: Option<Need>, response_head: bool) {
        assert_eq!(
            Wants::of(config),
            Wants { body, response_head, response_body: false },
            "{config}"
        );
    }

    #[test]
    fn finds_variables_wherever_a_config_names_them() {
        check(&json!({ "key": "remote_addr", "count": 1, "x": null }), None, false);
        check(&json!({ "a": [{ "b": "graphql_name" }] }), Some(Need::Graphql), false);
        check(&json!(["graphql_name", "$post_arg.x"]), Some(Need::Any), false);
        check(&json!({ "log_format": { "b": "$request_body" } }), Some(Need::Any), false);
        check(&json!({ "functions": ["ngx.req.read_body()"] }), Some(Need::Any), false);
        check(&json!({ "functions": ["core.request.get_body()"] }), Some(Need::Any), false);
        check(&json!([["sent_http_x", "==", "y"]]), None, true);
        check(&json!(["$upstream_http_etag", "$graphql_name"]), Some(Need::Graphql), true);
    }
}
