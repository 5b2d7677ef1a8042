#!/usr/bin/env bash
# Build the image of a uv project on PyTorch, with container/Dockerfile, and name it airflow-torchx.
#
#   container/build.sh [CONTEXT]
#
# CONTEXT is the folder of the project, this one if it is left out. Where it has no uv.lock, one is
# made there. Where it has no .dockerignore, what no image needs is left out: .git, environments,
# caches. These variables say otherwise:
#
#   AIRFLOW_TORCHX_IMAGE       name of the image, and :TAG
#   AIRFLOW_TORCHX_BASE_IMAGE  an image with Python, and PyTorch
#   AIRFLOW_TORCHX_UV_IMAGE    an image with uv at /uv and uvx at /uvx
#   AIRFLOW_TORCHX_NETWORK     the network of the build, like host
#   UV_DEFAULT_INDEX           the package index; the image's history shows it
#   DOCKER_BUILDKIT            1 builds with BuildKit, 0 without
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly USAGE="usage: container/build.sh [CONTEXT]"
readonly IMAGE=${AIRFLOW_TORCHX_IMAGE:-airflow-torchx}
# The defaults are the Dockerfile's.
default() { sed -n "s/^ARG $1=//p" container/Dockerfile; }
BASE=${AIRFLOW_TORCHX_BASE_IMAGE:-$(default BASE_IMAGE)}
UV=${AIRFLOW_TORCHX_UV_IMAGE:-$(default UV_IMAGE)}
readonly BASE UV NETWORK=${AIRFLOW_TORCHX_NETWORK:-default}
readonly LEFT_OUT=(.git .hg .svn '.venv*' __pycache__ '*.pyc' '.*_cache' .cache .tox .nox
  .ipynb_checkpoints .hypothesis '*.egg-info' .DS_Store)

check_context() {
  (($# < 2)) || fail "$USAGE; it got $# arguments"
  context=${1-$PWD}
  [[ $context == /* ]] || context=$caller/$context
  [[ -d $context ]] || fail "no such folder: $context; $USAGE"
  context=$(cd "$context" && pwd)
  [[ -f $context/pyproject.toml ]] ||
    fail "$context has no pyproject.toml: it has to be a uv project; \`uv init\` there makes one"
  [[ ${UV_DEFAULT_INDEX:-} != *://*@* ]] ||
    fail "UV_DEFAULT_INDEX holds a password, which everybody who has the image could read: name" \
      "an index that needs none"
}

check_docker() {
  command -v docker >/dev/null || fail "no docker command: install Docker's command line"
  docker version >/dev/null || fail "the Docker Engine does not answer, see above: start it, or" \
    "set DOCKER_HOST; container/engine.sh tells more"
}

# Print 1 if `docker build` can use BuildKit, 0 if only the Engine's own builder is to be had: since
# version 23 BuildKit is a plugin of the command line, which may be missing.
choose_builder() {
  local version
  version=$(docker version --format '{{.Client.Version}}')
  if docker buildx version >/dev/null 2>&1 || ((${version%%.*} < 23)); then echo 1; else echo 0; fi
}

need_image() {
  docker image inspect "$1" >/dev/null 2>&1 || step "Pulling $1" docker pull "$1" ||
    fail "$1 is not here and cannot be pulled, see above: set $2 to an image that can"
}

# A tar of the project.
pack() {
  local pattern flags=()
  for pattern in "${LEFT_OUT[@]}"; do flags+=(--exclude "$pattern"); done
  COPYFILE_DISABLE=1 tar -C "$context" "${flags[@]}" -c .
}

# run_build FOLDER OPTION ...: build the Dockerfile with a folder as its context.
run_build() {
  local folder=$1
  shift
  # A variable without a value is passed on from the environment, if it is there.
  docker build --file container/Dockerfile --network "$NETWORK" --build-arg UV_DEFAULT_INDEX \
    --build-arg "BASE_IMAGE=$BASE" --build-arg "UV_IMAGE=$UV" --build-arg "BASE_USER=$user" \
    "$@" "$folder"
}

# Lock in the base, so that the lock suits its Python, and the PyTorch that it has.
lock() {
  local empty=$scratch/empty locker
  mkdir "$empty"
  run_build "$empty" --target environment --iidfile "$scratch/environment"
  # shellcheck disable=SC2016 # the container's shell
  locker=$(docker create --network "$NETWORK" --env UV_DEFAULT_INDEX --entrypoint sh \
    "$(cat "$scratch/environment")" \
    -euc 'uv lock $(sed "s/^/--upgrade-package /" /opt/venv/base.txt)')
  echo "$locker" >"$scratch/locker" # of clean_up, in another shell
  pack | docker cp - "$locker:/app"
  docker start --attach "$locker"
  docker cp "$locker:/app/uv.lock" "$context/uv.lock"
}

# The stage that locked stays if the image was built on it: without BuildKit, that is its cache.
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
  echo "Made $context/uv.lock: commit it, and every build installs the same."
fi
[[ $DOCKER_BUILDKIT == 0 ]] && builder="the Engine's own builder" || builder=BuildKit
echo "Building $IMAGE from $context with $builder."
step "Building $IMAGE" build
echo "Built $IMAGE."
