#!/usr/bin/env bash
# Make sure that the tests of the page have a browser.
#
#   container/chromium.sh
#
# Installs Debian's package chromium. On other systems, install Chromium so that chromium is on the
# PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

! command -v chromium >/dev/null || exit 0
may_install ||
  fail "no Chromium for the tests of the page: install it, so that chromium is on the PATH"
apt_install chromium
command -v chromium >/dev/null ||
  fail "the package chromium has no command chromium: install Chromium, so that it is on the PATH"
