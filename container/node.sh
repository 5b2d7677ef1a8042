#!/usr/bin/env bash
# Make sure that the checks of the page's JavaScript can run: Node, and what tests/ui/package.json
# lists.
#
#   container/node.sh
#
# Node is a tool of development alone: neither a build nor an installation of the package needs it.
# Installs Debian's packages nodejs and npm if they are missing; on other systems, install Node 18
# or newer with npm. The packages are written to .cache/node.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly FOLDER=.cache/node

has_node() {
  command -v npm >/dev/null &&
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'
}

if ! has_node; then
  may_install || fail "no Node for the checks of the page: install Node 18 or newer with npm"
  apt_install nodejs npm
  has_node || fail "the system's Node is older than 18: install Node 18 or newer with npm"
fi
mkdir -p "$FOLDER"
cp tests/ui/package.json "$FOLDER/"
step "Installing into $FOLDER" npm install --prefix "$FOLDER" --no-package-lock --no-audit --no-fund
touch "$FOLDER/.installed"
