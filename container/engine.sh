#!/usr/bin/env bash
# Make sure that a Docker Engine answers, and install or start one if necessary.
#
#   container/engine.sh
#
# DOCKER_HOST, the docker context or the default socket names the engine. A running engine is used
# as is. Otherwise Docker is installed and started on Debian and Ubuntu as root; on other systems
# this prints what to install. An engine is never stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly LOG=/var/log/airflow-torchx-dockerd.log LOCK=/run/airflow-torchx-engine.lock
readonly NONE="no Docker Engine answers at the default socket"
daemon= # pid of the daemon that start() started

# Succeed if an engine answers, fail if one can be started, and exit otherwise.
answers() {
  local status=0
  client ping || status=$?
  ((status == 0 || status == 2)) || exit "$status"
  return "$status"
}

# A killed daemon leaves its pid file. The next one does not start while that pid exists, even as
# another process or as a zombie.
remove_stale_pid_file() {
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
  remove_stale_pid_file /var/run/docker.pid dockerd
  remove_stale_pid_file /var/run/docker/containerd/containerd.pid containerd
  (
    cd /
    # The daemon must not inherit our files: a CI job ends only when its output is closed.
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
  fail "$NONE: dockerd does not start, see above and $LOG. In a container it needs" \
    "--privileged; or set DOCKER_HOST to a running engine, then try again"
}

answers && exit
may_install || case $OSTYPE in
  darwin*) fail "$NONE: install and start Docker Desktop or Colima, then try again" ;;
  *) fail "$NONE: start it, or as root install Docker Engine (docker.io on Debian and Ubuntu," \
    "docker-ce or moby-engine elsewhere); join the group docker, then try again" ;;
esac

# Concurrent set-ups must not start two daemons.
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
