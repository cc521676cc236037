//! The keyring: how secrets are encrypted at rest, byte for byte as APISIX does it.
//!
//! AES-CBC with PKCS#7 padding; a keyring item is both the key and, by its first 16 bytes, the
//! initialisation vector; the result is base64. That is deterministic and unauthenticated, but it
//! is what the values in a shared etcd are written with.
//!
//! Source: APISIX `ssl.lua` and `plugin.lua`; `apisix.data_encryption.keyring`.

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Keys to encrypt and decrypt with, newest first.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<Vec<u8>>,
}

/// A keyring item has the wrong length.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("keyring item {index} has {length} bytes, expected 16 or 32")]
pub struct KeyringError {
    pub index: usize,
    pub length: usize,
}

// === impl Keyring ===

impl Keyring {
    /// A keyring of `items`, newest first; none means that nothing is encrypted.
    ///
    /// # Errors
    /// An item that is no AES key.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyringError> {
        let mut keys = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let length = item.len();
            if length != 16 && length != 32 {
                return Err(KeyringError { index, length });
            }
            keys.push(item.as_bytes().to_vec());
        }
        Ok(Self { keys })
    }

    /// Whether it has no key, so that nothing is encrypted.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Encrypts with the newest key. Without keys the text stays as it is.
    pub fn encrypt(&self, plain: &str) -> String {
        self.keys
            .first()
            .and_then(|key| encrypt(key, plain.as_bytes()))
            .map_or_else(|| plain.to_owned(), |bytes| STANDARD.encode(bytes))
    }

    /// Whether `text` looks like what some key has encrypted, ours or another.
    pub fn may_have_written(text: &str) -> bool {
        let bytes = STANDARD.decode(text);
        bytes.is_ok_and(|bytes| !bytes.is_empty() && bytes.len() % 16 == 0)
    }

    /// Decrypts with the first key that fits; `None` when none does.
    pub fn decrypt(&self, stored: &str) -> Option<String> {
        let bytes = STANDARD.decode(stored).ok()?;
        self.keys.iter().find_map(|key| {
            let plain = decrypt(key, &bytes)?;
            String::from_utf8(plain).ok()
        })
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

fn cipher(key: &[u8]) -> Option<(UnboundCipherKey, FixedLength<16>)> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let iv: [u8; 16] = key.get(..16)?.try_into().ok()?;
    Some((UnboundCipherKey::new(algorithm, key).ok()?, iv.into()))
}

fn encrypt(key: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let (key, iv) = cipher(key)?;
    // With room for the padding: what grows leaves a copy in clear behind.
    let mut bytes = Vec::with_capacity(plain.len() + 16);
    bytes.extend_from_slice(plain);
    PaddedBlockEncryptingKey::cbc_pkcs7(key)
        .ok()?
        .less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(iv))
        .ok()?;
    Some(bytes)
}

fn decrypt(key: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let (key, iv) = cipher(key)?;
    let mut bytes = Zeroizing::new(stored.to_vec());
    let plain = PaddedBlockDecryptingKey::cbc_pkcs7(key)
        .ok()?
        .decrypt(&mut bytes, DecryptionContext::Iv128(iv))
        .ok()?;
    Some(plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "edd1c9f0985e76a2";
    const NEW: &str = "qeddd145sfvddff3";

    #[test]
    fn writes_what_openssl_writes() {
        // printf %s auth-one | openssl enc -aes-128-cbc -base64 -K <hex of key> -iv <the same>
        let keyring = Keyring::new([OLD]).unwrap();
        assert_eq!(keyring.encrypt("auth-one"), OPENSSL);
        assert_eq!(keyring.decrypt(OPENSSL).unwrap(), "auth-one");
    }

    #[test]
    fn encrypts_with_the_newest_key_and_still_reads_the_old() {
        let both = Keyring::new([NEW, OLD]).unwrap();
        let old = Keyring::new([OLD]).unwrap();
        assert_ne!(both.encrypt("x"), old.encrypt("x"));
        assert_eq!(both.decrypt(&old.encrypt("x")).unwrap(), "x");
        assert!(old.decrypt("not encrypted").is_none());
    }

    #[test]
    fn names_an_item_of_the_wrong_length() {
        let error = Keyring::new([NEW, "short"]).unwrap_err();
        assert_eq!((error.index, error.length), (1, 5));
    }

    const OPENSSL: &str = "RjeV6km+KxQJN2rfu8Y7aA==";
}
