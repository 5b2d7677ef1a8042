#!/usr/bin/env bash
# Build the image of a uv project on PyTorch, with container/Dockerfile, and name it airflow-torchx.
#
#   container/build.sh [CONTEXT]
#
# CONTEXT is the project's folder; default: this repository. A missing uv.lock is created there.
# Without a .dockerignore, the list of a workspace without one is excluded: version control,
# environments, caches, secrets. Environment variables:
#
#   AIRFLOW_TORCHX_IMAGE       name of the image, optionally with :TAG
#   AIRFLOW_TORCHX_BASE_IMAGE  image with Python and PyTorch
#   AIRFLOW_TORCHX_UV_IMAGE    image with uv at /uv and uvx at /uvx
#   AIRFLOW_TORCHX_NETWORK     network of the build, like host
#   UV_DEFAULT_INDEX           package index; it appears in the image's history
#   DOCKER_BUILDKIT            1: use BuildKit, 0: do not
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly USAGE="usage: container/build.sh [CONTEXT]"
readonly IMAGE=${AIRFLOW_TORCHX_IMAGE:-airflow-torchx}
default() { sed -n "s/^ARG $1=//p" container/Dockerfile; }
BASE=${AIRFLOW_TORCHX_BASE_IMAGE:-$(default BASE_IMAGE)}
UV=${AIRFLOW_TORCHX_UV_IMAGE:-$(default UV_IMAGE)}
readonly BASE UV NETWORK=${AIRFLOW_TORCHX_NETWORK:-default}
readonly DEFAULT_IGNORE=airflow_torchx/workspace/default.dockerignore

check_context() {
  (($# < 2)) || fail "$USAGE; got $# arguments"
  context=${1-$PWD}
  [[ $context == /* ]] || context=$caller/$context
  [[ -d $context ]] || fail "no such folder: $context; $USAGE"
  context=$(cd "$context" && pwd)
  [[ -f $context/pyproject.toml ]] ||
    fail "$context has no pyproject.toml: create a uv project there with \`uv init\`"
  [[ ${UV_DEFAULT_INDEX:-} != *://*@* ]] ||
    fail "UV_DEFAULT_INDEX contains a password, which would be readable in the image: use an" \
      "index without one"
}

check_docker() {
  command -v docker >/dev/null || fail "no docker command: install Docker's command line"
  docker version >/dev/null || fail "the Docker Engine does not answer, see above: start it, set" \
    "DOCKER_HOST, or run container/engine.sh"
}

# Print 1 if `docker build` can use BuildKit, else 0. Since version 23 BuildKit is a plugin of the
# command line, which may be missing.
choose_builder() {
  local version
  version=$(docker version --format '{{.Client.Version}}')
  if docker buildx version >/dev/null 2>&1 || ((${version%%.*} < 23)); then echo 1; else echo 0; fi
}

need_image() {
  docker image inspect "$1" >/dev/null 2>&1 || step "Pulling $1" docker pull "$1" ||
    fail "cannot pull $1, see above: set $2 to another image"
}

# Print a tar of the project.
pack() {
  COPYFILE_DISABLE=1 tar -C "$context" --exclude '*.pyc' --exclude '*.egg-info' \
    -X <(sed -n 's#^\*\*/##p' "$DEFAULT_IGNORE") -c .
}

# run_build FOLDER OPTION ...: build the Dockerfile with FOLDER as its context.
run_build() {
  local folder=$1
  shift
  # A build argument without a value is read from the environment.
  docker build --file container/Dockerfile --network "$NETWORK" --build-arg UV_DEFAULT_INDEX \
    --build-arg "BASE_IMAGE=$BASE" --build-arg "UV_IMAGE=$UV" --build-arg "BASE_USER=$user" \
    "$@" "$folder"
}

# Lock in a container of the base, so that the lock matches its Python and PyTorch.
lock() {
  local empty=$scratch/empty locker
  mkdir "$empty"
  run_build "$empty" --target environment --iidfile "$scratch/environment"
  # shellcheck disable=SC2016 # the container's shell
  locker=$(docker create --network "$NETWORK" --env UV_DEFAULT_INDEX --entrypoint sh \
    "$(cat "$scratch/environment")" \
    -euc 'uv lock $(sed "s/^/--upgrade-package /" /opt/venv/base.txt)')
  echo "$locker" >"$scratch/locker" # clean_up runs in another shell
  pack | docker cp - "$locker:/app"
  docker start --attach "$locker"
  docker cp "$locker:/app/uv.lock" "$context/uv.lock"
}

# The locking stage cannot be removed if the image builds on it; without BuildKit it is the cache.
clean_up() {
  [[ ! -s $scratch/locker ]] || docker rm --force "$(cat "$scratch/locker")" >/dev/null || true
  [[ ! -s $scratch/environment ]] ||
    docker rmi "$(cat "$scratch/environment")" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}

build() {
  local folder=$context
  if [[ ! -f $context/.dockerignore ]]; then
    folder=$scratch/context
    mkdir "$folder"
    pack | tar -C "$folder" -x
  fi
  run_build "$folder" --tag "$IMAGE"
}

check_context "$@"
check_docker
scratch=$(mktemp -d)
trap clean_up EXIT
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-$(choose_builder)}
need_image "$BASE" AIRFLOW_TORCHX_BASE_IMAGE
need_image "$UV" AIRFLOW_TORCHX_UV_IMAGE
user=$(docker image inspect --format '{{.Config.User}}' "$BASE")
user=${user:-root}

if [[ ! -f $context/uv.lock ]]; then
  step "Locking the dependencies" lock
  echo "Created $context/uv.lock. Commit it, so that every build installs the same versions."
fi
[[ $DOCKER_BUILDKIT == 0 ]] && builder="the Engine's builder" || builder=BuildKit
echo "Building $IMAGE from $context with $builder."
step "Building $IMAGE" build
echo "Built $IMAGE."
