//! How a gateway logs in to Vault: `auth` of a secret manager, one shape a method.
//!
//! A value that is secret stands in place, in a variable (`$env://NAME`) or in a file, which is
//! read again with each login.
//!
//! Source: Vault's API docs, `auth/{approle,kubernetes,jwt,cert,token}`; Vault Agent, `sink`.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::resource::hidden::Hidden;

/// How to log in, by `method`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Auth {
    Token(Token),
    Approle(AppRole),
    Kubernetes(Kubernetes),
    Jwt(Jwt),
    Cert(Cert),
    Agent(Agent),
}

/// A token that was made elsewhere; renewed for as long as Vault allows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token, or an `$env://` reference to it.
    pub token: Hidden,
}

/// AppRole.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("$comment" = "only one of secret_id and secret_id_file",
    "not" = {"required": ["secret_id", "secret_id_file"]}))]
pub struct AppRole {
    /// Where the method is mounted below `auth/`.
    #[serde(default = "approle")]
    #[schemars(regex(pattern = r"^[^?#\s]+$"))]
    pub mount: String,
    /// Id of the role, or an `$env://` reference to it.
    #[schemars(length(min = 1))]
    pub role_id: String,
    /// Its secret id, or an `$env://` reference to it; neither it nor a file where the role asks
    /// for none.
    pub secret_id: Option<Hidden>,
    /// File that holds the secret id.
    pub secret_id_file: Option<PathBuf>,
    /// Whether what is given is a token that the secret id is wrapped in: it is unwrapped once, so
    /// each node, and each start of it, needs one of its own.
    #[serde(default)]
    pub wrapped: bool,
}

/// The service account of a pod.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Where the method is mounted below `auth/`.
    #[serde(default = "kubernetes")]
    #[schemars(regex(pattern = r"^[^?#\s]+$"))]
    pub mount: String,
    /// Role to log in as.
    #[schemars(length(min = 1))]
    pub role: String,
    /// File that holds the token of the service account.
    #[serde(default = "service_account")]
    pub jwt_file: PathBuf,
}

/// A JWT that an identity provider has signed (the methods `jwt` and `oidc` of Vault).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("$comment" = "exactly one of jwt and jwt_file",
    "oneOf" = [{"required": ["jwt"]}, {"required": ["jwt_file"]}]))]
pub struct Jwt {
    /// Where the method is mounted below `auth/`.
    #[serde(default = "jwt")]
    #[schemars(regex(pattern = r"^[^?#\s]+$"))]
    pub mount: String,
    /// Role to log in as; Vault's default role when absent.
    pub role: Option<String>,
    /// The JWT, or an `$env://` reference to it.
    pub jwt: Option<Hidden>,
    /// File that holds the JWT.
    pub jwt_file: Option<PathBuf>,
}

/// A client certificate, which is shown with every request to this Vault.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("allOf" = [
    {"$comment": "exactly one of cert and cert_file",
        "oneOf": [{"required": ["cert"]}, {"required": ["cert_file"]}]},
    {"$comment": "exactly one of key and key_file",
        "oneOf": [{"required": ["key"]}, {"required": ["key_file"]}]}]))]
pub struct Cert {
    /// Where the method is mounted below `auth/`.
    #[serde(default = "cert")]
    #[schemars(regex(pattern = r"^[^?#\s]+$"))]
    pub mount: String,
    /// Role to log in as; whichever fits the certificate when absent.
    pub role: Option<String>,
    /// The certificate and those that lead to its authority, PEM, or an `$env://` reference.
    pub cert: Option<String>,
    /// File that holds them.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, or an `$env://` reference to it.
    pub key: Option<Hidden>,
    /// File that holds the key.
    pub key_file: Option<PathBuf>,
}

/// A Vault agent, which logs in, renews, and writes the token to a file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// File that the agent writes the token to; read with each request.
    pub token_file: PathBuf,
}

// === impl Auth ===

impl JsonSchema for Auth {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Auth".into()
    }

    /// A rule a method rather than `oneOf`, whose errors name no field.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let methods = [
            ("token", Token::json_schema(generator)),
            ("approle", AppRole::json_schema(generator)),
            ("kubernetes", Kubernetes::json_schema(generator)),
            ("jwt", Jwt::json_schema(generator)),
            ("cert", Cert::json_schema(generator)),
            ("agent", Agent::json_schema(generator)),
        ];
        let names = methods.each_ref().map(|(name, _)| *name);
        let rules: Vec<Value> = methods
            .into_iter()
            .map(|(name, schema)| {
                let mut fields = Value::from(schema);
                fields["properties"]["method"] = json!({});
                let named =
                    json!({ "required": ["method"], "properties": { "method": { "const": name } } });
                json!({ "if": named, "then": fields })
            })
            .collect();
        json_schema!({
            "type": "object",
            "description": "How to log in, where it is not by `token`.",
            "required": ["method"],
            "properties": { "method": { "type": "string", "enum": names } },
            "allOf": rules,
        })
    }
}

fn approle() -> String {
    "approle".to_owned()
}

fn kubernetes() -> String {
    "kubernetes".to_owned()
}

fn jwt() -> String {
    "jwt".to_owned()
}

fn cert() -> String {
    "cert".to_owned()
}

/// Where Kubernetes puts it in every pod.
fn service_account() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Invalid, Kind, Resource, Secret, decode};

    /// What is wrong with a manager that logs in by `auth`, in the words of the Admin API.
    fn check(auth: Value) -> Vec<String> {
        let value = json!({ "uri": "https://vault:8200", "prefix": "kv", "auth": auth });
        said(&value)
    }

    fn said(value: &Value) -> Vec<String> {
        match crate::resource::validate(Kind::Secret, "vault/1", value) {
            Ok(()) => {
                let read = decode(Kind::Secret, "vault/1", value.clone());
                assert!(matches!(read, Ok(Resource::Secret(Secret::Vault(_)))), "{read:?}");
                Vec::new()
            }
            Err(wrong) => wrong.iter().map(Invalid::to_string).collect(),
        }
    }

    #[test]
    fn every_method_is_read() {
        for auth in [
            json!({ "method": "token", "token": "t" }),
            json!({ "method": "approle", "role_id": "r", "secret_id": "s" }),
            json!({ "method": "approle", "role_id": "r", "secret_id_file": "/s", "wrapped": true }),
            json!({ "method": "approle", "role_id": "r", "mount": "team/approle" }),
            json!({ "method": "kubernetes", "role": "r" }),
            json!({ "method": "jwt", "role": "r", "jwt": "$env://JWT", "mount": "oidc" }),
            json!({ "method": "jwt", "jwt_file": "/jwt" }),
            json!({ "method": "cert", "cert": "c", "key_file": "/k", "role": "web" }),
            json!({ "method": "agent", "token_file": "/t" }),
        ] {
            assert_eq!(check(auth.clone()), Vec::<String>::new(), "{auth}");
        }
    }

    #[test]
    fn what_does_not_fit_the_method_is_named() {
        for (auth, words) in [
            (json!({}), "\"method\" is required"),
            (json!({ "method": "ldap" }), "matches none of the enum values"),
            (json!({ "method": "token" }), "\"token\" is required"),
            (json!({ "method": "token", "token": 5 }), "\"token\" validation failed"),
            (json!({ "method": "approle" }), "\"role_id\" is required"),
            (
                json!({ "method": "approle", "role_id": "r", "secret_id": "s", "secret_id_file": "/s" }),
                "only one of secret_id and secret_id_file",
            ),
            (json!({ "method": "kubernetes", "role": "r", "jwt": "j" }), "found jwt"),
            (json!({ "method": "jwt", "role": "r" }), "exactly one of jwt and jwt_file"),
            (json!({ "method": "cert", "cert": "c" }), "exactly one of key and key_file"),
            (json!({ "method": "cert", "key": "k" }), "exactly one of cert and cert_file"),
            (json!({ "method": "agent" }), "\"token_file\" is required"),
            (json!({ "method": "agent", "token_file": "/t", "mount": "m" }), "found mount"),
            (json!({ "method": "approle", "role_id": "r", "mount": "a?b" }), "\"mount\""),
        ] {
            let wrong = check(auth.clone());
            assert!(wrong.len() == 1 && wrong[0].contains(words), "{auth}: {wrong:?}");
        }
    }

    #[test]
    fn a_token_and_another_login_exclude_each_other() {
        let base = json!({ "uri": "http://vault:8200", "prefix": "kv" });
        assert_eq!(said(&base), ["property \"token\" is required"]);
        let mut both = base;
        both["token"] = json!("s.planted");
        both["auth"] = json!({ "method": "agent", "token_file": "/t" });
        let wrong = said(&both);
        assert!(wrong.len() == 1 && wrong[0].contains("only one of token and auth"), "{wrong:?}");
        both.as_object_mut().unwrap().remove("auth");
        (both["ca"], both["ca_file"]) = (json!("c"), json!("/c"));
        let wrong = said(&both);
        assert!(wrong.len() == 1 && wrong[0].contains("only one of ca and ca_file"), "{wrong:?}");
    }

    #[test]
    fn no_secret_is_shown() {
        for auth in [
            json!({ "method": "token", "token": { "x": "planted" } }),
            json!({ "method": "approle", "role_id": "r", "secret_id": ["planted"] }),
            json!({ "method": "jwt", "jwt": ["planted"] }),
            json!({ "method": "cert", "cert": "c", "key": ["planted"] }),
        ] {
            let wrong = check(auth);
            assert!(!wrong.is_empty() && !wrong.concat().contains("planted"), "{wrong:?}");
        }
        let auth = json!({ "method": "approle", "role_id": "r", "secret_id": "planted" });
        let auth: Auth = serde_json::from_value(auth).unwrap();
        assert!(!format!("{auth:?}").contains("planted"));
    }
}
