#!/usr/bin/env bash
# Make sure that the tests can start an image registry of their own.
#
#   container/registry.sh
#
# Its program is Debian's docker-registry, downloaded and unpacked into .cache/registry, where the
# tests look first. It is not installed: that would start it as a service. Elsewhere, install a
# registry so that docker-registry or registry is on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly PROGRAM=.cache/registry/docker-registry

unpack() {
  cd "$scratch"
  apt-get download docker-registry || {
    may_install
    apt-get update
    apt-get download docker-registry
  }
  dpkg-deb --extract docker-registry_*.deb package
}

[[ ! -x $PROGRAM ]] || exit 0
! command -v docker-registry registry >/dev/null || exit 0
command -v apt-get >/dev/null ||
  fail "no registry for the tests: install distribution's registry, so that it is on the PATH"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
step "Downloading a registry for the tests" unpack
mkdir -p "${PROGRAM%/*}"
# Moved, not copied: it is there as a whole or not at all.
cp "$scratch/package/usr/bin/docker-registry" "$PROGRAM.$$"
mv "$PROGRAM.$$" "$PROGRAM"
