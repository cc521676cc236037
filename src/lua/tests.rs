//! Functions against the bounds, the sandbox and the surface.

use std::time::Duration;

use serde_json::json;

use super::surface::json as lua_json;
use super::*;
use crate::context::rig::exchange;
use crate::expr::Need;

const QUICK: Limits = Limits { timeout: Duration::from_millis(50), memory_bytes: 8 << 20 };

/// What `body` returns in a function of the access phase, as text; or why it failed.
fn check(body: &str) -> String {
    check_in(&mut exchange("/a?name=json&x=a%20b&x=c"), body)
}

fn check_in(ctx: &mut Ctx, body: &str) -> String {
    check_within(QUICK, ctx, body)
}

fn check_within(limits: Limits, ctx: &mut Ctx, body: &str) -> String {
    let text = format!("return function(conf, ctx)\n{body}\nend");
    let function = match Function::chunk(&text, Some("test"), "test", json!({"a": [1]}), limits) {
        Ok(function) => function,
        Err(invalid) => return invalid.value,
    };
    let answer = state::with(limits, |state| {
        let call = function.bound(state, ctx)?;
        let returned = current::lend(ctx, Phase::Access, || state.run(call))?;
        let values = returned.iter().map(|value| match value {
            Value::Table(_) => {
                String::from_utf8(lua_json::encode(value, 1 << 20).unwrap()).unwrap()
            }
            value => value.to_string().unwrap(),
        });
        Ok(values.collect::<Vec<_>>().join(" "))
    });
    answer.unwrap_or_else(|failure| failure.to_string())
}

fn filter(text: &str, uri: &str) -> bool {
    Function::filter(text, "test", QUICK).unwrap().accepts(&exchange(uri))
}

fn outcome(ctx: &mut Ctx, body: &str) -> Outcome {
    let text = format!("return function(conf, ctx)\n{body}\nend");
    let function = Function::chunk(&text, None, "test", json!({}), QUICK).unwrap();
    function.call(Phase::Access, ctx)
}

fn reply(body: &str) -> (u16, String) {
    match outcome(&mut exchange("/"), body) {
        Outcome::Respond(reply) => {
            (reply.status.as_u16(), String::from_utf8(reply.body.to_vec()).unwrap())
        }
        Outcome::Next => (0, "next".to_owned()),
        Outcome::Failed => (0, "failed".to_owned()),
    }
}

#[test]
fn a_filter_decides_by_variables() {
    let by_name = "function(vars) return vars.arg_name == \"json\" end";
    assert!(filter(by_name, "/?name=json"));
    assert!(!filter(by_name, "/?name=xml"));
    let by_user = "function(vars) return tonumber(vars.arg_userid) % 4 > 2; end";
    assert!(filter(by_user, "/?userid=7"));
    assert!(!filter(by_user, "/?userid=8"));
    // No number: it fails, and what fails matches nothing.
    assert!(!filter(by_user, "/"));
    assert!(filter("function(vars) return vars['uri'] == '/x' and not vars.http_none end", "/x"));
}

#[test]
fn what_is_no_function_is_refused_with_lua_s_own_words() {
    let refused = |text: &str| Function::filter(text, "t", QUICK).err().unwrap().to_string();
    assert_eq!(
        refused("function(vars) "),
        "expected a Lua function: function(vars) … end, got [string \"return function(vars) \"]:1: \
         'end' expected near '<eof>'"
    );
    assert!(refused("function() end)()").contains(":1:"), "{}", refused("function() end)()"));
    let refused =
        |text: &str| Function::chunk(text, None, "t", json!({}), QUICK).err().unwrap().to_string();
    assert!(refused("local a = 123;").ends_with("got Lua that returns a nil"));
    assert!(refused("a").ends_with("got [string \"a\"]:1: '=' expected near '<eof>'"));
    assert!(refused("return function() end\n)").contains(":2:"));
    // The text itself is run within the bounds, and without a request.
    assert!(refused("while true do end").contains("sluice.lua.timeout"));
    assert!(refused("return ngx.var.uri").contains("there is no request here"));
    assert!(refused("\u{1b}Lua").ends_with("got bytecode"));
}

#[test]
fn an_endless_loop_ends_and_the_next_call_is_served() {
    for endless in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() while true do end end while true do xpcall(f, f) end",
        "coroutine.wrap(function() while true do end end)()",
        "local c = coroutine.create(function() while true do end end)
         while true do coroutine.resume(c) c = coroutine.create(function() while true do end end) end",
        "setmetatable({}, {__index = function() while true do end end}).x = (nil)() or 1",
        "for i = 1, 1e12 do local x = ngx.re.match('abc', 'b') end",
        "string.gsub('a', 'a', function() while true do end end)",
        "return ('a'):rep(40):match(('a?'):rep(40) .. ('a'):rep(40))",
        "return ('a'):rep(8000):find('.-.-.-.-.-b')",
        "table.sort({1, 2, 3}, function() while true do end end)",
        "repeat local f = loadstring('while true do end') f() until false",
    ] {
        let said = check(endless);
        assert!(
            said.contains("sluice.lua.timeout") || said.contains("attempt to call"),
            "{endless}: {said}"
        );
        assert_eq!(check("return 'served'"), "served");
    }
}

#[test]
fn a_memory_bomb_ends_and_the_next_call_is_served() {
    for bomb in [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "return ('x'):rep(1e9)",
        "local s = 'x' while true do s = s .. s end",
        "pcall(function() local s = 'x' while true do s = s .. s end end) return ('x'):rep(1e9)",
        "hoard = {} for i = 1, 1e9 do hoard[i] = ngx.md5(i) end",
        "ngx.print(('x'):rep(3e6)) ngx.print(('x'):rep(3e6)) ngx.print(('x'):rep(3e6))",
        "local t = {} for i = 1, 40 do t = {t, t} end return require('cjson').encode(t)",
    ] {
        let patient = Limits { timeout: Duration::from_secs(60), ..QUICK };
        let said = check_within(patient, &mut exchange("/"), bomb);
        assert!(said.contains("memory") || said.contains("bytes"), "{bomb}: {said}");
        assert_eq!(check("return 'served'"), "served");
    }
}

#[test]
fn a_loop_inside_of_c_is_short() {
    assert_eq!(check("return #string.rep('', 1e15)"), "0");
    assert_eq!(check("return string.rep('a', 3, ',')"), "a,a,a");
    let said = check("table.insert({}, -2147483648, 1)");
    assert!(said.contains("position out of bounds"), "{said}");
    let inserted =
        "local t = {1, 3} table.insert(t, 2, 2) table.insert(t, 4) table.insert(t, '1', 0)
        return table.concat(t, ' ') .. ';' .. table.remove(t, 1) .. table.remove(t)";
    assert_eq!(check(inserted), "0 1 2 3 4;04");
    // One that is long is not begun again and again.
    let said = check(
        "local t = {} for i = 1, 2e5 do t[i] = i end
        while true do table.insert(t, 1, 0) table.remove(t, 1) end",
    );
    assert!(said.contains("sluice.lua.timeout"), "{said}");
}

#[test]
fn garbage_takes_no_memory_away_from_a_call() {
    let patient = Limits { timeout: Duration::from_secs(60), ..QUICK };
    for number in 0..10 {
        // Three megabytes of eight.
        let said = format!("return #(('{number} and more '):rep(3e5))");
        assert_eq!(check_within(patient, &mut exchange("/"), &said), "3300000");
    }
    let gathers = "local all = ''
        for i = 1, 50 do all = all .. ('x'):rep(16383) .. string.char(i) end
        return #all";
    assert_eq!(check_within(patient, &mut exchange("/"), gathers), "819200");
}

#[test]
fn a_variable_is_no_larger_than_the_memory() {
    let deep = "require('apisix.core').ctx.register_var('deep', function()
            local t = {} for i = 1, 40 do t = {t, t} end return t
        end)
        return tostring(ctx.var.deep)";
    assert_eq!(check(deep), "nil");
}

#[test]
fn what_is_loaded_has_the_globals_of_who_loads_it() {
    let planted = "loadstring('planted = 1')() load('planted = planted + 1')()
        return planted .. ' ' .. tostring(rawget(getmetatable(getfenv(1)).__index, 'planted'))";
    assert_eq!(check(planted), "2 nil");
    // Whatever another function has done to the thread.
    assert_eq!(check("setfenv(0, {}) return 'done'"), "done");
    assert_eq!(check("local f = loadstring('return type(ngx)') return f()"), "table");
    assert_eq!(check("return loadstring('return type(ngx)')()"), "table");
}

#[test]
fn what_goes_too_deep_ends_before_the_stack_does_and_the_next_call_is_served() {
    let patient = Limits { timeout: Duration::from_secs(60), memory_bytes: 64 << 20 };
    for deep in [
        "local function f() coroutine.wrap(f)() end f()",
        "local function f() return coroutine.resume(coroutine.create(f)) end f()",
        "local function f() pcall(string.gsub, 'a', 'a', f) f() end f()",
        "local function f() string.gsub('a', 'a', f) end f()",
        "local function f() table.sort({3, 2, 1}, f) end f()",
        "local t = setmetatable({}, {__tostring = function(t) return ('%s'):format(t) end})
         return tostring(t)",
        "local meta = {} meta.__index = function(t, k) return (('a'):gsub('a', t)) end
         return setmetatable({}, meta).a",
        "require('apisix.core').ctx.register_var('deep', function(ctx)
             for i = 1, 1e9 do local again = ctx.var.deep end
         end)
         return ctx.var.deep",
    ] {
        let said = check_within(patient, &mut exchange("/"), deep);
        assert!(said.contains("calls itself too deep"), "{deep}: {said}");
        assert_eq!(check("return 'served'"), "served");
    }
    // Lua alone takes none of it.
    let said = check("local function f() return 1 + f() end return pcall(f)");
    assert!(said.contains("stack overflow"), "{said}");
}

#[test]
fn nothing_leads_out_of_the_sandbox() {
    for gone in [
        "io",
        "debug",
        "package",
        "dofile",
        "loadfile",
        "module",
        "newproxy",
        "gcinfo",
        "os.execute",
        "os.getenv",
        "os.exit",
        "os.remove",
        "os.rename",
        "os.tmpname",
        "os.setlocale",
        "string.dump",
        "jit",
        "ffi",
        "bit32",
    ] {
        assert_eq!(check(&format!("return {gone}")), "nil", "{gone}");
    }
    assert_eq!(check("return loadstring('\\27Lua')"), "nil bytecode is not loaded");
    // LuaJIT makes these numbers by its FFI, which stays out of reach all the same.
    assert_eq!(check("local x = 1LL return ffi, jit, getmetatable(x)"), "nil nil ffi");
    // Finalizers are not interrupted; a table has none.
    let finalized = "setmetatable({}, {__gc = function() mine = 1 end}) collectgarbage()
        local t = {} for i = 1, 1e4 do t = {t} end return mine";
    assert_eq!(check(finalized), "nil");
    assert_eq!(check("collectgarbage('stop') return collectgarbage('count') > 0"), "true");
    for module in ["resty.http", "io", "ffi", "apisix.plugin", "apisix.core.etcd"] {
        let said = check(&format!("require('{module}')"));
        assert!(said.contains(&format!("module '{module}' is not there: require gives")), "{said}");
    }
    for (used, why) in [
        ("return ngx.shared.x", "ngx.shared is not there"),
        ("ngx.sleep(1)", "ngx.sleep is not there"),
        ("ngx.socket.tcp()", "ngx.socket is not there"),
        ("ngx.req.read_body()", "the request's body was not read"),
        ("ngx.req.set_body_data('x')", "ngx.req.set_body_data is not there"),
        ("ngx.arg[1] = ''", "a piece of the body is there in body_filter alone"),
        ("require('apisix.core').etcd.get('/')", "core.etcd is not there"),
        ("ngx.var.uri = '/x'", "variable \"uri\" not changeable"),
    ] {
        let said = check(used);
        assert!(said.contains(why), "{used}: {said}");
    }
}

#[test]
fn what_luajit_takes_is_taken() {
    for (body, expected) in [
        ("if true then;return '\\x41';end;", "A"),
        (
            "local n = 0 for i = 1, 5 do if i % 2 == 0 then goto continue end n = n + i \
             ::continue:: end return n",
            "9",
        ),
        ("return unpack({1, 2, 3}, 2)", "2 3"),
        ("return 10 / 2, 7 % 4, tostring(1e15), 0.1", "5 3 1e+15 0.1"),
        ("return load('return 1')(), load('return a', 'n', 't', {a = 2})()", "1 2"),
        // Of 5.1.
        (
            "return table.getn({1, 2}), table.maxn({[7] = 1}), math.pow(2, 3), math.log10(100)",
            "2 7 8 2",
        ),
        ("a = 1 setfenv(1, {a = 2}) return a", "2"),
        ("a = 1 return getfenv(1).a, getfenv(1) == _G", "1 false"),
        ("local function f(...) return select('#', ...), (...) end return f(nil, nil)", "2 nil"),
        ("local t = {} table.foreach({x = 1}, function(k, v) t[k] = v end) return t.x", "1"),
        // Of 5.2, as OpenResty builds it.
        ("return #setmetatable({}, {__len = function() return 7 end}), table.pack(1, 2).n", "7 2"),
        ("return table.concat(table.move({1, 2, 3}, 2, 3, 1), ',')", "2,3,3"),
        // Numbers: doubles, written with 14 digits, whole ones without a point.
        (
            "return table.concat({5 % -3, -5 % 3, 2 ^ 53, 1 / 3, 100000000000000, 3.0, -0.0}, ' ')",
            "-1 1 9.007199254741e+15 0.33333333333333 1e+14 3 -0",
        ),
        (
            "return 0x10, tonumber('0x10'), tonumber('z', 36), ('%d %x'):format(3, 255)",
            "16 16 35 3 ff",
        ),
        (
            "return 1LL + 1, 2ULL ^ 3ULL, bit.band(0x100000001LL, 0x100000000LL)",
            "2LL 8ULL 4294967296LL",
        ),
        (
            "return bit.bor(1, 2), bit.tobit(0xffffffff), bit.rol(1, 31), bit.tohex(-1, 4)",
            "3 -1 -2147483648 ffff",
        ),
        (
            "return select(2, xpcall(function(a, b) error(a .. b, 0) end, \
             function(e) return e .. '!' end, 'x', 'y'))",
            "xy!",
        ),
    ] {
        assert_eq!(check(body), expected, "{body}");
    }
}

#[test]
fn functions_do_not_see_each_other_s_globals() {
    assert_eq!(check("mine = 1 string_of = tostring return mine"), "1");
    assert_eq!(check("return mine, string_of"), "nil nil");
}

#[test]
fn a_closure_counts_on() {
    let text = "local count = 1; return function() count = count + 1; return count end";
    let function = Function::chunk(text, None, "t", json!({}), QUICK).unwrap();
    for expected in [2, 3, 4] {
        let counted = state::with(QUICK, |state| {
            let loaded = state.load(&function)?;
            state.run(|| loaded.function.call::<i64>(()))
        });
        assert_eq!(counted.unwrap(), expected);
    }
}

#[test]
fn functions_of_changed_resources_are_let_go() {
    for _ in 0..1000 {
        check("return 1");
    }
    let left = state::present().unwrap().loaded_count();
    assert!(left < 200, "{left}");
}

#[test]
fn what_a_function_returns_or_exits_with_ends_the_exchange() {
    assert_eq!(reply("return"), (0, "next".to_owned()));
    assert_eq!(reply("return 403, 'forbidden'"), (403, "forbidden".to_owned()));
    assert_eq!(reply("return 401, {message = 'no'}"), (401, "{\"message\":\"no\"}\n".to_owned()));
    assert_eq!(reply("ngx.exit(201)"), (201, String::new()));
    assert_eq!(reply("pcall(ngx.exit, 403) ngx.exit(200)"), (403, String::new()));
    assert_eq!(reply("ngx.exit(ngx.OK)"), (0, "next".to_owned()));
    assert_eq!(reply("ngx.status = 410 ngx.say('gone') ngx.exit(200)"), (410, "gone\n".to_owned()));
    let exit = "require('apisix.core').response.exit(403, {a = {1, 'b'}})";
    assert_eq!(reply(exit), (403, "{\"a\":[1,\"b\"]}\n".to_owned()));
    assert_eq!(reply("error('no')"), (0, "failed".to_owned()));
    assert_eq!(reply("return 'no'"), (0, "failed".to_owned()));
    assert_eq!(reply("return 7"), (500, String::new()));
}

#[test]
fn what_is_said_waits_for_the_others() {
    let mut ctx = exchange("/");
    assert!(matches!(outcome(&mut ctx, "ngx.say('a', 1, nil, true, {'b', 'c'})"), Outcome::Next));
    assert!(matches!(outcome(&mut ctx, "ngx.print('d')"), Outcome::Next));
    let said = ctx.settle(None).unwrap();
    assert_eq!((said.status.as_u16(), &said.body[..]), (200, &b"a1niltruebc\nd"[..]));
}

#[test]
fn the_request_is_read_and_changed() {
    let mut ctx = exchange("/a?name=json&x=a%20b&x=c");
    ctx.request.headers.append("x-many", "1".parse().unwrap());
    ctx.request.headers.append("x-many", "2".parse().unwrap());
    let said = check_in(
        &mut ctx,
        "local core = require('apisix.core')
         local headers = ngx.req.get_headers()
         ngx.req.set_header('X-Set', {'a', 'b'})
         ngx.req.clear_header('X-Many')
         ngx.req.set_header('Content-Length', '7')
         core.request.set_header(ctx, 'X-Core', 1)
         return ngx.req.get_method(), headers.Host, headers['X_Many'], ngx.req.get_uri_args(),
            core.request.header(ctx, 'host'), core.request.get_ip(ctx), ngx.var.arg_name,
            ctx.var.request_uri, ngx.var.none, ctx.var.scheme, conf",
    );
    assert_eq!(
        said,
        "GET a.com [\"1\",\"2\"] {\"name\":\"json\",\"x\":[\"a b\",\"c\"]} a.com 127.0.0.1 json \
         /a?name=json&x=a%20b&x=c nil http {\"a\":[1]}"
            .replace("{\"name\":\"json\",\"x\":[\"a b\",\"c\"]}", &args_as_written(&said))
    );
    let header = |name: &str| ctx.request.headers.get_all(name).iter().count();
    assert_eq!((header("x-set"), header("x-many"), header("x-core")), (2, 0, 1));
    assert_eq!(header("content-length"), 0, "framing is the gateway's own");
    check_in(&mut ctx, "ngx.req.set_uri_args({b = 'x y', a = true}) ngx.req.set_uri('/p q')");
    assert_eq!(ctx.outgoing.path_and_query.as_deref(), Some("/p%20q?a&b=x%20y"));
    assert_eq!((ctx.path(), ctx.query()), ("/p q", Some("a&b=x%20y")));
    let both = "return ngx.var.uri, ctx.var.uri, ngx.var.request_uri";
    let as_sent = "/a?a&b=x%20y";
    assert_eq!(check_in(&mut ctx, both), format!("/p q /p q {as_sent}"));
    ctx.outgoing.path_and_query = Some("/rewritten%20path?a".to_owned());
    ctx.outgoing.renamed = Some("/rewritten%20path".into());
    check_in(&mut ctx, "ngx.req.set_method(ngx.HTTP_POST) ctx.var.upstream_uri = '/s\\r\\nX: y'");
    assert_eq!(ctx.outgoing.method, Some(http::Method::POST));
    assert_eq!(ctx.outgoing.path_and_query.as_deref(), Some("/s%0D%0AX:%20y"));
    assert_eq!(check_in(&mut ctx, both), format!("/rewritten%20path /p q {as_sent}"));
    let said = check_in(&mut ctx, "ngx.req.set_header('X', 'a\\r\\nb: c')");
    assert!(said.contains("header \"X\": expected a value without control characters"), "{said}");
}

/// Lua's tables have no order; the arguments as they came out.
fn args_as_written(said: &str) -> String {
    let start = said.find('{').unwrap();
    let end = said[start..].find('}').unwrap() + start;
    let args: serde_json::Value = serde_json::from_str(&said[start..=end]).unwrap();
    assert_eq!(args, json!({"name": "json", "x": ["a b", "c"]}));
    said[start..=end].to_owned()
}

#[test]
fn variables_of_functions_own_are_seen_by_all() {
    use crate::expr::{Variable, Variables as _};
    let mut ctx = exchange("/");
    let get =
        |ctx: &Ctx, name: &str| ctx.get(&Variable::parse(name)).map(std::borrow::Cow::into_owned);
    assert_eq!(get(&ctx, "mine"), None);
    check_in(&mut ctx, "ctx.var.mine = 'x' ngx.ctx.kept = 7 ctx.own = {1}");
    assert_eq!(get(&ctx, "mine").as_deref(), Some("x"));
    assert_eq!(check_in(&mut ctx, "return ngx.ctx.kept, ctx.own, ngx.var.mine"), "7 [1] x");
    check_in(
        &mut ctx,
        "local core = require 'apisix.core'
         core.ctx.register_var('made_up', function(ctx) return ctx.var.request_method .. '!' end)
         core.ctx.register_var('broken', function(ctx) error('no') end)",
    );
    assert_eq!(get(&ctx, "made_up").as_deref(), Some("GET!"));
    assert_eq!(get(&ctx, "broken"), None);
    assert_eq!(check_in(&mut ctx, "return ngx.var.made_up"), "GET!");
    // Another exchange has none of it.
    assert_eq!(check("return ngx.ctx.kept, ngx.var.mine"), "nil nil");
}

#[test]
fn the_response_is_read_and_changed() {
    let mut ctx = exchange("/");
    ctx.response.headers.insert("content-type", "text/html".parse().unwrap());
    let text = "return function(conf, ctx)
        ngx.header['X-Was'] = ngx.header.content_type .. ngx.status
        ngx.header.content_type = nil
        ngx.header.content_length = 3
        ngx.status = 404
        pcall(ngx.say, 'x')
    end";
    let function = Function::chunk(text, None, "t", json!({}), QUICK).unwrap();
    assert!(matches!(function.call(Phase::HeaderFilter, &mut ctx), Outcome::Next));
    assert_eq!(ctx.response.status, 404);
    assert_eq!(ctx.response.headers["x-was"], "text/html200");
    assert_eq!(ctx.response.headers.len(), 1);
    assert!(ctx.said.is_none());
}

#[test]
fn texts_are_made_as_nginx_makes_them() {
    for (expression, expected) in [
        ("ngx.md5('hello')", "5d41402abc4b2a76b9719d911017c592"),
        ("ngx.encode_base64(ngx.sha1_bin('a'))", "hvfkN/qlp/zhXR3cuerq6jd2Z7g="),
        ("ngx.encode_base64('a'), ngx.encode_base64('a', true)", "YQ== YQ"),
        ("ngx.decode_base64('YQ=='), ngx.decode_base64('YQ'), ngx.decode_base64('?')", "a a nil"),
        ("ngx.escape_uri('a b/ü-_.~')", "a%20b%2F%C3%BC-_.~"),
        ("ngx.unescape_uri('a%20b+c%zz')", "a b c%zz"),
        ("ngx.re.match('hello, 1234', '[0-9]+')[0]", "1234"),
        ("ngx.re.match('ab', '(?<first>a)(x)?', 'jo').first", "a"),
        ("ngx.re.match('ab', '(a)(x)?', 'jo')[2]", "false"),
        ("ngx.re.find('hello, 1234', '([0-9])([0-9]+)', 'jo')", "8 11"),
        ("ngx.re.sub('hello, 1234', '([0-9])([0-9])', '[$0][${2}x]$$')", "hello, [12][2x]$34 1"),
        ("ngx.re.gsub('abca', 'A', 'x', 'i')", "xbcx 2"),
        ("ngx.re.gsub('abc', '', '-')", "-a-b-c- 4"),
        ("ngx.re.gsub('a1b2', '\\\\d', function(m) return m[0] * 2 end)", "a2b4 2"),
        ("require('ngx.re').split('a,b,,c', ',')", "[\"a\",\"b\",\"\",\"c\"]"),
        ("select(2, ngx.re.match('a', '(?=a)')) ~= nil", "true"),
        (
            "bit.band(0xff, 0x0f), bit.tohex(255), bit.bnot(0), bit.lshift(1, 31)",
            "15 000000ff -1 -2147483648",
        ),
        ("('key = value'):match('^(%w+)%s*=%s*(%w+)$')", "key value"),
        (
            "('hello world'):find('o w'), ('hello'):find('l', 1, true), ('a.b'):find('%.')",
            "5 3 2 2",
        ),
        ("('hello'):find('(l)(l)')", "3 4 l l"),
        ("('hello'):find('', 10), ('hello'):find('l', -2), ('x'):find('y')", "6 4 nil"),
        ("('THE (quick) fox'):find('%((%a+)%)')", "5 11 quick"),
        (
            "('x(a(b)c)y'):match('%b()'), ('THE fox'):match('%f[%a]%l+'), ('a-b'):match('[^-]+$')",
            "(a(b)c) fox b",
        ),
        ("('abcabc'):match('(abc)%1'), ('a]b'):match('[]]'), ('a^'):match('[%^a]+')", "abc ] a^"),
        ("('hello'):gsub('l', {l = 'L'})", "heLLo 2"),
        ("('hello world'):gsub('(%w+)', '<%1%%%0>', 1)", "<hello%hello> world 1"),
        ("('abc'):gsub('', '-')", "-a-b-c- 4"),
        ("('abc'):gsub('^a', 'x'), ('abc'):gsub('%w', '%0%0')", "xbc aabbcc 3"),
        ("('  trim '):gsub('^%s+', ''):gsub('%s+$', '')", "trim 1"),
        ("('abc'):match('()b()')", "2 3"),
        ("select(2, pcall(string.match, 'a', '[a'))", "malformed pattern (missing ']')"),
        ("select(2, pcall(string.match, 'a', '%'))", "malformed pattern (ends with '%')"),
        ("select(2, pcall(string.match, 'a', '('))", "unfinished capture"),
        (
            "(function() local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do \
          t[#t + 1] = k .. v end return table.concat(t, ' ') end)()",
            "a1 b2",
        ),
        ("ngx.http_time(0)", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("ngx.time() > 1e9 and ngx.now() >= ngx.time() - 1", "true"),
        ("#ngx.localtime()", "19"),
        ("ngx.HTTP_FORBIDDEN, ngx.ERR, ngx.get_phase()", "403 4 access"),
    ] {
        assert_eq!(check(&format!("return {expression}")), expected, "{expression}");
    }
}

#[test]
fn json_and_core_are_there() {
    for (body, expected) in [
        (
            "return require('cjson').encode({1, {a = 1.5}, 'ü\"\\n', true, ngx.null})",
            "[1,{\"a\":1.5},\"ü\\\"\\n\",true,null]",
        ),
        (
            "local j = require('cjson') return j.encode({}), j.encode(j.decode('[]')), \
          j.encode(j.empty_array)",
            "{} [] []",
        ),
        ("return require('cjson').decode('{\"a\":[1,null]}').a[2] == ngx.null", "true"),
        (
            "return select(2, pcall(require('cjson').encode, print)):match('Cannot serialise.*')",
            "Cannot serialise function: type not supported",
        ),
        ("local v, err = require('cjson.safe').decode('{') return v, err ~= nil", "nil true"),
        (
            "local c = require('apisix.core') return c.string.has_prefix('abc', 'ab'), \
          c.string.find('a.b', '.'), c.table.array_find({'x', 'y'}, 'y')",
            "true 2 2",
        ),
        (
            "local t = require('apisix.core').table local a = {1, {2}} local b = t.deepcopy(a) \
          return t.deep_eq(a, b), a == b, t.nkeys(b), t.try_read_attr(a, 2, 1)",
            "true false 2 2",
        ),
        ("return require('apisix.core.request').get_method()", "GET"),
        ("require('apisix.core').log.warn('a ', {1}, nil) ngx.log(ngx.ERR, 'b') return 1", "1"),
    ] {
        assert_eq!(check(body), expected, "{body}");
    }
}

#[test]
fn the_body_of_a_request_is_read() {
    let mut ctx = exchange("/");
    let mut with = |body: &str, code: &str| {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        ctx.payload.fill(Need::Any, crate::context::Limits::default(), Some(body));
        check_in(&mut ctx, &format!("local request = require('apisix.core').request {code}"))
    };
    let read = with("a=1&b=2", "return request.get_body(), request.get_post_args().b");
    assert_eq!(read, "a=1&b=2 2");
    assert_eq!(with("", "return ngx.req.get_body_data(), request.get_body()"), "nil nil nil");
    let too_large = "nil request size 3 is greater than the maximum size 2 allowed";
    assert_eq!(with("abc", "return request.get_body(2, ctx)"), too_large);
    assert_eq!(with("{\"a\":[1]}", "return request.get_json_request_body_table().a"), "[1]");
    let said = with("{", "return select(2, request.get_json_request_body_table()).message");
    assert!(said.starts_with("could not parse JSON request body: "), "{said}");
    let limits = crate::context::Limits { graphql: 1, post_args: 1 };
    ctx.payload.fill(Need::Any, limits, None);
    let said = check_in(&mut ctx, "return require('apisix.core').request.get_body()");
    assert!(said.contains("max_post_args_readable_size"), "{said}");
}

#[test]
fn a_piece_of_a_body_is_changed_and_one_that_fails_stays_what_it_was_made() {
    let filter = |text: &str, data: &'static str, is_last: bool| {
        let text = format!("return function(conf, ctx) {text} end");
        let function = Function::chunk(&text, None, "t", json!({}), QUICK).unwrap();
        let mut chunk = Chunk { data: data.into(), is_last };
        let went = function.filter_body(&exchange("/"), &mut chunk);
        (went, String::from_utf8(chunk.data.to_vec()).unwrap(), chunk.is_last)
    };
    let phase = "ngx.arg[1] = ngx.get_phase() .. tostring(ngx.arg[2]) .. ngx.arg[1]";
    assert_eq!(filter(phase, "a", false), (true, "body_filterfalsea".to_owned(), false));
    assert_eq!(filter("ngx.arg[1] = nil", "a", true), (true, String::new(), true));
    assert_eq!(filter("ngx.arg[2] = true", "a", false), (true, "a".to_owned(), true));
    assert_eq!(filter("ngx.arg[1] = 7 error('no')", "a", false), (false, "7".to_owned(), false));
    assert_eq!(filter("ngx.status = 201", "a", false), (false, "a".to_owned(), false));
    assert_eq!(filter("while true do end", "a", true), (false, "a".to_owned(), true));
}

#[test]
fn a_body_breaks_off_where_what_was_gathered_of_it_is_lost() {
    let text = "return function(conf, ctx)
        local body = require('apisix.core').response.hold_body_chunk(ctx)
        ngx.arg[1] = body end";
    let function = Function::chunk(text, None, "t", json!({}), QUICK).unwrap();
    let filter = |ctx: &Ctx, data: &'static str, is_last: bool| {
        let mut chunk = Chunk { data: data.into(), is_last };
        (function.filter_body(ctx, &mut chunk), chunk.data)
    };
    let ctx = exchange("/");
    assert_eq!(filter(&ctx, "one ", false), (true, "".into()));
    assert_eq!(filter(&ctx, "two", true), (true, "one two".into()));
    let ctx = exchange("/");
    assert_eq!(filter(&ctx, "one ", false), (true, "".into()));
    // Another state takes the place of this thread's.
    check_within(Limits::default(), &mut exchange("/"), "return 1");
    assert_eq!(filter(&ctx, "two", true), (false, "two".into()));
    assert_eq!(filter(&exchange("/"), "two", true), (true, "two".into()));
}

/// What a filter costs: `cargo test --release -- --ignored --nocapture a_call_costs`.
#[test]
#[ignore = "a measurement"]
fn a_call_costs() {
    let text = "function(vars) return vars.arg_name == \"json\" end";
    let function = Function::filter(text, "t", Limits::default()).unwrap();
    let serverless = "return function(conf, ctx) ngx.header['x-a'] = ctx.var.uri end";
    let serverless = Function::chunk(serverless, None, "t", json!({}), Limits::default()).unwrap();
    let calls = 1_000_000;
    let ctx = exchange("/?name=json");
    let began = std::time::Instant::now();
    for _ in 0..calls {
        assert!(function.accepts(&ctx));
    }
    println!("filter_func: {:?} a call", began.elapsed() / calls);
    let mut ctx = exchange("/?name=json");
    let began = std::time::Instant::now();
    for _ in 0..calls {
        serverless.call(Phase::Access, &mut ctx);
    }
    println!("serverless: {:?} a call", began.elapsed() / calls);
}
