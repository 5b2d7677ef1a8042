#!/usr/bin/env bash
# Make sure that the tests can start their own PostgreSQL.
#
#   container/postgres.sh
#
# Installs Debian's package postgresql without its default cluster. On other systems, install
# PostgreSQL so that postgres and initdb are on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly CLUSTERS=/etc/postgresql-common/createcluster.conf

# Debian installs each version in a folder that is not on the PATH.
has_postgres() {
  local folder
  for folder in ${PATH//:/ } /usr/lib/postgresql/*/bin; do
    [[ ! -x $folder/postgres || ! -x $folder/initdb ]] || return 0
  done
  return 1
}

! has_postgres || exit 0
may_install ||
  fail "no PostgreSQL for the tests: install it, so that postgres and initdb are on the PATH"
if [[ ! -e $CLUSTERS ]]; then
  mkdir -p "${CLUSTERS%/*}"
  echo "create_main_cluster = false" >"$CLUSTERS"
fi
# The package has a file of the same name, and would ask which one to keep.
UCF_FORCE_CONFFOLD=1 apt_install postgresql
