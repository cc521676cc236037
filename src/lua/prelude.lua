-- Builds, of what Rust gives, the names that functions know: `ngx`, `require` and what it gives.
-- Takes away from the standard library what leaves the sandbox.

local host = ...

-- Those of C are not interrupted.
string.find, string.match, string.gmatch, string.gsub =
    host.string_find, host.string_match, host.string_gmatch, host.string_gsub

local error, getmetatable, ipairs, next, pairs, pcall =
    error, getmetatable, ipairs, next, pairs, pcall
local getfenv, rawget, rawset, select, setfenv, setmetatable, tonumber, tostring, type, unpack =
    getfenv, rawget, rawset, select, setfenv, setmetatable, tonumber, tostring, type, unpack
local concat, sort = table.concat, table.sort
local find, gsub, lower, sub = string.find, string.gsub, string.lower, string.sub
local floor = math.floor
local null = host.null
-- What every function sees behind its own globals.
local shared = _G

-- Ends a function that has asked for the end of its exchange.
local ENDED = "ended"

-- The standard library -----------------------------------------------------------------------------

-- What C does at once is not interrupted: who begins it a thousand times is.
local function watched(f)
    return function(...)
        host.look()
        return f(...)
    end
end
table.concat, table.sort, string.rep = watched(concat), watched(sort), watched(string.rep)

local insert, remove = table.insert, table.remove
function table.insert(tab, ...)
    if select("#", ...) > 1 then
        local place = tonumber((...))
        if place and place < 1 then
            -- LuaJIT would move every place from there to the end, of which there are billions.
            error("bad argument #2 to 'insert' (position out of bounds)", 2)
        end
        host.look()
    end
    return insert(tab, ...)
end

function table.remove(tab, ...)
    if select("#", ...) > 0 then
        host.look()
    end
    return remove(tab, ...)
end

-- A finalizer runs unseen by the clock, and `newproxy` alone could make one.
for _, name in ipairs { "dofile", "loadfile", "load", "module", "newproxy", "gcinfo" } do
    _G[name] = nil
end
string.dump = nil
os = { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime }

local memory = collectgarbage
function collectgarbage(what)
    return what == "count" and memory("count") or 0
end

-- Its globals are those of the function that loads it, whatever another has done to the thread's.
local function loaded(globals, text, name)
    local chunk, wrong = host.load(text, name or text)
    if chunk then
        setfenv(chunk, globals)
    end
    return chunk, wrong
end

-- A function that has ended in a tail call has left nothing at its level.
local function of_caller()
    local known, globals = pcall(getfenv, 4)
    return known and globals or shared
end

function loadstring(text, name)
    return loaded(of_caller(), text, name)
end

function load(text, name, _, globals)
    if type(text) ~= "string" then
        error("load: expected a text, got a " .. type(text), 2)
    end
    return loaded(globals or of_caller(), text, name)
end

-- What is over cannot be caught.
local function passed(ok, ...)
    if ok then
        return ok, ...
    elseif host.is_ending() then
        error(ENDED, 0)
    end
    return ok, host.message(...)
end

function _G.pcall(f, ...)
    return passed(pcall(f, ...))
end

-- The handler is called after the error has unwound: before, while a hook's error is on its way, Lua
-- calls no hooks, and a handler that does not end would not be ended.
local function handled(handler, ok, ...)
    if ok then
        return ok, ...
    end
    return false, handler(...)
end

function xpcall(f, handler, ...)
    return handled(handler, passed(pcall(f, ...)))
end

local resume = coroutine.resume
function coroutine.resume(thread, ...)
    return passed(resume(thread, ...))
end

-- Text ---------------------------------------------------------------------------------------------

local function flatten(value, into, of_nil)
    local kind = type(value)
    if kind == "table" and not (getmetatable(value) or {}).__tostring then
        for _, item in ipairs(value) do
            flatten(item, into, of_nil)
        end
    elseif value == null then
        into[#into + 1] = "null"
    else
        into[#into + 1] = tostring(value)
    end
end

local function join(...)
    local parts = {}
    for index = 1, select("#", ...) do
        flatten((select(index, ...)), parts)
    end
    return concat(parts)
end

local function decode_args(query, most)
    local args, count = {}, 0
    most = most or 100
    for pair in string.gmatch(query or "", "[^&]+") do
        count = count + 1
        if most > 0 and count > most then
            return args, "truncated"
        end
        local at = find(pair, "=", 1, true)
        local name = host.unescape_uri(at and sub(pair, 1, at - 1) or pair)
        local value = at and host.unescape_uri(sub(pair, at + 1)) or true
        local known = args[name]
        if name == "" then
            -- Nothing to call it by.
        elseif known == nil then
            args[name] = value
        elseif type(known) == "table" then
            known[#known + 1] = value
        else
            args[name] = { known, value }
        end
    end
    return args
end

local function encode_args(args)
    local parts, names = {}, {}
    for name in pairs(args) do
        names[#names + 1] = name
    end
    sort(names, function(a, b) return tostring(a) < tostring(b) end)
    local function add(name, value)
        if value == true then
            parts[#parts + 1] = name
        elseif value ~= false then
            parts[#parts + 1] = name .. "=" .. host.escape_uri(tostring(value))
        end
    end
    for _, key in ipairs(names) do
        local name, value = host.escape_uri(tostring(key)), args[key]
        if type(value) == "table" then
            for _, item in ipairs(value) do
                add(name, item)
            end
        else
            add(name, value)
        end
    end
    return concat(parts, "&")
end

-- ngx ----------------------------------------------------------------------------------------------

ngx = {
    null = null,
    OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
    HTTP_CONTINUE = 100, HTTP_SWITCHING_PROTOCOLS = 101,
    HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202, HTTP_NO_CONTENT = 204,
    HTTP_PARTIAL_CONTENT = 206, HTTP_SPECIAL_RESPONSE = 300, HTTP_MOVED_PERMANENTLY = 301,
    HTTP_MOVED_TEMPORARILY = 302, HTTP_SEE_OTHER = 303, HTTP_NOT_MODIFIED = 304,
    HTTP_TEMPORARY_REDIRECT = 307, HTTP_PERMANENT_REDIRECT = 308, HTTP_BAD_REQUEST = 400,
    HTTP_UNAUTHORIZED = 401, HTTP_PAYMENT_REQUIRED = 402, HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404, HTTP_NOT_ALLOWED = 405, HTTP_NOT_ACCEPTABLE = 406,
    HTTP_REQUEST_TIMEOUT = 408, HTTP_CONFLICT = 409, HTTP_GONE = 410, HTTP_UPGRADE_REQUIRED = 426,
    HTTP_TOO_MANY_REQUESTS = 429, HTTP_CLOSE = 444, HTTP_ILLEGAL = 451,
    HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_NOT_IMPLEMENTED = 501,
    HTTP_METHOD_NOT_IMPLEMENTED = 501, HTTP_BAD_GATEWAY = 502, HTTP_SERVICE_UNAVAILABLE = 503,
    HTTP_GATEWAY_TIMEOUT = 504, HTTP_VERSION_NOT_SUPPORTED = 505, HTTP_INSUFFICIENT_STORAGE = 507,
    md5 = host.md5, md5_bin = host.md5_bin, sha1_bin = host.sha1_bin, hmac_sha1 = host.hmac_sha1,
    encode_base64 = host.encode_base64, decode_base64 = host.decode_base64,
    escape_uri = host.escape_uri, unescape_uri = host.unescape_uri,
    encode_args = encode_args, decode_args = decode_args,
    now = host.now, get_phase = host.phase,
}

local methods = {}
for index, name in ipairs {
    "GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND",
    "PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE",
} do
    local bit = 2 ^ index
    ngx["HTTP_" .. name], methods[bit] = bit, name
end

ngx.var = setmetatable({}, { __index = host.nginx_variable, __newindex = host.set_variable })

-- `ctx.var`: APISIX's own, which go on telling the request as it was routed.
local vars = setmetatable({}, { __index = host.variable, __newindex = host.set_variable })

function ngx.time()
    return floor(host.now())
end

function ngx.update_time() end

function ngx.today()
    return os.date("!%Y-%m-%d")
end

function ngx.localtime()
    return os.date("!%Y-%m-%d %H:%M:%S")
end

ngx.utctime = ngx.localtime

function ngx.http_time(second)
    return os.date("!%a, %d %b %Y %H:%M:%S GMT", second)
end

function ngx.cookie_time(second)
    return os.date("!%a, %d-%b-%y %H:%M:%S GMT", second)
end

function ngx.log(level, ...)
    host.log(level, join(...))
end

function print(...)
    host.log(ngx.NOTICE, join(...))
end

function ngx.print(...)
    host.print(join(...))
    return 1
end

function ngx.say(...)
    host.print(join(...) .. "\n")
    return 1
end

function ngx.flush()
    return 1
end

function ngx.eof()
    return 1
end

function ngx.send_headers()
    return 1
end

function ngx.exit(code)
    host.exit(code)
    error(ENDED, 0)
end

function ngx.redirect(uri, status)
    host.set_response_header("location", uri, false)
    ngx.exit(status or 302)
end

local function header_name(name)
    return (gsub(tostring(name), "_", "-"))
end

ngx.header = setmetatable({}, {
    __index = function(_, name) return host.response_header(header_name(name)) end,
    __newindex = function(_, name, value)
        host.set_response_header(header_name(name), value, false)
    end,
})

-- Names in any case, and with `_` for `-`.
local by_any_name = {
    __index = function(headers, name)
        if type(name) == "string" then
            return rawget(headers, (gsub(lower(name), "_", "-")))
        end
    end,
}

ngx.req = {
    get_method = host.method,
    http_version = host.http_version,
    set_header = function(name, value) host.set_header(name, value, false) end,
    clear_header = function(name) host.set_header(name, nil, false) end,
    get_headers = function() return setmetatable(host.headers(), by_any_name) end,
    get_uri_args = function(most) return decode_args(host.query(), most) end,
    read_body = function() host.body() end,
    get_body_data = function() return (host.body()) end,
    -- No body goes to a file.
    get_body_file = function() end,
    get_post_args = function(most) return decode_args(host.body(), most) end,
    set_uri_args = function(args)
        host.set_query(type(args) == "table" and encode_args(args) or tostring(args))
    end,
    set_uri = function(uri, jump)
        if jump then
            error("ngx.req.set_uri: the route is found already, so there is no jump", 2)
        end
        host.set_path(uri)
    end,
    set_method = function(method)
        host.set_method(methods[method] or error("ngx.req.set_method: expected ngx.HTTP_…", 2))
    end,
    is_internal = function() return false end,
    start_time = function() return host.now() - host.start_time() end,
}

ngx.resp = {
    get_headers = function() return setmetatable(host.response_headers(), by_any_name) end,
    add_header = function(name, value) host.set_response_header(name, value, true) end,
}

ngx.arg = setmetatable({}, {
    __index = function(_, index)
        local data, is_last = host.chunk()
        if index == 1 then
            return data
        elseif index == 2 then
            return is_last
        end
    end,
    __newindex = function(_, index, value)
        if index == 1 then
            host.set_chunk(value ~= nil and join(value) or nil)
        elseif index == 2 then
            host.set_last(value)
        end
    end,
})

ngx.config = { subsystem = "http", debug = false }
ngx.worker = { exiting = function() return false end }

-- Regular expressions ------------------------------------------------------------------------------

local re = {}
ngx.re = re

function re.match(subject, pattern, options, context)
    local groups, _, last, wrong = host.match(tostring(subject), pattern, options or "",
        context and context.pos or 1)
    if groups and context then
        context.pos = last + 1
    end
    return groups, wrong
end

function re.find(subject, pattern, options, context, group)
    if group and group > 0 then
        error("ngx.re.find: only the whole match is found here, not a group", 2)
    end
    local groups, first, last, wrong = host.match(tostring(subject), pattern, options or "",
        context and context.pos or 1)
    if not groups then
        return nil, nil, wrong
    end
    if context then
        context.pos = last + 1
    end
    return first, last
end

function re.gmatch(subject, pattern, options)
    local at = 1
    subject = tostring(subject)
    return function()
        if at > #subject + 1 then
            return nil
        end
        local groups, first, last, wrong = host.match(subject, pattern, options or "", at)
        if not groups then
            at = #subject + 2
            return nil, wrong
        end
        at = last >= first and last + 1 or first + 1
        return groups
    end
end

-- Puts groups into a replacement: `$1`, `${1}`, `$$`.
local function expand(template, groups)
    local expanded = gsub(template, "%$({?)([%w_$]+)(}?)", function(open, name, close)
        local rest = ""
        if sub(name, 1, 1) == "$" then
            return "$" .. open .. sub(name, 2) .. close
        end
        if open == "" then
            local digits = string.match(name, "^%d+")
            if digits then
                name, rest = digits, sub(name, #digits + 1)
            end
            rest = rest .. close
        end
        return (groups[tonumber(name) or name] or "") .. rest
    end)
    return expanded
end

local function substitute(subject, pattern, replacement, options, most)
    subject = tostring(subject)
    local parts, at, from, count = {}, 1, 1, 0
    while from <= #subject + 1 and count < most do
        local groups, first, last, wrong = host.match(subject, pattern, options or "", from)
        if wrong then
            return nil, nil, wrong
        end
        if not groups then
            break
        end
        count = count + 1
        parts[#parts + 1] = sub(subject, at, first - 1)
        parts[#parts + 1] = type(replacement) == "function" and tostring(replacement(groups))
            or expand(tostring(replacement), groups)
        at = last + 1
        from = last >= first and last + 1 or first + 1
    end
    parts[#parts + 1] = sub(subject, at)
    return concat(parts), count
end

function re.sub(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, 1)
end

function re.gsub(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, 1 / 0)
end

local re_module = setmetatable({ opt = function() end }, { __index = re })

function re_module.split(subject, pattern, options, _, most)
    local parts, at, from = {}, 1, 1
    while from <= #subject and not (most and most > 0 and #parts + 1 >= most) do
        local groups, first, last, wrong = host.match(subject, pattern, options or "", from)
        if wrong then
            return nil, wrong
        end
        if not groups then
            break
        end
        if last >= first then
            parts[#parts + 1] = sub(subject, at, first - 1)
            at, from = last + 1, last + 1
        else
            if first > #subject then
                break
            end
            if first > at then
                parts[#parts + 1] = sub(subject, at, first - 1)
                at = first
            end
            from = first + 1
        end
    end
    parts[#parts + 1] = sub(subject, at)
    return parts
end

-- What ngx has only while it is asked, and what it does not have ---------------------------------

local absent = {
    location = "a function cannot send requests",
    run_worker_thread = "a function cannot wait",
    shared = "functions of one worker share nothing with other workers",
    sleep = "a function cannot wait",
    socket = "a function cannot open connections",
    thread = "a function cannot wait",
    timer = "a function cannot leave work for later",
    exec = "there are no locations",
    on_abort = "a function does not wait for the client",
}

setmetatable(ngx, {
    __index = function(_, name)
        if name == "status" then
            return host.status()
        elseif name == "ctx" then
            return host.context()
        elseif name == "headers_sent" then
            return host.has_printed()
        elseif absent[name] then
            error("ngx." .. name .. " is not there: " .. absent[name], 2)
        end
    end,
    __newindex = function(self, name, value)
        if name == "status" then
            host.set_status(value)
        elseif name == "ctx" then
            local context = host.context()
            for key in pairs(context) do
                context[key] = nil
            end
            for key, item in pairs(value) do
                context[key] = item
            end
        else
            rawset(self, name, value)
        end
    end,
})

local no_body = "a request's body can be read, not changed"
setmetatable(ngx.req, {
    __index = function(_, name)
        if find(name, "body", 1, true) or name == "socket" then
            error("ngx.req." .. name .. " is not there: " .. no_body, 2)
        end
    end,
})

-- ctx ----------------------------------------------------------------------------------------------

local api = {
    __index = function(_, name)
        if name == "var" then
            return vars
        end
        return host.fact(name)
    end,
}

local function fresh()
    local ctx = setmetatable({}, api)
    return { api_ctx = ctx }, ctx
end

-- JSON ---------------------------------------------------------------------------------------------

local safe = {
    null = null, array_mt = host.list, empty_array_mt = host.list,
    empty_array = setmetatable({}, host.list),
    encode = host.encode, decode = host.decode,
}
for _, name in ipairs {
    "encode_sparse_array", "encode_max_depth", "encode_empty_table_as_object",
    "encode_number_precision", "encode_escape_forward_slash", "decode_max_depth",
    "decode_invalid_numbers", "decode_array_with_array_mt", "encode_invalid_numbers",
    "encode_keep_buffer",
} do
    safe[name] = function() end
end

local cjson = setmetatable({
    encode = function(value)
        local text, wrong = host.encode(value)
        return text or error(wrong, 2)
    end,
    decode = function(text)
        local value, wrong = host.decode(text)
        if wrong then
            error(wrong, 2)
        end
        return value
    end,
}, { __index = safe })
safe.new, cjson.new = function() return safe end, function() return cjson end

-- apisix.core --------------------------------------------------------------------------------------

local core = {}

core.json = {
    encode = host.encode, decode = host.decode, array_mt = host.list,
    delay_encode = function(value)
        return setmetatable({}, { __tostring = function() return host.encode(value) end })
    end,
}

core.log = {}
for name, level in pairs {
    stderr = 0, emerg = 1, alert = 2, crit = 3, error = 4, warn = 5, notice = 6, info = 7,
    debug = 8,
} do
    core.log[name] = function(...) host.log(level, join(...)) end
end

core.string = setmetatable({
    find = function(text, what, from) return find(text, what, from or 1, true) end,
    has_prefix = function(text, prefix) return sub(text, 1, #prefix) == prefix end,
    has_suffix = function(text, suffix)
        return suffix == "" or sub(text, -#suffix) == suffix
    end,
    rfind_char = function(text, char, from)
        for at = from or #text, 1, -1 do
            if sub(text, at, at) == char then
                return at
            end
        end
    end,
    encode_args = encode_args,
    decode_args = function(args) return decode_args(args, 0) end,
}, { __index = string })

local tables = setmetatable({
    new = function() return {} end,
    clear = function(tab)
        for key in pairs(tab) do
            tab[key] = nil
        end
    end,
    nkeys = function(tab)
        local count = 0
        for _ in pairs(tab) do
            count = count + 1
        end
        return count
    end,
    isempty = function(tab) return next(tab) == nil end,
    isarray = function(tab)
        local count = 0
        for key in pairs(tab) do
            if type(key) ~= "number" or key < 1 or key ~= floor(key) then
                return false
            end
            count = count + 1
        end
        return count == #tab
    end,
    clone = function(tab)
        local copy = {}
        for key, value in pairs(tab) do
            copy[key] = value
        end
        return copy
    end,
    insert_tail = function(tab, ...)
        for index = 1, select("#", ...) do
            tab[#tab + 1] = (select(index, ...))
        end
        return #tab
    end,
    set = function(tab, ...)
        for index = 1, select("#", ...) do
            tab[index] = (select(index, ...))
        end
        return #tab
    end,
    array_find = function(tab, value)
        if type(tab) ~= "table" then
            return nil
        end
        for index, item in ipairs(tab) do
            if item == value then
                return index
            end
        end
    end,
    try_read_attr = function(tab, ...)
        for index = 1, select("#", ...) do
            if type(tab) ~= "table" then
                return nil
            end
            tab = tab[(select(index, ...))]
        end
        return tab
    end,
    pick = function(tab, names)
        local picked = {}
        for name in pairs(names) do
            picked[name] = tab[name]
        end
        return picked
    end,
    unpack = unpack,
}, { __index = table })
core.table = tables

function tables.deepcopy(value, seen)
    if type(value) ~= "table" then
        return value
    end
    seen = type(seen) == "table" and seen or {}
    if seen[value] then
        return seen[value]
    end
    local copy = {}
    seen[value] = copy
    for key, item in pairs(value) do
        copy[tables.deepcopy(key, seen)] = tables.deepcopy(item, seen)
    end
    return setmetatable(copy, getmetatable(value))
end

function tables.merge(into, from)
    for key, value in pairs(from) do
        if type(value) == "table" and type(into[key]) == "table" and not tables.isarray(value) then
            tables.merge(into[key], value)
        else
            into[key] = value
        end
    end
    return into
end

function tables.deep_eq(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, value in pairs(a) do
        if not tables.deep_eq(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end

-- With `ctx` before the rest, or without it.
local function without_ctx(ctx, ...)
    if type(ctx) == "table" then
        return ...
    end
    return ctx, ...
end

local function sent_header(name)
    local value = host.header(gsub(tostring(name), "_", "-"))
    if type(value) == "table" then
        return value[1]
    end
    return value
end

core.request = setmetatable({
    header = function(...) return sent_header((without_ctx(...))) end,
    headers = function() return ngx.req.get_headers() end,
    set_header = function(...)
        local name, value = without_ctx(...)
        host.set_header(name, value, false)
    end,
    add_header = function(...)
        local name, value = without_ctx(...)
        host.set_header(name, value, true)
    end,
    get_method = host.method,
    get_http_version = host.http_version,
    get_ip = function() return ngx.var.realip_remote_addr or ngx.var.remote_addr or "" end,
    get_remote_client_ip = function() return ngx.var.remote_addr or "" end,
    get_remote_client_port = function() return tonumber(ngx.var.remote_port) end,
    get_uri_args = function() return (decode_args(host.query(), 0)) end,
    set_uri_args = function(_, args) ngx.req.set_uri_args(args) end,
    get_body = function(most)
        local body, wrong = host.body()
        if body and most and #body > most then
            return nil, "request size " .. #body .. " is greater than the maximum size "
                .. most .. " allowed"
        end
        return body, wrong
    end,
    get_post_args = function() return (decode_args(host.body(), 0)) end,
    get_json_request_body_table = function()
        local body, wrong = host.body()
        if not body then
            return nil, { message = "could not get body: " .. (wrong or "request body is empty") }
        end
        local value
        value, wrong = host.decode(body)
        if wrong then
            return nil, { message = "could not parse JSON request body: " .. wrong }
        end
        return value
    end,
    get_scheme = function() return ngx.var.scheme end,
    get_host = function() return ngx.var.host end,
    get_port = function() return tonumber(ngx.var.server_port) end,
}, {
    __index = function(_, name)
        if find(name, "body", 1, true) then
            error("core.request." .. name .. " is not there: " .. no_body, 2)
        end
    end,
})

local function set_headers(append, first, ...)
    if type(first) == "table" then
        for name, value in pairs(first) do
            host.set_response_header(header_name(name), value, append)
        end
        return
    end
    local all = { first, ... }
    for index = 1, math.max(select("#", ...) + 1, 2), 2 do
        host.set_response_header(header_name(all[index]), all[index + 1], append)
    end
end

local function respond(code, ...)
    local parts = {}
    if code ~= nil and type(code) ~= "number" then
        parts[1], code = code, nil
    end
    for index = 1, select("#", ...) do
        local part = select(index, ...)
        if type(part) == "table" then
            local text, wrong = host.encode(part)
            parts[#parts + 1] = text and text .. "\n" or error(wrong, 2)
        elseif part ~= nil then
            parts[#parts + 1] = tostring(part)
        end
    end
    if code and not host.has_printed() then
        host.set_status(code)
    end
    if #parts > 0 then
        host.print(join(parts))
    end
    if code then
        ngx.exit(code)
    end
end

core.response = {
    exit = respond,
    say = function(...) respond(nil, ...) end,
    set_header = function(...) set_headers(false, ...) end,
    add_header = function(...) set_headers(true, ...) end,
    get_upstream_status = function() return tonumber(ngx.var.upstream_status) end,
    clear_header_as_body_modified = function()
        host.set_response_header("etag", nil, false)
        host.set_response_header("last-modified", nil, false)
        host.set_response_header("content-encoding", nil, false)
    end,
    -- Gathers the body, and gives it at its end or as soon as there are so many bytes. What is
    -- gathered does not go to the client meanwhile, unless it stays.
    hold_body_chunk = function(ctx, stays, most, key)
        local data, is_last = host.chunk()
        local all = ctx._body_buffer or {}
        ctx._body_buffer, key = all, key or ""
        local held = all[key] or { bytes = 0 }
        all[key] = not is_last and held or nil
        if held.is_given then
            return nil
        end
        held[#held + 1], held.bytes = data, held.bytes + #data
        held.is_given = most and held.bytes >= most
        if is_last or held.is_given then
            local body = concat(held)
            return most and sub(body, 1, most) or body
        end
        if not stays then
            host.set_chunk(nil)
        end
    end,
}

core.ctx = { register_var = host.register_variable }
core.id = { get = function() return ngx.var.hostname end }
for name, value in pairs {
    tonumber = tonumber, tostring = tostring, empty_tab = {}, version = { VERSION = "3.18.0" },
} do
    core[name] = value
end

setmetatable(core, {
    __index = function(_, name)
        error("core." .. tostring(name) .. " is not there: apisix.core has ctx, json, log, "
            .. "request, response, string and table here", 2)
    end,
})

-- require ------------------------------------------------------------------------------------------

local modules = {
    ["apisix.core"] = core, cjson = cjson, ["cjson.safe"] = safe, ["ngx.re"] = re_module,
    ["table.new"] = tables.new, ["table.clear"] = tables.clear, ["table.nkeys"] = tables.nkeys,
    ["table.isempty"] = tables.isempty, ["table.isarray"] = tables.isarray,
    ["table.clone"] = tables.clone, string = string, table = table, math = math, os = os,
    coroutine = coroutine, bit = bit,
}

function require(name)
    local module = modules[name]
    local part = not module and string.match(tostring(name), "^apisix%.core%.([%w_]+)$")
    if part and rawget(core, part) then
        return core[part]
    end
    return module or error("module '" .. tostring(name) .. "' is not there: require gives "
        .. "apisix.core, cjson, cjson.safe, ngx.re and table.new, clear, nkeys, isempty, isarray, "
        .. "clone", 2)
end

return vars, fresh
