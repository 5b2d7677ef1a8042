# Shared functions. The set-up scripts source this file in bash, from the root of the checkout.
# shellcheck shell=bash

# An imported image inherits no PATH.
export IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
  echo "$*" >&2
  exit 1
}

client() { .venv/bin/python container/client.py "$@"; }

# step MESSAGE COMMAND ...: run a command quietly, with signs of progress.
#
# After two seconds, the elapsed time and the command's latest line are printed every few seconds.
# On failure, the end of its output is printed. Ctrl-C ends the script with exit code 130.
step() {
  local message=$1 log status=0 clock started_s=$SECONDS is_interrupted=
  shift
  log=$(mktemp)
  tick "$message" "$log" &
  clock=$!
  # Some commands, like pip, end by themselves at SIGINT, so bash would go on.
  trap 'is_interrupted=1' INT
  # Not `|| status=$?`: bash would then ignore errors inside a function.
  set +e
  (set -e && "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  kill "$clock" 2>/dev/null || true
  wait "$clock" 2>/dev/null || true
  trap - INT
  if [[ $is_interrupted ]]; then
    rm -f "$log"
    echo "$message: interrupted" >&2
    exit 130
  fi
  if ((status)); then
    tail -n 30 "$log" >&2
    echo "$message: failed after $((SECONDS - started_s)) s (exit $status): $*" >&2
  elif ((SECONDS - started_s >= 2)); then
    echo "$message: done in $((SECONDS - started_s)) s"
  fi
  rm -f "$log"
  return "$status"
}

# tick MESSAGE LOG: print the progress of a step until this or the script is killed.
tick() {
  local started_s=$SECONDS pause_s=2 line
  # The sleep outlives a killed tick, so it must not keep the script's output open.
  while sleep "$pause_s" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    if ((pause_s == 2)); then
      echo "$1 ..."
      pause_s=5
    else
      line=$(tail -n 1 "$2" | tr '\r' ' ')
      # Steps may run concurrently, so each line has the message.
      echo "$1: $((SECONDS - started_s)) s, ${line:0:80}"
    fi
  done
}

# Succeed if packages may be installed: as root on Debian or Ubuntu.
may_install() {
  # shellcheck source=/dev/null
  ((EUID == 0)) && [[ -r /etc/os-release ]] && (
    . /etc/os-release
    [[ " ${ID:-} ${ID_LIKE:-} " == *" debian "* || " ${ID:-} ${ID_LIKE:-} " == *" ubuntu "* ]]
  )
}

# Concurrent set-ups need a lock, since apt does not wait for another apt. Services that a package
# starts must not keep it.
apt() { flock --close /run/airflow-torchx-apt.lock apt-get "$@"; }

apt_update() {
  # A broken third-party list is harmless unless the installation fails.
  step "Reading the package lists" apt update || true
}

apt_install() {
  apt_update
  DEBIAN_FRONTEND=noninteractive step "Installing $*" \
    apt install --yes --no-install-recommends "$@"
}
