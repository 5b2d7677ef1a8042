#!/usr/bin/env bash
# Make sure that a Docker Engine answers, and install and start one where we may.
#
#   container/engine.sh
#
# The engine is the one that DOCKER_HOST, the docker context or the default socket names. One that
# answers is left as it is. Where none does, this installs and starts Docker on Debian and Ubuntu
# as root, and says what to install everywhere else. Nothing here ever stops an engine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly LOG=/var/log/airflow-torchx-dockerd.log LOCK=/run/airflow-torchx-engine.lock
readonly NONE="no Docker Engine answers at the default socket"
daemon= # the process that start() made, if it made one

# Succeed if an engine answers, fail if one could be started, and end the script otherwise.
answers() {
  local status=0
  client ping || status=$?
  ((status == 0 || status == 2)) || exit "$status"
  return "$status"
}

# A daemon that was killed leaves its pid file, and refuses to start while anything has that pid, be
# it another process by now or what is left of itself until its parent looks.
forget_dead() {
  local file=$1 name=$2 pid
  [[ -e $file ]] || return 0
  pid=$(cat "$file")
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) != "$name" ]] ||
    grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then
    rm -f "$file"
  fi
}

start() {
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker || fail "$NONE, and systemd cannot start it: see journalctl -u docker"
    return
  fi
  forget_dead /var/run/docker.pid dockerd
  forget_dead /var/run/docker/containerd/containerd.pid containerd
  (
    cd /
    # Nothing of ours stays open in the daemon: a CI job ends only when its output is closed.
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd <= 2)) || exec {fd}>&-
    done
    exec setsid dockerd >>"$LOG" 2>&1 </dev/null
  ) &
  daemon=$!
}

await() {
  local second
  for ((second = 1; second <= 60; second++)); do
    sleep 1
    if answers; then return; fi
    [[ -z $daemon ]] || kill -0 "$daemon" 2>/dev/null || break
    ((second % 5)) || echo "  ... the Docker Engine is starting, ${second} s"
  done
  tail -n 10 "$LOG" >&2 || true
  fail "$NONE: dockerd does not start; see above, and $LOG. In a container it needs" \
    "--privileged; or set DOCKER_HOST to an engine that runs, then try again"
}

answers && exit
may_install || case $OSTYPE in
  darwin*) fail "$NONE: install and start Docker Desktop or Colima, then try again" ;;
  *) fail "$NONE: start it, or as root install Docker Engine (docker.io on Debian and Ubuntu," \
    "docker-ce or moby-engine elsewhere); join the group docker, then try again" ;;
esac

# Two set-ups at once must not start two daemons.
exec 9>"$LOCK"
flock --nonblock 9 || { echo "Waiting for another set-up to start Docker ..." && flock 9; }
answers && exit
# AppArmor's parser is only a recommended package, yet Docker needs it on an AppArmor kernel.
command -v dockerd >/dev/null || apt_install docker.io apparmor
if ! answers; then
  start
  await
fi
echo "The Docker Engine answers."
