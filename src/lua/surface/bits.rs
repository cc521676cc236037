//! `bit`: operations on 32 bits, as LuaJIT has them.

use mlua::{Lua, Table, Variadic};

use super::Host;

/// 2 to the power of 32: numbers are taken modulo it.
const RANGE: f64 = 4_294_967_296.0;

pub(super) fn register(host: &Host<'_>) -> mlua::Result<()> {
    let table = host.lua.create_table()?;
    let (lua, add) = (host.lua, &table);
    fold(lua, add, "band", |a, b| a & b)?;
    fold(lua, add, "bor", |a, b| a | b)?;
    fold(lua, add, "bxor", |a, b| a ^ b)?;
    shift(lua, add, "lshift", |bits, by| bits << by)?;
    shift(lua, add, "rshift", |bits, by| (bits.cast_unsigned() >> by).cast_signed())?;
    shift(lua, add, "arshift", |bits, by| bits >> by)?;
    shift(lua, add, "rol", i32::rotate_left)?;
    shift(lua, add, "ror", i32::rotate_right)?;
    let one = |name: &str, of: fn(i32) -> i32| {
        let function = lua.create_function(move |_, number: f64| Ok(of(bits(number))))?;
        table.raw_set(name, function)
    };
    one("tobit", |bits| bits)?;
    one("bnot", |bits| !bits)?;
    one("bswap", i32::swap_bytes)?;
    let hex = lua.create_function(|_, (number, digits): (f64, Option<i32>)| {
        let digits = digits.unwrap_or(8);
        let text = format!("{:08x}", bits(number));
        let kept = &text[8 - digits.unsigned_abs().min(8) as usize..];
        Ok(if digits < 0 { kept.to_uppercase() } else { kept.to_owned() })
    })?;
    table.raw_set("tohex", hex)?;
    host.table.raw_set("bit", table)
}

fn fold(lua: &Lua, table: &Table, name: &str, join: fn(i32, i32) -> i32) -> mlua::Result<()> {
    let function = lua.create_function(move |_, (first, more): (f64, Variadic<f64>)| {
        Ok(more.iter().fold(bits(first), |all, one| join(all, bits(*one))))
    })?;
    table.raw_set(name, function)
}

fn shift(lua: &Lua, table: &Table, name: &str, by: fn(i32, u32) -> i32) -> mlua::Result<()> {
    let function = lua.create_function(move |_, (number, places): (f64, f64)| {
        Ok(by(bits(number), bits(places).cast_unsigned() & 31))
    })?;
    table.raw_set(name, function)
}

/// The lowest 32 bits of a number.
fn bits(number: f64) -> i32 {
    // In range, so nothing is lost; what is no number is 0.
    (number.round_ties_even().rem_euclid(RANGE) as u32).cast_signed()
}
