#!/usr/bin/env bash
# Builds the release binary guided by a profile: ci/pgo.sh
#
# A binary that counts what it does is built first and put to work by the bench; the second build
# lays hot code together and inlines where the counts say it pays. Two whole-program builds, and
# some minutes of load between them.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=$(realpath -m "${CARGO_TARGET_DIR:-target}")
WORK=$TARGET/pgo
HOST=$(rustc -vV | sed -n 's/^host: //p')
# What a gateway does most: plain and TLS, bodies both ways, handshakes, HTTP/2, plugins.
WORKS=(W1 W2 W3 W4 W5 W5r W6 W9)

say() { printf 'pgo: %s\n' "$*" >&2; }

fail() { say "$*"; exit 1; }

profdata() {
  local tool
  tool=$(rustc --print target-libdir)/../bin/llvm-profdata
  [ -x "$tool" ] || rustup component add llvm-tools >&2 ||
    fail "llvm-profdata of this compiler's own LLVM is needed: rustup component add llvm-tools"
  printf '%s\n' "$tool"
}

# With a target named, the flags are not those of build scripts and macros too: build FLAG
build() {
  RUSTFLAGS=$1 cargo build --locked --release --bin sluice --target "$HOST" --target-dir "$WORK"
}

merge=$(profdata)
rm -rf "$WORK/counts"
say "building the binary that counts"
build "-Cprofile-generate=$WORK/counts"
say "putting it to work"
SLUICE_BIN=$WORK/$HOST/release/sluice \
  cargo bench --locked --profile quick --bench bench -- "${WORKS[@]}" --rounds 2 --json "$WORK/training.json"
"$merge" merge -o "$WORK/counts.profdata" "$WORK/counts"
say "building the guided binary"
build "-Cprofile-use=$WORK/counts.profdata"
install -D "$WORK/$HOST/release/sluice" "$TARGET/pgo/sluice"
say "built $TARGET/pgo/sluice"
