#!/bin/bash
# Starts and stops a Docker Engine of one's own, beside any other engine of the machine.
#
#   engine.sh install              root on Debian: installs Docker's packages without starting Debian's own service
#   engine.sh start DIR [--stub-gpu]   starts the engine of DIR, or finds it running; prints its address
#   engine.sh stop DIR             removes its containers and stops it; nothing of it is left running
#   engine.sh address DIR          prints the address; exit code 1 if it does not answer
#
# Images and containers are kept in DIR; sockets and pid files in /run, where paths are short and a reboot clears them.
# The engine has no bridge and no firewall rules, so several live side by side, and it keeps containers running while it
# is restarted. --stub-gpu puts a hook on its PATH that opens no card and
# refuses those named GPU-ffffffff..., so that device requests can be tested without cards.
set -euo pipefail

# shellcheck source=deploy/lib/common.sh
. "$(dirname "$(readlink -f "$0")")/../lib/common.sh"

places() {
  dir=$(readlink -m "$1")
  run=/run/gputasks-$(printf %s "$dir" | sha256sum | cut -c1-10)
  address=unix://$run/docker.sock
  pid_file=$run/dockerd.pid
  containerd_pid_file=$run/exec/containerd/containerd.pid
}

# A pid file may be older than the last boot or name a process that nobody reaped: only a living process with our path counts.
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  [ -n "$pid" ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$run/"
}

answers() { timeout 5 docker -H "$address" version >/dev/null 2>&1; }

wait_until_gone() {
  for _ in $(seq 1 "$2"); do alive "$1" || return 0; sleep 0.1; done
  return 1
}

# Ends the process of a pid file: asked first, then forced. It is not our child, so its end is seen by its command line.
end_by_pid_file() {
  alive "$1" || return 0
  kill -TERM "$(cat "$1")" 2>/dev/null || true
  wait_until_gone "$1" 200 || { kill -KILL "$(cat "$1")" 2>/dev/null || true; wait_until_gone "$1" 50 || true; }
}

# A killed engine leaves the shims of its containers, and does not know that of one it was just making.
end_shims() {
  local shim
  for shim in $(grep -lsF -- "$run/" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    tr '\0' ' ' 2>/dev/null <"/proc/$shim/cmdline" | grep -qF -- "-address $run/" || continue
    # shellcheck disable=SC2046 # Its children are the first processes of containers, which take all others with them.
    kill -KILL $(cat "/proc/$shim/task/$shim/children" 2>/dev/null) "$shim" 2>/dev/null || true
  done
}

install_packages() {
  command -v docker >/dev/null && [ -n "$(PATH=$PATH:/usr/sbin:/sbin command -v dockerd)" ] && return 0
  need_packages "a Docker Engine of our own" docker.io iptables
}

start() {
  local stub=
  [ "${2:-}" != --stub-gpu ] || stub=1
  places "$1"
  if alive "$pid_file" && answers; then printf '%s\n' "$address"; return; fi
  [ "$(id -u)" = 0 ] || fail "only root can start a Docker Engine. Start one, or name one: --docker unix:///var/run/docker.sock"
  [ -n "$(PATH=$PATH:/usr/sbin:/sbin command -v dockerd)" ] || fail "dockerd is not installed: $0 install"
  # Half an engine, for instance after one of its two processes was killed.
  end_by_pid_file "$pid_file"
  alive "$containerd_pid_file" || rm -f "$containerd_pid_file"
  rm -f "$pid_file"
  mkdir -p "$dir" "$run"
  chmod 700 "$run"
  # An own file, for the machine's /etc/docker/daemon.json could contradict the options below.
  [ -s "$dir/daemon.json" ] || printf '{}\n' >"$dir/daemon.json"
  local path=$PATH:/usr/sbin:/sbin
  if [ -n "$stub" ]; then
    mkdir -p "$dir/stub"
    cat >"$dir/stub/nvidia-container-runtime-hook" <<'HOOK'
#!/bin/sh
bundle=$(sed -n 's/.*"bundle": *"\([^"]*\)".*/\1/p')
grep -q 'NVIDIA_VISIBLE_DEVICES=GPU-ffffffff' "$bundle/config.json" || exit 0
echo "nvidia-container-cli: device error: GPU-ffffffff: unknown device" >&2
exit 1
HOOK
    chmod 755 "$dir/stub/nvidia-container-runtime-hook"
    path=$dir/stub:$path
  fi
  # A session of its own, so that neither a terminal's Ctrl-C nor the end of the caller reaches it; no descriptors of the caller either.
  (
    for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
    PATH=$path setsid dockerd --config-file "$dir/daemon.json" -H "$address" -G root \
      --data-root "$dir/root" --exec-root "$run/exec" --pidfile "$pid_file" \
      --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --live-restore \
      --exec-opt native.cgroupdriver=cgroupfs --log-opt max-size=10m --log-opt max-file=2 \
      </dev/null >>"$dir/dockerd.log" 2>&1 &
  )
  for _ in $(seq 1 300); do
    if answers; then printf '%s\n' "$address"; return; fi
    sleep 0.1
  done
  tail -n 15 "$dir/dockerd.log" >&2
  fail "the Docker Engine did not start within 30 s; its last words are above, all of them in $dir/dockerd.log"
}

stop() {
  places "$1"
  [ -d "$run" ] || return 0
  if answers; then
    local ids
    ids=$(docker -H "$address" ps -aq)
    # shellcheck disable=SC2086 # One argument for each container is meant.
    [ -z "$ids" ] || docker -H "$address" rm -f $ids >/dev/null || true
  fi
  end_by_pid_file "$pid_file"
  end_by_pid_file "$containerd_pid_file"
  end_shims
  # What a killed engine left mounted.
  local mounts
  mounts=$(awk -v a="$run/" -v b="$dir/root/" 'index($2, a) == 1 || index($2 "/", b) == 1 { print $2 }' /proc/mounts | tac)
  while read -r m; do [ -z "$m" ] || umount -l "$m" 2>/dev/null || true; done <<<"$mounts"
  rm -rf "$run"
}

case "${1:-}" in
  install) install_packages ;;
  start) [ -n "${2:-}" ] || fail "usage: engine.sh start DIR [--stub-gpu]"; start "$2" "${3:-}" ;;
  stop) [ -n "${2:-}" ] || fail "usage: engine.sh stop DIR"; stop "$2" ;;
  address) [ -n "${2:-}" ] || fail "usage: engine.sh address DIR"; places "$2"; answers || exit 1; printf '%s\n' "$address" ;;
  *) fail "usage: engine.sh install | start DIR [--stub-gpu] | stop DIR | address DIR" ;;
esac
