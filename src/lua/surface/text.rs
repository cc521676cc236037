//! Digests, base64 and escaping.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD_NO_PAD};
use mlua::LuaString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::Host;

/// What stands in a component of a URI as it is, as lua-nginx-module has it.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Base64 with its padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn register(host: &Host<'_>) -> mlua::Result<()> {
    host.add("md5_bin", |lua, text: LuaString| {
        lua.create_string(md5::compute(&*text.as_bytes()).0)
    })?;
    host.add("md5", |_, text: LuaString| Ok(format!("{:x}", md5::compute(&*text.as_bytes()))))?;
    host.add("sha1_bin", |lua, text: LuaString| {
        lua.create_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text.as_bytes()))
    })?;
    host.add("hmac_sha1", |lua, (key, text): (LuaString, LuaString)| {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key.as_bytes());
        lua.create_string(hmac::sign(&key, &text.as_bytes()))
    })?;
    host.add("encode_base64", |_, (text, no_padding): (LuaString, Option<bool>)| {
        let engine = if no_padding == Some(true) { STANDARD_NO_PAD } else { STANDARD };
        Ok(engine.encode(&*text.as_bytes()))
    })?;
    host.add("decode_base64", |lua, text: LuaString| {
        let decoded = LENIENT.decode(&*text.as_bytes()).ok();
        decoded.map(|bytes| lua.create_string(bytes)).transpose()
    })?;
    host.add("escape_uri", |_, text: LuaString| {
        Ok(percent_encode(&text.as_bytes(), COMPONENT).to_string())
    })?;
    host.add("unescape_uri", |lua, text: LuaString| {
        let text = text.as_bytes();
        let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        lua.create_string(percent_decode(&spaced).collect::<Vec<u8>>())
    })
}
