#!/usr/bin/env bash
# Make sure that the tests can start a PostgreSQL of their own.
#
#   container/postgres.sh
#
# Its programs are Debian's package postgresql, installed without the cluster that the package would
# make and start. Elsewhere, install PostgreSQL so that postgres and initdb are on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly CLUSTERS=/etc/postgresql-common/createcluster.conf

# Debian keeps the programs of each version in a folder that is on no PATH.
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
# The package brings a file of this name, and would ask which one to keep.
UCF_FORCE_CONFFOLD=1 apt_install postgresql
