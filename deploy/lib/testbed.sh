# What ./test, ./bench and ./chaos set up alike. Sourced after common.sh by a script that holds its lock on descriptor 9,
# which nothing that outlives the script may inherit, and runs in the root of the checkout.
# shellcheck shell=bash

# As `step`, without the lock; the script ends when it fails.
build() { step "$@" 9>&- || exit 1; }

# own_engine FOLDER LOGS [--stub-gpu] installs Docker if need be and starts an engine of one's own. Sets `engine`, for
# stop_own_engine, and exports its address. Root only.
engine=''
own_engine() {
  build "looking for Docker's packages, installing them if need be" "$2/docker-install.log" deploy/docker/engine.sh install
  say "starting a Docker Engine"
  engine=$1
  # Leftovers of a run that was killed.
  deploy/docker/engine.sh stop "$engine"
  GPUTASKS_TEST_DOCKER=$(deploy/docker/engine.sh start "$engine" ${3:+"$3"} 9>&-)
  export GPUTASKS_TEST_DOCKER
}
stop_own_engine() { [ -z "$engine" ] || deploy/docker/engine.sh stop "$engine" || true; }

# relay_and_echo FOLDER LOGS builds the relay, and the echo image in the engine of GPUTASKS_TEST_DOCKER.
relay_and_echo() {
  need_packages "building static binaries" gcc g++ binutils libc6-dev zlib1g-dev 9>&-
  build "building relay and echo as static binaries" "$2/native.log" deploy/build/native.sh "$PWD/.gputasks/native"
  export GPUTASKS_RELAY=$PWD/.gputasks/native/relay
  mkdir -p "$1"
  cp examples/echo/Dockerfile .gputasks/native/echo "$1/"
  build "building the echo image" "$2/echo-image.log" docker -H "$GPUTASKS_TEST_DOCKER" build -q -t gputasks/echo:test "$1"
}

# postgres_programs WHY installs PostgreSQL 15 if need be. Sets `postgres_bin`.
# shellcheck disable=SC2034 # Used by the scripts that source this.
postgres_programs() {
  postgres_bin=/usr/lib/postgresql/15/bin
  [ -x $postgres_bin/initdb ] || need_packages "$1" postgresql-15 9>&-
}
