#!/usr/bin/env bash
# A cluster on loopback: three etcd members, two gateway nodes.
#
#   ci/cluster.sh up SLUICE    starts what does not run yet; returns when both nodes are ready
#   ci/cluster.sh down         stops what `up` started, and nothing else
#
# Everything lives in data/cluster: configs, logs, pid files and the members' data.
set -euo pipefail
cd "$(dirname "$0")/.."

HOME_DIR=$PWD/data/cluster
export PATH=$PWD/.tools/bin:$PATH

# Processes in the order in which they start; stopping goes the other way.
MEMBERS=(etcd1 etcd2 etcd3)
NODES=(node1 node2)
declare -A CLIENT=([etcd1]=2379 [etcd2]=22379 [etcd3]=32379)
declare -A PEER=([etcd1]=2380 [etcd2]=22380 [etcd3]=32380)
declare -A HTTP=([node1]=9080 [node2]=9081)
declare -A HTTPS=([node1]=9443 [node2]=9444)
declare -A ADMIN=([node1]=9180 [node2]=9181)
declare -A CONTROL=([node1]=9090 [node2]=9092)
declare -A METRICS=([node1]=9091 [node2]=9093)
declare -A STATUS=([node1]=7085 [node2]=7086)

fail() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

# Whether the process of NAME runs. A pid file alone proves nothing: the number may have gone
# to another program since, so the command line must name this cluster's folder.
runs() {
  local pid
  pid=$(cat "$HOME_DIR/$1.pid" 2>/dev/null) || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$HOME_DIR/$1"
}

# start NAME PORT COMMAND...: in the background, output into NAME.log.
start() {
  local name=$1 port=$2
  shift 2
  if runs "$name"; then return; fi
  # Else another program would be taken for ours.
  if (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
    fail "port $port, which $name needs, is taken by another program"
  fi
  setsid "$@" >>"$HOME_DIR/$name.log" 2>&1 </dev/null &
  echo $! >"$HOME_DIR/$name.pid"
}

# wait_for NAME URL: until it answers 200, at most a minute, as long as the process lives.
wait_for() {
  local end=$((SECONDS + 60))
  until curl -fsS -o /dev/null -m 2 "$2" 2>/dev/null; do
    if ! kill -0 "$(cat "$HOME_DIR/$1.pid")" 2>/dev/null || [ "$SECONDS" -ge "$end" ]; then
      tail -n 20 "$HOME_DIR/$1.log" >&2
      fail "$1 did not become ready at $2; its log is $HOME_DIR/$1.log"
    fi
    sleep 0.2
  done
}

start_member() {
  local name=$1 members=
  for m in "${MEMBERS[@]}"; do members+="${members:+,}$m=http://127.0.0.1:${PEER[$m]}"; done
  start "$name" "${CLIENT[$name]}" etcd --name "$name" --data-dir "$HOME_DIR/$name" --log-level warn \
    --listen-client-urls "http://127.0.0.1:${CLIENT[$name]}" \
    --advertise-client-urls "http://127.0.0.1:${CLIENT[$name]}" \
    --listen-peer-urls "http://127.0.0.1:${PEER[$name]}" \
    --initial-advertise-peer-urls "http://127.0.0.1:${PEER[$name]}" \
    --initial-cluster "$members" --initial-cluster-token sluice-cluster
}

start_node() {
  local name=$1 key=$2 binary=$3
  mkdir -p "$HOME_DIR/$name"
  sed -e "s|@HTTP@|${HTTP[$name]}|; s|@HTTPS@|${HTTPS[$name]}|; s|@ADMIN@|${ADMIN[$name]}|" \
    -e "s|@CONTROL@|${CONTROL[$name]}|; s|@METRICS@|${METRICS[$name]}|; s|@STATUS@|${STATUS[$name]}|" \
    -e "s|@KEY@|$key|; s|@DATA@|$HOME_DIR/$name|" ci/cluster.yaml >"$HOME_DIR/$name/config.yaml"
  start "$name" "${HTTP[$name]}" "$binary" start -c "$HOME_DIR/$name/config.yaml"
}

up() {
  local binary key name
  binary=$(realpath -e "${1:?usage: ci/cluster.sh up SLUICE}")
  umask 077
  mkdir -p "$HOME_DIR"
  [ -s "$HOME_DIR/admin.key" ] || head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$HOME_DIR/admin.key"
  key=$(cat "$HOME_DIR/admin.key")

  for name in "${MEMBERS[@]}"; do start_member "$name"; done
  for name in "${MEMBERS[@]}"; do wait_for "$name" "http://127.0.0.1:${CLIENT[$name]}/health"; done
  for name in "${NODES[@]}"; do start_node "$name" "$key" "$binary"; done
  for name in "${NODES[@]}"; do wait_for "$name" "http://127.0.0.1:${STATUS[$name]}/status/ready"; done

  echo "The cluster is up: three etcd members, two gateway nodes."
  for name in "${MEMBERS[@]}"; do echo "  $name  http://127.0.0.1:${CLIENT[$name]}"; done
  for name in "${NODES[@]}"; do
    echo "  $name  HTTP ${HTTP[$name]}, HTTPS ${HTTPS[$name]}, Admin API ${ADMIN[$name]}," \
      "control ${CONTROL[$name]}, metrics ${METRICS[$name]}, status ${STATUS[$name]}"
  done
  cat <<TEXT
Admin key: $key (kept in data/cluster/admin.key)
Write through node 1, read through node 2:
  curl -s http://127.0.0.1:9180/apisix/admin/routes/hello -X PUT -H "X-API-KEY: $key" \\
    -d '{"uri": "/health", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:2379": 1}}}'
  curl -i http://127.0.0.1:9081/health
Stop it with 'make cluster-down'; logs and data are in data/cluster.
TEXT
}

down() {
  local name pid stopped=0
  for name in node2 node1 etcd3 etcd2 etcd1; do
    if runs "$name"; then
      pid=$(cat "$HOME_DIR/$name.pid")
      kill -TERM "$pid"
      local end=$((SECONDS + 15))
      while runs "$name"; do
        if [ "$SECONDS" -ge "$end" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
        sleep 0.1
      done
      stopped=$((stopped + 1))
    fi
    rm -f "$HOME_DIR/$name.pid"
  done
  echo "Stopped $stopped processes. The data is still in data/cluster."
}

case "${1:-}" in
  up) shift; up "$@" ;;
  down) down ;;
  *) fail "usage: ci/cluster.sh up SLUICE | down" ;;
esac
