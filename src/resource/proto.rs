//! Protos: Protocol Buffers definitions by id, for `grpc-transcode`. Compiled when they are written,
//! so that what is stored can be used.
//!
//! Source: APISIX `docs/en/latest/admin-api.md#proto`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::DescriptorPool;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{self, Labels};
use super::{Id, Invalid, Said};

/// What the text is called while it is compiled.
const NAME: &str = "content.proto";

/// A Protocol Buffers definition.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Proto {
    /// Unique among protos.
    pub id: Option<Id>,
    /// Name for people.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// What it is for.
    #[schemars(length(max = 256))]
    pub desc: Option<String>,
    /// Key and value pairs.
    #[serde(default)]
    #[schemars(schema_with = "fields::labels_schema")]
    pub labels: Labels,
    /// Seconds since 1970 of the first write.
    pub create_time: Option<i64>,
    /// Seconds since 1970 of the last write.
    pub update_time: Option<i64>,
    /// Text of a `.proto` file, or a base64 text of a compiled descriptor set.
    #[schemars(length(min = 1, max = 1_048_576))]
    pub content: String,
}

/// The text of a definition, as the one file that it may be besides the standard ones.
struct Text(String);

// === impl Proto ===

impl Proto {
    /// Compiles the definition.
    ///
    /// # Errors
    /// Where it is wrong, and why: line and column of the text.
    pub fn compile(&self) -> Result<DescriptorPool, Invalid> {
        let error = match compile_text(&self.content) {
            Ok(pool) => return Ok(pool),
            Err(error) => error,
        };
        // Spaces are no matter in base64 as tools write it.
        let packed: String = self.content.split_ascii_whitespace().collect();
        let bytes = BASE64_STANDARD.decode(packed).ok();
        let pool = bytes.and_then(|bytes| DescriptorPool::decode(bytes.as_slice()).ok());
        pool.filter(|pool| pool.files().len() > 0).ok_or_else(|| {
            // Debug is where the place stands; the message alone does not have it.
            let said = format!("{error:?}").replace(&format!("{NAME}:"), "line ");
            let expected = "a .proto file or a base64 text of a descriptor set";
            let value = format!("what does not compile: {said}");
            let said = Said::Whole(format!("invalid content: {said}"));
            Invalid::new("/content", value, expected).saying(said)
        })
    }
}

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == NAME {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

fn compile_text(content: &str) -> Result<DescriptorPool, protox::Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Text(content.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.open_file(NAME)?;
    Ok(compiler.descriptor_pool())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str) -> Result<usize, String> {
        let proto: Proto =
            serde_json::from_value(serde_json::json!({ "content": content })).unwrap();
        let pool = proto.compile().map_err(|invalid| invalid.to_string())?;
        Ok(pool.services().len())
    }

    const GOOD: &str = "syntax = \"proto3\"; package p;
        import \"google/protobuf/timestamp.proto\";
        message A { string name = 1; google.protobuf.Timestamp at = 2; }
        service Hello { rpc Say (A) returns (A) {} }";

    #[test]
    fn compiles_texts_and_descriptor_sets() {
        assert_eq!(check(GOOD), Ok(1));
        let pool = compile_text(GOOD).unwrap();
        let packed = BASE64_STANDARD.encode(pool.encode_to_vec());
        assert_eq!(check(&packed), Ok(1));
        let (first, rest) = packed.split_at(40);
        assert_eq!(check(&format!("{first}\n{rest}\n")), Ok(1));
    }

    #[test]
    fn says_where_a_text_is_wrong() {
        for (content, said) in [
            ("syntax = \"proto3\";\nmessage A { int32 a = 1; string b = 1; }", "line 2:"),
            ("syntax = \"proto3\";\nmessage A { Nothing a = 1; }", "Nothing"),
            ("import \"other.proto\";", "import 'other.proto' not found"),
            ("not a proto", "line 1:1:"),
            ("aGVsbG8=", "line 1:"),
        ] {
            let wrong = check(content).unwrap_err();
            assert!(wrong.starts_with("invalid content: ") && wrong.contains(said), "{wrong}");
        }
    }
}
