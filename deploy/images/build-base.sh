#!/bin/bash
# Makes a Debian userland with mmdebstrap and imports it as a base image, for machines that reach no container registry.
# Prints the tag on standard output; everything else goes to standard error.
#
#   deploy/images/build-base.sh speech        base of examples/speech-to-text
#
# Environment:
#   DOCKER_HOST      engine to import into
#   GPUTASKS_CACHE   folder that keeps the userland between engines, default: none kept
#   DEBIAN_MIRROR    one mirror to use alone, default Debian's own with its security archive
set -euo pipefail

SUITE=bookworm
# shellcheck source=deploy/lib/common.sh
. "$(dirname "$(readlink -f "$0")")/../lib/common.sh"

# alsa-utils is unpacked for its recordings alone: the package itself would bring kernel module tools along.
unpack_recordings() {
  local root=$1 work
  work=$(mktemp -d)
  (cd "$work" && { APT_CONFIG="${MMDEBSTRAP_APT_CONFIG:-}" apt-get -qq -o APT::Sandbox::User=root download alsa-utils && dpkg-deb -x alsa-utils_*.deb x; }) >&2
  mkdir -p "$root/usr/share/sounds" "$root/usr/share/doc/alsa-utils"
  cp -r "$work/x/usr/share/sounds/alsa" "$root/usr/share/sounds/"
  cp "$work/x/usr/share/doc/alsa-utils/copyright" "$root/usr/share/doc/alsa-utils/"
  rm -rf "$work"
}
if [ "${1:-}" = --unpack-recordings ]; then unpack_recordings "$2"; exit 0; fi

case "${1:-}" in
  speech) packages=python3,pocketsphinx,pocketsphinx-en-us,sox hook="'$(readlink -f "$0")' --unpack-recordings \"\$1\"" ;;
  *) fail "usage: build-base.sh speech" ;;
esac

# The recipe is this file and its argument, so a change of either makes a new tag.
hash=$({ printf '%s\n' "$1"; cat "$0"; } | sha256sum | cut -c1-12)
tag=gputasks/base-$1:$hash
if docker image inspect "$tag" >/dev/null 2>&1; then printf '%s\n' "$tag"; exit 0; fi

cache=${GPUTASKS_CACHE:-}
tar=${cache:+$cache/base-$1-$hash.tar}
if [ -z "$tar" ] || [ ! -s "$tar" ]; then
  command -v mmdebstrap >/dev/null ||
    need_packages "making a base image without a registry (with one: docker build --build-arg BASE=debian:12-slim)" mmdebstrap
  say "making a Debian $SUITE userland with ${packages//,/, } (about half a minute)"
  work=$(mktemp -d "${cache:-${TMPDIR:-/tmp}}/base.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mmdebstrap --quiet --variant=essential --include="$packages" --components=main \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --aptopt='APT::Install-Recommends "false"' \
    --customize-hook="$hook" \
    "$SUITE" "$work/base.tar" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >&2 || fail "mmdebstrap failed, see above"
  if [ -n "$tar" ]; then mv "$work/base.tar" "$tar"; else tar=$work/base.tar; fi
fi
say "importing it as $tag"
docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$tar" "$tag" >/dev/null ||
  fail "docker import failed"
printf '%s\n' "$tag"
