#!/usr/bin/env bash
# Create a virtual environment and install requirements.
#
#   container/venv.sh FOLDER REQUIREMENT ...
#
# Uses $PYTHON or the first Python >= 3.11 on the PATH. Writes FOLDER/.installed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly FOLDER=$1
shift

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local python
  for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    new_enough "$python" && echo "$python" && return
  done
  fail "needs Python 3.11 or newer, but ${PYTHON:-python3} is" \
    "$("${PYTHON:-python3}" --version 2>&1 || true): install one, or set PYTHON to its path"
}

# Debian packages venv separately.
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

if ! new_enough "$FOLDER/bin/python" || ! "$FOLDER/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  if ! has_venv "$python" && may_install; then
    apt_install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  fi
  has_venv "$python" || fail "$python has no venv module: install it (python3-venv on Debian)"
  step "Creating $FOLDER with $("$python" --version)" "$python" -m venv --clear "$FOLDER"
  echo '*' >"$FOLDER/.gitignore"
fi
export PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off
step "Installing into $FOLDER" "$FOLDER/bin/python" -m pip install "$@"
touch "$FOLDER/.installed"
