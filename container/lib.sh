# Shared by the set-up scripts, which source it: bash, from the root of the checkout.
# shellcheck shell=bash

# docker import knows no image to inherit a PATH from.
export IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
  echo "$*" >&2
  exit 1
}

client() { .venv/bin/python container/client.py "$@"; }

# step MESSAGE COMMAND ...: run a command quietly and show that it lives.
#
# Nothing is printed for a command that ends within two seconds, then a line every few seconds with
# the time and the command's latest line. The output itself appears only on failure: its end.
step() {
  local message=$1 log status=0 clock started_s=$SECONDS
  shift
  log=$(mktemp)
  tick "$message" "$log" &
  clock=$!
  # Not `|| status=$?`: bash would then run a function past its errors.
  set +e
  (set -e && "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  kill "$clock" 2>/dev/null || true
  wait "$clock" 2>/dev/null || true
  if ((status)); then
    tail -n 30 "$log" >&2
    echo "$message: failed after $((SECONDS - started_s)) s (exit $status): $*" >&2
  elif ((SECONDS - started_s >= 2)); then
    echo "$message: done in $((SECONDS - started_s)) s"
  fi
  rm -f "$log"
  return "$status"
}

# tick MESSAGE LOG: print where a step is until killed, or until the script dies.
tick() {
  local started_s=$SECONDS pause_s=2 line
  # The sleep outlives a killed clock, so it must not hold the script's output open.
  while sleep "$pause_s" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    if ((pause_s == 2)); then
      echo "$1 ..."
      pause_s=5
    else
      line=$(tail -n 1 "$2" | tr '\r' ' ')
      # Another step may run beside this one.
      echo "$1: $((SECONDS - started_s)) s, ${line:0:80}"
    fi
  done
}

# Whether packages may be installed here: Debian or Ubuntu, as root.
may_install() {
  # shellcheck source=/dev/null
  ((EUID == 0)) && [[ -r /etc/os-release ]] && (
    . /etc/os-release
    [[ " ${ID:-} ${ID_LIKE:-} " == *" debian "* || " ${ID:-} ${ID_LIKE:-} " == *" ubuntu "* ]]
  )
}

# Two set-ups at once: apt fails where another one is at work, and does not wait for it. What a
# package starts must not keep the lock.
apt() { flock --close /run/airflow-torchx-apt.lock apt-get "$@"; }

apt_update() {
  # A broken third-party list is not our concern: the installation says whether it matters.
  step "Reading the package lists" apt update || true
}

apt_install() {
  apt_update
  DEBIAN_FRONTEND=noninteractive step "Installing $*" \
    apt install --yes --no-install-recommends "$@"
}
