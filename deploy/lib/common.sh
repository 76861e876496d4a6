# Shared by quickstart, test and the scripts of deploy/. Sourced, never run.
# shellcheck shell=bash

# Progress goes to standard error with the seconds since the start, so that what a script prints as its result stays clean.
say() { printf '[%4d s] %s\n' "$SECONDS" "$*" >&2; }
# Exit code 2: something is missing or was asked wrongly, as opposed to 1, tried and failed.
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# need_packages WHY PACKAGE... installs Debian packages, or says plainly what is missing.
need_packages() {
  local why=$1 package missing=()
  shift
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "$why needs what Debian packages as: ${missing[*]}"
  [ "$(id -u)" = 0 ] || fail "$why needs these packages. As root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # Packages with a service would start it, and nobody asked for one.
  local guard=/usr/sbin/policy-rc.d made='' ok='' log
  log=$(mktemp)
  if [ ! -e $guard ]; then printf '#!/bin/sh\nexit 101\n' >$guard; chmod 755 $guard; made=1; fi
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null && ok=1
  [ -z "$made" ] || rm -f $guard
  [ -n "$ok" ] || tail -n 20 "$log" >&2
  rm -f "$log"
  [ -n "$ok" ] || fail "these packages could not be installed, see above: ${missing[*]}"
}

# Compiler servers would go on for minutes after a build.
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false

# step WHAT LOG COMMAND... runs a long command with its output in a file. Runs in a job of its own and is waited for,
# so that a signal to the script is answered at once and not when the command ends. Says every half minute that it goes on.
current_job= current_ticker=
step() {
  local what=$1 log=$2 code=0 started=$SECONDS
  shift 2
  say "$what"
  set -m
  "$@" </dev/null >"$log" 2>&1 &
  current_job=$!
  (while sleep 30; do say "  still at it: $what ($((SECONDS - started)) s)"; done) </dev/null >/dev/null &
  current_ticker=$!
  set +m
  wait "$current_job" || code=$?
  # After a signal it is on its way out, and given time for that; else nothing that it started may outlive it.
  if [ -n "${interrupted:-}" ]; then
    for _ in $(seq 1 100); do kill -0 -- "-$current_job" 2>/dev/null || break; sleep 0.1; done
  fi
  kill -KILL -- "-$current_job" 2>/dev/null || true
  current_job=
  stop_ticker
  # Whoever interrupted it needs no account of how it ended.
  [ -z "${interrupted:-}" ] || return 1
  if [ $code -ne 0 ]; then
    tail -n 40 "$log" >&2
    say "$what: failed with exit code $code after $((SECONDS - started)) s; all of the output is in $log"
    return 1
  fi
}
stop_ticker() {
  [ -n "$current_ticker" ] || return 0
  kill -TERM -- "-$current_ticker" 2>/dev/null || true
  wait "$current_ticker" 2>/dev/null || true
  current_ticker=
}
stop_current_job() {
  stop_ticker
  [ -z "$current_job" ] || kill -TERM -- "-$current_job" 2>/dev/null || true
}

# A port of 127.0.0.1 that nobody listens on.
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    if port_is_free "$port"; then printf '%s\n' "$port"; return; fi
  done
}

# end_process PID SECONDS asks a process to end and forces it when it does not.
end_process() {
  local pid=$1
  kill -TERM "$pid" 2>/dev/null || return 0
  for _ in $(seq 1 $(($2 * 10))); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

random_hex() { od -An -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
