//! Variables of the request's body: `post_arg_NAME`, `post_arg.PATH`, `graphql_*`, `request_body`.
//!
//! A body is read only for those who name one of them: see [`super::Wants`].

use serde_json::Value;
use serde_json_path::JsonPath;

/// A variable of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyVariable {
    /// `request_body`: all of it.
    Whole,
    /// `post_arg_NAME`: a field of an urlencoded form.
    Field(Box<str>),
    /// `post_arg.PATH`: in JSON, or a field of either kind of form.
    Path(PostPath),
    /// `graphql_operation`: `query`, `mutation` or `subscription`.
    GraphqlOperation,
    /// `graphql_name`: the operation's name, empty where it has none.
    GraphqlName,
    /// `graphql_root_fields`: a list.
    GraphqlRootFields,
}

/// Where in a body a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostPath {
    /// Names one below the other: one value.
    Names(Box<[Box<str>]>),
    /// A JSONPath: a list of every value that it finds.
    Query(Box<JsonPath>),
}

// === impl BodyVariable ===

impl BodyVariable {
    /// The variable called `name`; `None` where it is none of the body.
    ///
    /// # Errors
    /// What the path after `post_arg.` should be instead.
    pub(super) fn read(name: &str) -> Result<Option<Self>, String> {
        Ok(Some(match name {
            "request_body" => Self::Whole,
            "graphql_operation" => Self::GraphqlOperation,
            "graphql_name" => Self::GraphqlName,
            "graphql_root_fields" => Self::GraphqlRootFields,
            _ => {
                if let Some(path) = name.strip_prefix("post_arg.") {
                    Self::Path(PostPath::read(path)?)
                } else if let Some(field) = name.strip_prefix("post_arg_") {
                    Self::Field(field.into())
                } else {
                    return Ok(None);
                }
            }
        }))
    }
}

// === impl PostPath ===

impl PostPath {
    /// A path is a JSONPath where it has a bracket, a wildcard or a descent in it.
    fn read(path: &str) -> Result<Self, String> {
        if !path.contains(['[', '*']) && !path.contains("..") {
            let names: Box<[Box<str>]> =
                path.split('.').filter(|name| !name.is_empty()).map(Into::into).collect();
            if names.is_empty() {
                return Err("a variable of the body: post_arg.NAME".to_owned());
            }
            return Ok(Self::Names(names));
        }
        let dot = if path.starts_with(['[', '.']) { "" } else { "." };
        match JsonPath::parse(&format!("${dot}{path}")) {
            Ok(query) => Ok(Self::Query(Box::new(query))),
            Err(error) => Err(format!(
                "a JSONPath after post_arg. (invalid expression near character {}: {})",
                error.position(),
                error.message()
            )),
        }
    }

    /// The value that stands there.
    pub fn find<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Names(names) => names.iter().try_fold(root, |value, name| {
                value.as_object().and_then(|members| members.get(&**name))
            }),
            Self::Query(_) => None,
        }
    }

    /// Every value that is found, in order; none for a path that gives one value.
    pub fn find_all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Names(_) => Vec::new(),
            Self::Query(query) => query.query(root).all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str) -> Vec<Value> {
        let body = json!({
            "model": { "name": "m", "a-b": 1 },
            "messages": [
                { "content": [{ "type": "text" }, { "type": "image_url" }] },
                { "content": [{ "type": "audio" }] },
            ],
            "list": [1, 2],
        });
        let path = PostPath::read(path).unwrap();
        path.find(&body).into_iter().chain(path.find_all(&body)).cloned().collect()
    }

    #[test]
    fn finds_what_a_path_says() {
        assert_eq!(check("model.name"), [json!("m")]);
        assert_eq!(check("model.a-b"), [json!(1)]);
        assert_eq!(check("list"), [json!([1, 2])]);
        assert_eq!(check("list.0"), [Value::Null; 0]);
        assert_eq!(check("model.name.more"), [Value::Null; 0]);
        assert_eq!(check("list[1]"), [json!(2)]);
        assert_eq!(check("[\"list\"][0]"), [json!(1)]);
        let types = [json!("text"), json!("image_url"), json!("audio")];
        assert_eq!(check("messages[*].content[*].type"), types);
        assert_eq!(check("messages..type"), types);
        assert_eq!(check("..name"), [json!("m")]);
        assert_eq!(check("messages[0].content[?(@.type == 'text')].type"), [json!("text")]);
    }

    #[test]
    fn refuses_what_is_no_path() {
        for path in ["", ".", "messages[.content[*].type", "a[", "a..", "a[?(]"] {
            assert!(PostPath::read(path).is_err(), "{path}");
        }
        let told = PostPath::read("messages[.content").unwrap_err();
        assert!(told.contains("invalid expression"), "{told}");
    }
}
