//! JSON Schemas: derived from the types they describe, so that the two cannot drift apart.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Invalid, Said};

/// Fields whose values are never shown in an error, wherever they stand.
const HIDDEN: [&str; 10] = [
    "key",
    "keys",
    "token",
    "password",
    "secret",
    "secret_id",
    "jwt",
    "client_key",
    "cert",
    "certs",
];

/// Values are cut to this many characters in errors.
const SHOWN: usize = 80;

/// A schema, ready to check values. Made when it is first asked for: a node has resources of few
/// kinds, and all schemas together take more than a megabyte.
pub struct Validator(LazyLock<Made>);

struct Made {
    schema: Value,
    compiled: Result<jsonschema::Validator, String>,
}

/// The draft-07 schema of `T`, as APISIX writes schemas: an absent field is absent, not null.
pub fn for_type<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = Value::from(schema);
    refuse_null(&mut schema);
    schema
}

/// Takes away the alternative `null` that `Option` brings: APISIX refuses null.
fn refuse_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(variants)) = fields.get_mut("anyOf") {
                let before = variants.len();
                variants.retain(|variant| variant["type"] != "null");
                if variants.len() < before
                    && let [Value::Object(only)] = variants.as_slice()
                {
                    let only = only.clone();
                    fields.remove("anyOf");
                    for (name, value) in only {
                        fields.entry(name).or_insert(value);
                    }
                }
            }
            if fields.get("default") == Some(&Value::Null) {
                fields.remove("default");
            }
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            fields.values_mut().for_each(refuse_null);
        }
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        _ => {}
    }
}

// === impl Validator ===

impl Validator {
    /// For the JSON of a `T`.
    pub const fn of<T: JsonSchema>() -> Self {
        Self(LazyLock::new(|| {
            let schema = for_type::<T>();
            let compiled = jsonschema::validator_for(&schema).map_err(|error| error.to_string());
            Made { schema, compiled }
        }))
    }

    /// The schema as JSON.
    pub fn schema(&self) -> &Value {
        &self.0.schema
    }

    /// Checks `value`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Invalid>> {
        let compiled = match &self.0.compiled {
            Ok(compiled) => compiled,
            Err(error) => return Err(vec![Invalid::new("", error, "a schema that compiles")]),
        };
        let wrong: Vec<Invalid> =
            compiled.iter_errors(value).map(|error| self.explain(&error)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// As [`Validator::check`], but a reference passes for whatever should stand in its place: what
    /// it stands for is not known yet.
    ///
    /// # Errors
    /// Everything else that is wrong.
    pub fn check_unresolved(&self, value: &Value) -> Result<(), Vec<Invalid>> {
        let mut wrong = match self.check(value) {
            Ok(()) => return Ok(()),
            Err(wrong) => wrong,
        };
        wrong.retain(|invalid| !value.pointer(&invalid.path).is_some_and(is_reference));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn explain(&self, error: &jsonschema::ValidationError<'_>) -> Invalid {
        use jsonschema::error::ValidationErrorKind as Kind;
        let mut path = error.instance_path().to_string();
        let instance = error.instance();
        let mut value = shown(&path, instance);
        let is_hidden = is_hidden(&path);
        let number = if is_hidden { "a number (not shown)" } else { &value };
        let length = instance.as_str().map_or(0, |text| text.chars().count());
        let (expected, said) = match error.kind() {
            Kind::Type { kind: jsonschema::error::TypeKind::Single(name) } => (
                with_article(&name.to_string()),
                Said::Rule(format!("wrong type: expected {name}, got {}", name_in_lua(instance))),
            ),
            Kind::Required { property }
                if let Some(of) = dependent(&error.schema_path().to_string()) =>
            {
                "nothing".clone_into(&mut value);
                let name = property.as_str().unwrap_or_default();
                let rule = format!("failed to validate dependent schema for \"{of}\"");
                let said = format!("{rule}: property \"{name}\" is required");
                (format!("{name} beside {of}"), Said::Rule(said))
            }
            Kind::Required { property } => {
                path = format!("{path}/{}", property.as_str().unwrap_or_default());
                "nothing".clone_into(&mut value);
                ("a value: it is required".to_owned(), Said::Missing)
            }
            Kind::AdditionalProperties { unexpected } => {
                let names = unexpected.join(", ");
                path = format!("{path}/{}", unexpected.first().map_or("", |name| name));
                value = format!("additional properties forbidden, found {names}");
                ("no such property".to_owned(), Said::Surplus(names))
            }
            Kind::Enum { options } => {
                let expected = format!("one of {options}");
                let rule = "matches none of the enum values";
                let said = Said::Rule(format!("{rule}: expected {expected}, got {value}"));
                (expected, said)
            }
            Kind::Minimum { limit } => (
                format!("at least {limit}"),
                Said::Rule(format!("expected {number} to be at least {limit}")),
            ),
            Kind::Maximum { limit } => (
                format!("at most {limit}"),
                Said::Rule(format!("expected {number} to be at most {limit}")),
            ),
            Kind::ExclusiveMinimum { limit } => (
                format!("more than {limit}"),
                Said::Rule(format!("expected {number} to be greater than {limit}")),
            ),
            Kind::MinLength { limit } => (
                format!("at least {limit} characters"),
                Said::Rule(format!("string too short, expected at least {limit}, got {length}")),
            ),
            Kind::MaxLength { limit } => (
                format!("at most {limit} characters"),
                Said::Rule(format!("string too long, expected at most {limit}, got {length}")),
            ),
            Kind::MinItems { limit } => (
                format!("at least {limit} items"),
                Said::Rule(format!("expect array to have at least {limit} items")),
            ),
            Kind::MaxItems { limit } => (
                format!("at most {limit} items"),
                Said::Rule(format!("expect array to have at most {limit} items")),
            ),
            Kind::MinProperties { limit } => (
                format!("at least {limit} properties"),
                Said::Rule(format!("expect object to have at least {limit} properties")),
            ),
            Kind::MaxProperties { limit } => (
                format!("at most {limit} properties"),
                Said::Rule(format!("expect object to have at most {limit} properties")),
            ),
            Kind::UniqueItems => {
                let (first, second) = twins(instance).unwrap_or_default();
                let rule =
                    format!("expected unique items but items {first} and {second} are equal");
                ("items each of which comes once".to_owned(), Said::Rule(rule))
            }
            Kind::Pattern { pattern } => {
                let text = value.trim_matches('"');
                (
                    format!("text that matches {pattern}"),
                    Said::Rule(format!("failed to match pattern \"{pattern}\" with \"{text}\"")),
                )
            }
            kind => {
                let rule = match kind {
                    Kind::AnyOf { .. } => "object matches none of the required",
                    Kind::OneOfNotValid { .. } => {
                        "value should match only one schema, but matches none"
                    }
                    Kind::OneOfMultipleValid { .. } => {
                        "value should match only one schema, but matches several"
                    }
                    Kind::Not { .. } => "value wasn't supposed to match schema",
                    _ => "",
                };
                let (words, is_general) = self.described(error).unzip();
                let expected = words.unwrap_or_else(|| error.masked().to_string());
                let said = match (rule, path.as_str(), is_general) {
                    ("", ..) => Said::Own,
                    // A comment that says it all.
                    _ if expected.starts_with("only ") => Said::Whole(expected.clone()),
                    // What a whole document is for does not tell what is wrong with it.
                    (rule, "", Some(true)) => Said::Rule(rule.to_owned()),
                    (rule, "", _) => Said::Rule(format!("{rule}: expected {expected}")),
                    (rule, ..) => Said::Rule(format!("{rule}: expected {expected}, got {value}")),
                };
                (expected, said)
            }
        };
        Invalid::new(path, value, expected).saying(said)
    }

    /// What a combined rule (`anyOf`, `oneOf`, `not`) means in words: the comment or description
    /// beside it. A field's docs take the place of its type's description, but not of a comment.
    /// With it comes whether it is what the whole document is for.
    fn described(&self, error: &jsonschema::ValidationError<'_>) -> Option<(String, bool)> {
        let location = error.schema_path().to_string();
        let (parent, _) = location.rsplit_once('/')?;
        let rule = self.0.schema.pointer(parent)?;
        let comment = rule.get("$comment");
        let words = comment.or_else(|| rule.get("description"))?;
        let is_general = comment.is_none() && parent.is_empty();
        words.as_str().map(|words| (words.to_owned(), is_general))
    }
}

/// The property for whose sake something else is required, by the place of the rule that says so.
fn dependent(schema_path: &str) -> Option<&str> {
    let (_, of) = schema_path.strip_suffix("/required")?.rsplit_once("/dependencies/")?;
    (!of.contains('/')).then_some(of)
}

/// Whether `value` is text that stands for a secret or an environment variable.
fn is_reference(value: &Value) -> bool {
    let begins = |text: &str, prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    value.as_str().is_some_and(|text| begins(text, "$secret://") || begins(text, "$env://"))
}

/// Whether there is a reference anywhere in `value`.
pub fn has_reference(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reference),
        Value::Object(fields) => fields.values().any(has_reference),
        other => is_reference(other),
    }
}

fn with_article(name: &str) -> String {
    match name.chars().next() {
        Some('a' | 'e' | 'i' | 'o' | 'u') => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

/// The name that a value's type has in APISIX's language.
fn name_in_lua(value: &Value) -> &'static str {
    match value {
        Value::Null => "userdata",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

/// The places, from one, of two items that are equal.
fn twins(value: &Value) -> Option<(usize, usize)> {
    let items = value.as_array()?;
    items.iter().enumerate().find_map(|(second, item)| {
        let first = items[..second].iter().position(|other| other == item)?;
        Some((first + 1, second + 1))
    })
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|segment| HIDDEN.contains(&segment))
}

/// The value as an error shows it: its type and text, cut, and nothing of what may be a secret.
fn shown(path: &str, value: &Value) -> String {
    if is_hidden(path) {
        return format!("{} (not shown)", kind_of(value));
    }
    match value {
        Value::Object(_) | Value::Array(_) => kind_of(value).to_owned(),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(SHOWN) {
                Some((cut, _)) => format!("{}…", &text[..cut]),
                None => text,
            }
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        #[schemars(range(min = 1))]
        count: u32,
        name: Option<String>,
        token: Option<String>,
    }

    fn check(value: &Value) -> Vec<String> {
        let validator = Validator::of::<Sample>();
        match validator.check(value) {
            Ok(()) => Vec::new(),
            Err(wrong) => wrong.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn names_every_wrong_field_and_what_was_expected() {
        assert!(check(&json!({"count": 1, "name": "x"})).is_empty());
        let wrong = check(&json!({"count": 0, "name": 5}));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong.contains(
            &"property \"count\" validation failed: expected 0 to be at least 1".to_owned()
        ));
        assert!(
            wrong.contains(
                &"property \"name\" validation failed: wrong type: expected string, got number"
                    .to_owned()
            )
        );
        assert!(check(&json!({}))[0].contains("\"count\""));
        assert!(check(&json!({"count": 1, "other": 1}))[0].contains("other"));
    }

    #[test]
    fn lets_a_reference_stand_for_anything() {
        let validator = Validator::of::<Sample>();
        let check = |value: &Value| validator.check_unresolved(value).is_ok();
        assert!(check(&json!({"count": "$env://COUNT", "name": "x"})));
        assert!(!check(&json!({"count": "$ENV://COUNT", "name": 5})));
        assert!(!check(&json!({"count": "$envy://COUNT"})));
        assert!(has_reference(&json!([{"a": "$secret://vault/1/a/b"}])));
        assert!(!has_reference(&json!({"$env://A": "x"})));
    }

    #[test]
    fn refuses_null_and_never_shows_a_secret() {
        assert_eq!(check(&json!({"count": 1, "name": null})).len(), 1);
        let wrong = check(&json!({"count": 1, "token": {"deep": "s3cret"}}));
        assert!(!wrong[0].contains("s3cret"), "{wrong:?}");
    }
}
