#!/usr/bin/env bash
# Make sure that the tests can start their own image registry.
#
#   container/registry.sh
#
# Unpacks Debian's docker-registry into .cache/registry, where the tests look first. It is not
# installed, since that would start a service. On other systems, install a registry so that
# docker-registry or registry is on the PATH.
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
  fail "no registry for the tests: install distribution's registry so that it is on the PATH"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
step "Downloading a registry for the tests" unpack
mkdir -p "${PROGRAM%/*}"
# A move is atomic, a copy is not.
cp "$scratch/package/usr/bin/docker-registry" "$PROGRAM.$$"
mv "$PROGRAM.$$" "$PROGRAM"
