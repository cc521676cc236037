//! Lua functions through the real binary: filter_func, the serverless plugins, `_meta.pre_function`.

use reqwest::{Response, redirect};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::proxy::upstream;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::raw;

const PRE: &str = "serverless-pre-function";
const POST: &str = "serverless-post-function";

/// A gateway of one worker, so that what stops a worker stops it all.
async fn of_one_worker() -> (Gateway, Origin) {
    let builder = Gateway::builder().config(|config| {
        config["nginx_config"]["worker_processes"] = json!(1);
        config["sluice"]["lua"] = json!({ "timeout": "50ms", "memory": "16m" });
    });
    (builder.start().await, Origin::start().await)
}

/// Puts a route for `uri` with `plugins`, and waits until it is served.
async fn put(gateway: &Gateway, origin: &Origin, uri: &str, plugins: Value) {
    let id = uri.trim_matches(['/', '*']).replace('/', "-");
    let route = json!({ "uri": uri, "plugins": plugins, "upstream": upstream(origin) });
    gateway.put_route(&id, route).await;
    gateway.routed(uri).await;
}

fn functions(phase: &str, functions: &[&str]) -> Value {
    json!({ "phase": phase, "functions": functions })
}

async fn text(response: Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_filter_func_chooses_among_routes_of_one_path() {
    let (gateway, origin) = of_one_worker().await;
    let route = |filter: &str, priority: i64| {
        let plugins = json!({ "proxy-rewrite": { "uri": format!("/anything/{priority}") } });
        json!({ "uri": "/get", "filter_func": filter, "priority": priority, "plugins": plugins,
                "upstream": upstream(&origin) })
    };
    let by_name = "function(vars) return vars.arg_name == \"json\" end";
    let by_user = "function(vars) return tonumber(vars.arg_userid) % 4 > 2; end";
    gateway.put_route("1", route(by_name, 2)).await;
    gateway.put_route("2", route(by_user, 1)).await;
    gateway.routed("/get?name=json").await;
    gateway.routed("/get?userid=3").await;
    let went_to = async |query: &str| {
        let status = gateway.get(&format!("/get?{query}")).await.status().as_u16();
        let seen = origin.seen();
        (status, seen.last().map(|seen| seen.uri.path().to_owned()))
    };
    assert_eq!(went_to("name=json&userid=3").await.1.as_deref(), Some("/anything/2"));
    assert_eq!(went_to("name=xml&userid=3").await.1.as_deref(), Some("/anything/1"));
    // The second fails where there is no number, and so matches nothing.
    assert_eq!(went_to("name=xml").await.0, 404);
    assert!(gateway.logs().contains("routes/2 filter_func"), "{}", gateway.logs());
}

#[tokio::test]
async fn what_is_no_lua_is_refused_with_field_and_line() {
    let gateway = Gateway::start().await;
    let origin = Origin::start().await;
    let refused = async |fields: Value| {
        let mut route = json!({ "uri": "/", "upstream": upstream(&origin) });
        for (name, value) in fields.as_object().unwrap() {
            route[name] = value.clone();
        }
        let (status, answer) = gateway.admin("PUT", "/routes/1", Some(route)).await;
        assert_eq!(status, 400, "{answer}");
        answer.to_string()
    };
    let said = refused(json!({ "filter_func": "function(vars) " })).await;
    assert!(said.contains("filter_func") && said.contains("'end' expected near '<eof>'"), "{said}");
    let said = refused(json!({ "plugins": { PRE: { "functions": ["local a = 1"] } } })).await;
    assert!(said.contains("functions/0") && said.contains("returns a nil"), "{said}");
    let said = refused(json!({ "plugins": { POST: functions("balancer", &["return print"]) } }));
    let said = said.await;
    assert!(said.contains("phase") && said.contains("body_filter"), "{said}");
    let meta = json!({ "key-auth": { "_meta": { "pre_function": "not a function" } } });
    let said = refused(json!({ "plugins": meta })).await;
    assert!(said.contains("_meta/pre_function") && said.contains("near 'not'"), "{said}");
    for field in ["script", "script_id"] {
        let said = refused(json!({ field: "local _M = {} return _M" })).await;
        // An id has no spaces, which is said first.
        assert!(said.contains(field), "{said}");
    }
    let said = refused(json!({ "script_id": "1" })).await;
    assert!(said.contains("serverless-pre-function"), "{said}");
}

#[tokio::test]
async fn functions_run_before_and_after_the_plugins_of_their_phase() {
    let (gateway, origin) = of_one_worker().await;
    let rewrite = json!({ "uri": "/anything/rewritten" });
    let plugins = json!({
        PRE: functions("rewrite", &[
            "return function(conf, ctx) ngx.req.set_header('x-pre', conf.phase) end",
            "local n = 0 return function() n = n + 1 ngx.log(ngx.WARN, 'seen ', n) end",
        ]),
        POST: functions("rewrite", &[
            "return function(conf, ctx) local core = require('apisix.core')
                core.request.set_header(ctx, 'x-post', ctx.curr_req_matched._path)
                ctx.var.told = ctx.var.upstream_uri end",
        ]),
        "proxy-rewrite": rewrite,
    });
    put(&gateway, &origin, "/get", plugins).await;
    assert_eq!(gateway.get("/get").await.status(), 200);
    let seen = origin.seen().pop().unwrap();
    assert_eq!(seen.uri.path(), "/anything/rewritten");
    assert_eq!(
        (&seen.headers["x-pre"], &seen.headers["x-post"]),
        (&"rewrite".parse().unwrap(), &"/get".parse().unwrap(),)
    );
    assert!(gateway.logs().contains("lua: seen 2"), "{}", gateway.logs());
}

#[tokio::test]
async fn functions_answer_instead_of_the_node() {
    let (gateway, origin) = of_one_worker().await;
    // `https://foo.com` is not followed.
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let get = async |uri: &str| client.get(gateway.http_url(uri)).send().await.unwrap();
    let answers = async |uri: &str, functions: &[&str]| {
        let plugins = json!({ POST: { "functions": functions } });
        let route = json!({ "uri": uri, "plugins": plugins, "upstream": upstream(&origin) });
        gateway.put_route(uri.trim_matches('/'), route).await;
        eventually(uri, || async { get(uri).await.status() != 404 }).await;
        let response = get(uri).await;
        assert_eq!(origin.requests(), 0, "{uri} went to the node");
        response
    };
    let unreachable = "return function() ngx.log(ngx.ERR, 'unreachable') end";
    let forbidden = "return function(conf, ctx) return 403, 'forbidden' end";
    let response = answers("/a", &[forbidden, unreachable]).await;
    assert_eq!(text(response).await, (403, "forbidden".to_owned()));
    let created = "return function() ngx.exit(201) end";
    assert_eq!(text(answers("/b", &[created]).await).await, (201, String::new()));
    let moved = "return function() if ngx.var.scheme == \"http\" and ngx.var.host == \"127.0.0.1\"
        then ngx.header[\"Location\"] = \"https://foo.com\" .. ngx.var.request_uri
        ngx.exit(ngx.HTTP_MOVED_PERMANENTLY) end end";
    let response = answers("/c", &[moved]).await;
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()["location"], "https://foo.com/c");
    let said = ["return function() ngx.say('one') end", "return function() ngx.say('two') end"];
    assert_eq!(text(answers("/d", &said).await).await, (200, "one\ntwo\n".to_owned()));
    let exit = "return function(conf, ctx) local core = require(\"apisix.core\")
        if core.request.header(ctx, \"Authorization\") ~= \"123\" then
            core.response.set_header(\"X-Forward-Auth\", \"Fail\") core.response.exit(403) end end";
    let response = answers("/e", &[exit]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-forward-auth"]),
        (403, &"Fail".parse().unwrap(),)
    );
    let broken = "return function() error('no') end";
    assert_eq!(answers("/f", &[broken]).await.status(), 500);
    assert!(!gateway.logs().contains("unreachable"));
}

#[tokio::test]
async fn nginx_tells_the_path_as_it_was_rewritten_and_apisix_as_it_was_routed() {
    let (gateway, origin) = of_one_worker().await;
    let tell = "return function(conf, ctx) ngx.say(ngx.var.uri, ' ', ctx.var.uri) end";
    for (uri, rewrite, told) in [
        ("/whole", json!({ "uri": "/anything/x?y=1", "host": "test.com:6443" }), "/anything/x"),
        ("/part", json!({ "regex_uri": ["^/p(.*)", "/get/$1 t"] }), "/get/art%20t"),
        ("/as-sent", json!({ "uri": "/get", "use_real_request_uri_unsafe": true }), "/as-sent"),
        ("/none", json!({ "host": "test.com" }), "/none"),
    ] {
        let plugins = json!({ "proxy-rewrite": rewrite, POST: functions("access", &[tell]) });
        put(&gateway, &origin, uri, plugins).await;
        let said = text(gateway.get(&format!("{uri}?z=2")).await).await;
        assert_eq!(said, (200, format!("{told} {uri}\n")));
    }
}

#[tokio::test]
async fn two_that_say_something_are_heard_in_order_of_their_priority() {
    let (gateway, origin) = of_one_worker().await;
    let says = |name: &str, priority: i64| {
        let mut config =
            functions("rewrite", &[&format!("return function() ngx.say('{name}') end")]);
        config["_meta"] = json!({ "priority": priority });
        config
    };
    put(&gateway, &origin, "/x", json!({ PRE: says("pre", -2000), POST: says("post", 10000) }))
        .await;
    assert_eq!(text(gateway.get("/x").await).await, (200, "post\npre\n".to_owned()));
}

#[tokio::test]
async fn a_head_is_filtered_and_one_that_could_not_be_is_not_shown() {
    let (gateway, origin) = of_one_worker().await;
    let filter = "return function() ngx.header['X-Seen'] = ngx.status ngx.header.content_type = nil
        ngx.header.content_length = 1 end";
    put(&gateway, &origin, "/get", json!({ PRE: functions("header_filter", &[filter]) })).await;
    let response = gateway.get("/get").await;
    assert_eq!(response.headers()["x-seen"], "200");
    assert!(!response.headers().contains_key("content-type"));
    assert!(response.text().await.unwrap().len() > 1, "framing is the gateway's own");
    let broken = "return function() ngx.header['X-Seen'] = nil .. '' end";
    put(&gateway, &origin, "/anything", json!({ PRE: functions("header_filter", &[broken]) }))
        .await;
    let (status, body) = text(gateway.get("/anything").await).await;
    assert_eq!(status, 500);
    assert!(body.contains("500 Internal Server Error"), "{body}");
}

#[tokio::test]
async fn functions_see_and_change_what_plugins_have_set_of_the_response() {
    let (gateway, origin) = of_one_worker().await;
    let limit =
        json!({ "count": 3, "time_window": 600, "key": "http_x_who", "rejected_code": 429 });
    let hears = "return function() ngx.header['X-Heard'] = ngx.header['X-RateLimit-Limit'] end";
    let sees = "return function() ngx.header['X-Seen'] = ngx.header['X-RateLimit-Remaining']
        ngx.header['X-RateLimit-Limit'] = 'many' ngx.header['X-RateLimit-Reset'] = nil end";
    let tells = "return function() ngx.log(ngx.WARN, 'left ', ngx.header['X-RateLimit-Remaining'],
        ' of ', ngx.header['X-RateLimit-Limit']) end";
    let in_log = json!({
        "limit-count": limit, PRE: functions("header_filter", &[sees]), POST: functions("log", &[tells]),
    });
    put(&gateway, &origin, "/get", in_log).await;
    let before = "return function() if ngx.get_phase() == 'log' then
        ngx.log(ngx.WARN, 'before: ', ngx.header['X-Heard']) end end";
    let mut heard = functions("access", &[hears]);
    heard["_meta"] = json!({ "pre_function": before });
    let in_access = json!({ "limit-count": limit, POST: heard });
    put(&gateway, &origin, "/headers", in_access).await;
    let get = async |uri: &str| {
        let request = gateway.client().get(gateway.http_url(uri)).header("x-who", "one");
        request.send().await.unwrap()
    };
    let told = |response: &Response| {
        ["x-heard", "x-seen", "x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| {
            let value = response.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        })
    };
    assert_eq!(told(&get("/headers").await), ["3", "", "3", "2"]);
    // The refusal too, which no node has answered.
    for (status, left) in [(200, "2"), (200, "1"), (200, "0"), (429, "0")] {
        let response = get("/get").await;
        assert_eq!(response.status(), status);
        assert_eq!(told(&response), ["", left, "many", left]);
        assert!(!response.headers().contains_key("x-ratelimit-reset"));
    }
    for line in ["lua: left 2 of many", "lua: before: 3"] {
        eventually(line, || async { gateway.logs().contains(line) }).await;
    }
}

/// Marks the pieces that it sees, and the end.
const MARKS: &str = "return function()
    ngx.arg[1] = ngx.arg[1]:upper() .. (ngx.arg[2] and '!' or '')
end";

#[tokio::test]
async fn a_body_is_filtered_as_it_passes_and_loses_its_length() {
    let (gateway, origin) = of_one_worker().await;
    put(&gateway, &origin, "/bytes/*", json!({ PRE: functions("body_filter", &[MARKS]) })).await;
    put(&gateway, &origin, "/stream/*", json!({ PRE: functions("body_filter", &[MARKS]) })).await;
    put(&gateway, &origin, "/status/*", json!({ PRE: functions("body_filter", &[MARKS]) })).await;
    put(&gateway, &origin, "/get", json!({ PRE: functions("access", &["return print"]) })).await;
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [gateway.client(), &h2] {
        let get = async |uri: &str| client.get(gateway.http_url(uri)).send().await.unwrap();
        let (plain, filtered) = (get("/get").await, get("/bytes/3").await);
        assert!(plain.headers().contains_key("content-length"), "{plain:?}");
        assert!(!filtered.headers().contains_key("content-length"), "{filtered:?}");
        assert!(filtered.text().await.unwrap().ends_with('!'));
        let streamed = text(get("/stream/3/4?ms=5").await).await;
        assert_eq!(streamed, (200, "XXXXXXXXXXXX!".to_owned()));
        // The end alone is a piece too; where there can be no body there is none.
        assert_eq!(text(get("/status/418").await).await, (418, "!".to_owned()));
        assert_eq!(text(get("/status/204").await).await, (204, String::new()));
        let head = client.head(gateway.http_url("/bytes/3")).send().await.unwrap();
        assert!(!head.headers().contains_key("content-length"), "{head:?}");
        assert_eq!(text(head).await, (200, String::new()));
    }
    let old = "GET /stream/2/2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let old = raw::send(gateway.ports().http, old).await;
    assert!(old.ends_with("\r\n\r\nXXXX!"), "{old}");
}

#[tokio::test]
async fn a_body_is_gathered_replaced_and_cut_short() {
    let (gateway, origin) = of_one_worker().await;
    let gathers = "local core = require('apisix.core') return function(conf, ctx)
        local body = core.response.hold_body_chunk(ctx)
        if body then
            ngx.arg[1] = ('%d bytes of %s, %d'):format(#body, ngx.header.x_origin, ngx.status)
        end end";
    let starts = "local core = require('apisix.core') return function(conf, ctx)
        local start = core.response.hold_body_chunk(ctx, true, 5, 'mine')
        if start then ngx.log(ngx.WARN, 'it starts with ', start) end end";
    let tells = "return function() ngx.log(ngx.WARN, 'sent ', ngx.var.body_bytes_sent) end";
    let both = json!({
        PRE: functions("body_filter", &[starts, gathers]), POST: functions("log", &[tells]),
    });
    put(&gateway, &origin, "/stream/3/4", both).await;
    let gathered = text(gateway.get("/stream/3/4").await).await;
    assert_eq!(gathered, (200, "12 bytes of origin, 200".to_owned()));
    eventually("the log", || async { gateway.logs().contains("lua: sent 23") }).await;
    assert!(gateway.logs().contains("lua: it starts with xxxxx"), "{}", gateway.logs());
    // A function may have had enough; its connection serves on.
    let cuts = "return function() ngx.arg[1], ngx.arg[2] = {'only ', 'this'}, true end";
    put(&gateway, &origin, "/stream/*", json!({ PRE: functions("body_filter", &[cuts]) })).await;
    for _ in 0..2 {
        let cut = text(gateway.get("/stream/100/4").await).await;
        assert_eq!(cut, (200, "only this".to_owned()));
    }
    // What the gateway itself says goes the same way.
    let refuses = json!({
        POST: functions("access", &["return function() return 403, 'no' end"]),
        PRE: functions("body_filter", &[MARKS]),
    });
    put(&gateway, &origin, "/x", refuses).await;
    assert_eq!(text(gateway.get("/x").await).await, (403, "NO!".to_owned()));
}

/// With its unwinder in it, LuaJIT aborts a program that is built with `panic = "abort"` at the first
/// error of a function: cargo does not notice that the flag of .cargo/config.toml has changed.
#[test]
fn luajit_is_built_without_its_unwinder() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_sluice")).unwrap();
    let has = |name: &str| memchr::memmem::find(&program, name.as_bytes()).is_some();
    assert!(has("lj_err_throw"), "a program whose names can be read");
    assert!(!has("lj_err_unwind_dwarf"), "run `cargo clean -p mlua-sys` and build again");
}

#[tokio::test]
async fn a_body_whose_filter_fails_breaks_off() {
    let (gateway, origin) = of_one_worker().await;
    let hides = "return function() if ngx.arg[2] then ngx.arg[1] = nil .. '' end end";
    let changes = "return function() ngx.header['X-Late'] = 'yes' end";
    let hoards = "return function() hoard = {} for i = 1, 1e9 do hoard[i] = ngx.md5(i) end end";
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let before = "return function() if ngx.get_phase() == 'body_filter' then error('') end end";
    let before = json!({ "phase": "body_filter", "functions": ["return function() end"],
                         "_meta": { "pre_function": before } });
    let filters = [changes, hides, hoards].map(|broken| functions("body_filter", &[broken]));
    for (number, broken) in filters.into_iter().chain([before]).enumerate() {
        let uri = format!("/bytes/{}", number + 1);
        put(&gateway, &origin, &uri, json!({ PRE: broken.clone() })).await;
        // To HTTP/1.0 the end of the connection is the end of a body.
        let at = ("127.0.0.1", gateway.ports().http);
        let mut old = TcpStream::connect(at).await.unwrap();
        old.write_all(format!("GET {uri} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let ended = old.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset, "{broken}");
        for client in [gateway.client(), &h2] {
            let response = client.get(gateway.http_url(&uri)).send().await;
            let body = match response {
                Ok(response) => response.text().await,
                Err(error) => Err(error),
            };
            assert!(body.is_err(), "{broken}: {body:?}");
        }
    }
    let log = gateway.logs();
    // Of each second the first failure is written down.
    assert!(log.contains("nothing of the exchange can be changed in this phase"), "{log}");
}

#[tokio::test]
async fn functions_read_the_body_of_a_request_which_still_reaches_the_node() {
    let (gateway, origin) = of_one_worker().await;
    let reads = "return function(conf, ctx) local core = require('apisix.core')
        ngx.req.read_body()
        ngx.req.set_header('x-data', ngx.req.get_body_data() or 'none')
        ngx.req.set_header('x-small', tostring((core.request.get_body(3, ctx))))
        ngx.req.set_header('x-field', ngx.req.get_post_args().a or 'none') end";
    put(&gateway, &origin, "/echo", json!({ PRE: functions("rewrite", &[reads]) })).await;
    let post = async |uri: &str, body: &'static str| {
        gateway.client().post(gateway.http_url(uri)).body(body).send().await.unwrap()
    };
    assert_eq!(text(post("/echo", "a=1&b=2").await).await, (200, "a=1&b=2".to_owned()));
    let seen = origin.seen().pop().unwrap().headers;
    assert_eq!(
        (&seen["x-data"], &seen["x-small"], &seen["x-field"]),
        (&"a=1&b=2".parse().unwrap(), &"nil".parse().unwrap(), &"1".parse().unwrap(),)
    );
    post("/echo", "").await;
    assert_eq!(origin.seen().pop().unwrap().headers["x-data"], "none");
    // Also while the route is looked for.
    let by_body = "function() return ngx.req.get_body_data() == 'mine' end";
    let plugins = json!({ "proxy-rewrite": { "uri": "/anything/mine" } });
    let route = json!({ "uri": "/post", "filter_func": by_body, "priority": 1, "plugins": plugins,
                        "upstream": upstream(&origin) });
    gateway.put_route("mine", route).await;
    put(&gateway, &origin, "/post", json!({})).await;
    for (body, path) in [("mine", "/anything/mine"), ("theirs", "/post")] {
        let echo: Value = post("/post", body).await.json().await.unwrap();
        assert_eq!((&echo["uri"], &echo["body"]), (&json!(path), &json!(body)));
    }
    // Who does not name it does not have it, and is told so.
    let hidden = "return function() return 200, ngx.req['get_' .. 'body_data']() end";
    put(&gateway, &origin, "/hidden", json!({ PRE: { "functions": [hidden] } })).await;
    assert_eq!(post("/hidden", "x").await.status(), 500);
    assert!(gateway.logs().contains("the request's body was not read"), "{}", gateway.logs());
}

#[tokio::test]
async fn a_pre_function_runs_before_its_plugin_and_can_make_up_a_variable() {
    let (gateway, origin) = of_one_worker().await;
    let register = "return function(conf, ctx) local core = require \"apisix.core\"
        core.ctx.register_var(\"example_var_name\", function(ctx) return \"example_var_value\" end)
        end";
    let rewrite = json!({
        "uri": "/anything/x", "headers": { "set": { "x-api": "$example_var_name" } },
        "_meta": { "pre_function": register }
    });
    put(&gateway, &origin, "/get", json!({ "proxy-rewrite": rewrite })).await;
    gateway.get("/get").await;
    assert_eq!(origin.seen().pop().unwrap().headers["x-api"], "example_var_value");
    // One that fails is told of, and its plugin runs.
    let broken = "return function() print(invalid.index) end";
    let rewrite = json!({ "uri": "/anything/y", "_meta": { "pre_function": broken } });
    put(&gateway, &origin, "/put", json!({ "proxy-rewrite": rewrite })).await;
    gateway.get("/put").await;
    assert_eq!(origin.seen().pop().unwrap().uri.path(), "/anything/y");
    let log = gateway.logs();
    assert!(log.contains("attempt to index global 'invalid' (a nil value)"), "{log}");
}

#[tokio::test]
async fn an_endless_loop_and_a_memory_bomb_do_not_stop_other_requests() {
    let (gateway, origin) = of_one_worker().await;
    let looping = "return function() while true do pcall(function() while true do end end) end end";
    let bomb = "return function() local t = {} for i = 1, 1e9 do t[i] = ngx.md5(i) end end";
    put(&gateway, &origin, "/get", json!({})).await;
    let looping = json!({ PRE: { "functions": [looping] } });
    let bomb = json!({ PRE: { "functions": [bomb] } });
    put(&gateway, &origin, "/loop", looping).await;
    put(&gateway, &origin, "/bomb", bomb).await;
    let filter = "function(vars) while true do end end";
    let filtered = json!({ "uri": "/get", "filter_func": filter, "priority": 9,
                           "upstream": upstream(&origin) });
    gateway.put_route("filtered", filtered).await;
    let bad = (0..4).flat_map(|_| ["/loop", "/bomb"]).map(|path| gateway.get(path));
    let good = (0..4).map(|_| gateway.get("/get"));
    let (bad, good) =
        tokio::join!(futures_util::future::join_all(bad), futures_util::future::join_all(good));
    assert!(bad.iter().all(|response| response.status() == 500), "{bad:?}");
    assert!(good.iter().all(|response| response.status() == 200), "{good:?}");
    assert_eq!(gateway.get("/get").await.status(), 200);
    assert!(gateway.logs().contains("sluice.lua.timeout"), "{}", gateway.logs());
}
