//! Orders: what an ssl object asks for when it leaves its certificate to the gateway.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::resource::{Invalid, Ssl};
use crate::secret::Reference;

const ACME: &str = "$secret://acme/";

/// A certificate to be got: from whom, and for which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub issuer: Issuer,
    /// Lower case, each once, in the order written; never empty.
    pub names: Vec<String>,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// A role of a PKI engine of Vault.
    Pki {
        /// `vault/quickstart`.
        vault: Arc<str>,
        mount: Arc<str>,
        role: Arc<str>,
    },
    /// An ACME server, by the id of its secret manager: `acme/letsencrypt`.
    Acme { id: Arc<str> },
}

// === impl Order ===

impl Order {
    /// The order that `written` places; `None` when it brings its certificate or refers to one
    /// that others look after.
    ///
    /// # Errors
    /// What keeps the order from being carried out: certificate and key are not one reference,
    /// there are no names, or names that the issuer cannot vouch for.
    pub fn of(written: &Ssl) -> Result<Option<Self>, Vec<Invalid>> {
        let one = |invalid: Invalid| Err(vec![invalid]);
        let more = written.certs.iter().map(String::as_str).zip(&written.keys);
        for (index, (cert, key)) in more.enumerate() {
            if Issuer::of_pair(cert, key.expose()).is_some() {
                let expected = "a certificate, or a reference to one that is stored: only cert \
                                and key can be left to an issuer";
                return one(Invalid::new(format!("/certs/{index}"), cert, expected));
            }
        }
        let (Some(cert), Some(key)) = (&written.cert, &written.key) else {
            return Ok(None);
        };
        let Some(issuer) = Issuer::of_pair(cert, key.expose()) else {
            return Ok(None);
        };
        if cert != key.expose() {
            let expected = format!(
                "the same reference as in cert ({cert}): a key and its \
                                    certificate are issued together"
            );
            // The key may be a private key after all.
            return one(Invalid::new("/key", "another text", expected));
        }
        let issuer = issuer?;
        let mut names: Vec<String> = Vec::new();
        for name in written.all_snis().map(|name| name.to_ascii_lowercase()) {
            if issuer.is_acme() && name.contains('*') {
                let path = if written.sni.is_some() { "/sni" } else { "/snis" };
                let expected = "names without a wildcard: ACME proves a wildcard over DNS only, \
                                which is not there yet";
                return one(Invalid::new(path, name, expected));
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() {
            let expected = "the names that the certificate is to be for";
            return one(Invalid::new("/snis", "nothing", expected));
        }
        Ok(Some(Self { issuer, names }))
    }

    /// The reference by which whoever holds it is told of news.
    pub fn reference(&self) -> Reference {
        let (manager, path, field) = match &self.issuer {
            Issuer::Pki { vault, mount, role } => {
                (vault.clone(), format!("{mount}/issue"), Some(role.clone()))
            }
            Issuer::Acme { id } => (id.clone(), String::new(), None),
        };
        Reference::Managed { manager, path: path.into(), field, version: None }
    }

    /// What tells this order from others of the same ssl object, as sixteen letters; `salt` is
    /// what of the issuer's own settings makes its certificates different ones.
    pub(super) fn digest(&self, salt: &str) -> String {
        let text = format!("{}\n{}\n{salt}", self.reference(), self.names.join(","));
        let digest = digest(&SHA256, text.as_bytes());
        digest.as_ref()[..8].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

// === impl Issuer ===

impl Issuer {
    /// The secret manager that it is of.
    pub fn manager(&self) -> &Arc<str> {
        match self {
            Self::Pki { vault, .. } => vault,
            Self::Acme { id } => id,
        }
    }

    pub(super) const fn is_acme(&self) -> bool {
        matches!(self, Self::Acme { .. })
    }

    /// The issuer that a pair names; `None` when it is a pair of certificate and key.
    fn of_pair(cert: &str, key: &str) -> Option<Result<Self, Vec<Invalid>>> {
        let (of_cert, of_key) = (Self::parse(cert, "/cert"), Self::parse(key, "/key"));
        // Two fields of a KV secret that happens to be called `issue` are no roles.
        let is_stored = |key: &str| key.rsplit('/').next().is_some_and(|f| f.contains("key"));
        match (of_cert, of_key) {
            (Some(Ok(Self::Pki { .. })), Some(Ok(Self::Pki { .. })))
                if cert != key && is_stored(key) =>
            {
                None
            }
            (Some(of_cert), _) => Some(of_cert),
            (None, of_key) => of_key,
        }
    }

    fn parse(text: &str, path: &str) -> Option<Result<Self, Vec<Invalid>>> {
        let begins = text.get(..ACME.len()).is_some_and(|it| it.eq_ignore_ascii_case(ACME));
        if begins {
            let id = &text[ACME.len()..];
            let is_id = !id.is_empty() && !id.contains('/');
            let expected = "$secret://acme/ and the id of the secret manager";
            return Some(if is_id {
                Ok(Self::Acme { id: format!("acme/{id}").into() })
            } else {
                Err(vec![Invalid::new(path, text, expected)])
            });
        }
        match Reference::parse(text)?.ok()? {
            Reference::Managed { manager, path, field: Some(role), version: None }
                if manager.starts_with("vault/") =>
            {
                let mount = path.strip_suffix("/issue")?.into();
                Some(Ok(Self::Pki { vault: manager, mount, role }))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Issuer {
    /// The reference as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pki { vault, mount, role } => write!(f, "$secret://{vault}/{mount}/issue/{role}"),
            Self::Acme { id } => write!(f, "$secret://{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(ssl: Value) -> Result<Option<Order>, String> {
        let ssl: Ssl = serde_json::from_value(ssl).unwrap();
        Order::of(&ssl).map_err(|wrong| wrong[0].to_string())
    }

    fn pair(cert: &str, key: &str) -> Result<Option<Order>, String> {
        check(json!({ "cert": cert, "key": key, "snis": ["A.test", "b.test", "a.test"] }))
    }

    #[test]
    fn reads_mount_role_and_names() {
        let text = "$secret://vault/1/team/pki/issue/web";
        let order = pair(text, text).unwrap().unwrap();
        assert_eq!(order.names, ["a.test", "b.test"]);
        assert_eq!(order.reference().to_string(), text);
        assert_eq!(order.issuer.to_string(), text);
        let Issuer::Pki { vault, mount, role } = order.issuer else { panic!("an issuer") };
        assert_eq!((&*vault, &*mount, &*role), ("vault/1", "team/pki", "web"));
        let order = pair("$secret://acme/le", "$secret://acme/le").unwrap().unwrap();
        assert_eq!(&**order.issuer.manager(), "acme/le");
        assert_eq!(order.issuer.to_string(), "$secret://acme/le");
    }

    #[test]
    fn leaves_certificates_that_are_stored_to_their_managers() {
        let stored = |path: &str| {
            let at = |field: &str| format!("$secret://vault/1/{path}/{field}");
            pair(&at("cert"), &at("key"))
        };
        for path in ["ssl", "issue", "ssl/issue"] {
            assert_eq!(stored(path), Ok(None), "{path}");
        }
        assert_eq!(pair("-----BEGIN", "$env://KEY"), Ok(None));
    }

    #[test]
    fn says_why_an_order_cannot_be_carried_out() {
        let pki = "$secret://vault/1/pki/issue/web";
        let differ = pair(pki, "$secret://vault/1/pki/issue/other").unwrap_err();
        assert!(differ.contains("property \"key\": expected the same reference as in cert"));
        let half = pair(pki, "-----BEGIN PRIVATE KEY-----").unwrap_err();
        assert!(!half.contains("BEGIN"), "{half}");
        let acme = "$secret://acme/le";
        let wildcard = check(json!({ "cert": acme, "key": acme, "sni": "*.a.test" }));
        assert!(wildcard.unwrap_err().contains("without a wildcard"));
        let nameless = check(json!({ "type": "client", "cert": pki, "key": pki }));
        assert!(nameless.unwrap_err().contains("names that the certificate is to be for"));
        let many = check(json!({ "cert": "c", "key": "k", "sni": "a.test",
            "certs": [acme], "keys": [acme] }));
        assert!(many.unwrap_err().contains("only cert and key can be left to an issuer"));
        assert!(pair("$secret://acme/", "$secret://acme/").is_err());
    }

    #[test]
    fn other_names_are_another_order() {
        let of = |name: &str| {
            let pki = "$secret://vault/1/pki/issue/web";
            check(json!({ "cert": pki, "key": pki, "sni": name })).unwrap().unwrap().digest("")
        };
        assert_ne!(of("a.test"), of("b.test"));
        assert_eq!(of("a.test"), of("A.test"));
    }
}
