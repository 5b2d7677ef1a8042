#!/usr/bin/env bash
# Tag the image that container/build.sh built, and push it to a registry.
#
#   container/push.sh REPO VERSION
#
# REPO is a repository like registry.example.com/me/trainer, VERSION a tag. The login is the docker
# command's. AIRFLOW_TORCHX_IMAGE names the image; default: airflow-torchx.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly IMAGE=${AIRFLOW_TORCHX_IMAGE:-airflow-torchx}
readonly USAGE="usage: container/push.sh REPO VERSION"
# https://pkg.go.dev/github.com/distribution/reference
readonly WORD='[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*'
readonly HOST='([a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?'

(($# == 2)) || fail "$USAGE; got $# arguments"
repo=$1 version=$2
[[ $repo =~ ^($HOST/)?$WORD(/$WORD)*$ ]] ||
  fail "'$repo' is not a repository: use lower-case letters, digits and . _ - between slashes," \
    "optionally after a host, without a tag, like registry.example.com/me/trainer"
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] ||
  fail "'$version' is not a tag: use up to 128 letters, digits and _ . -, and do not start with" \
    ". or -, like 1.0"
command -v docker >/dev/null || fail "no docker command: install Docker's command line"
docker version >/dev/null || fail "the Docker Engine does not answer, see above: start it, or set" \
  "DOCKER_HOST"
docker image inspect "$IMAGE" >/dev/null 2>&1 ||
  fail "no image $IMAGE: build it first with container/build.sh"

host=${repo%%/*}
[[ $repo == */* && ($host == *[.:]* || $host == localhost) ]] || host=
docker tag "$IMAGE" "$repo:$version"
step "Pushing $repo:$version" docker push "$repo:$version" ||
  fail "cannot push $repo:$version, see above: log in with \`docker login${host:+ $host}\` if the" \
    "registry requires it, then try again"
echo "Pushed $repo:$version."
