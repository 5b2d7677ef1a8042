#!/usr/bin/env bash
# Give the image that container/build.sh has built a name in a registry, and push it there.
#
#   container/push.sh REPO VERSION
#
# REPO is a repository, like registry.example.com/me/trainer, VERSION a tag. The login is the docker
# command's own. AIRFLOW_TORCHX_IMAGE names the image, airflow-torchx if it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly IMAGE=${AIRFLOW_TORCHX_IMAGE:-airflow-torchx}
readonly USAGE="usage: container/push.sh REPO VERSION"
# https://pkg.go.dev/github.com/distribution/reference
readonly WORD='[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*'
readonly HOST='([a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?'

(($# == 2)) || fail "$USAGE; it got $# arguments"
repo=$1 version=$2
[[ $repo =~ ^($HOST/)?$WORD(/$WORD)*$ ]] ||
  fail "'$repo' is no repository: it has lower case letters, digits and . _ - between slashes," \
    "a host with its port before them, and no tag, like registry.example.com/me/trainer"
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] ||
  fail "'$version' is no version: it has up to 128 letters, digits and _ . -, and begins with" \
    "neither . nor -, like 1.0"
command -v docker >/dev/null || fail "no docker command: install Docker's command line"
docker version >/dev/null || fail "the Docker Engine does not answer, see above: start it, or set" \
  "DOCKER_HOST"
docker image inspect "$IMAGE" >/dev/null 2>&1 ||
  fail "no image $IMAGE here to push: build it first, with container/build.sh"

host=${repo%%/*}
[[ $repo == */* && ($host == *[.:]* || $host == localhost) ]] || host=
docker tag "$IMAGE" "$repo:$version"
step "Pushing $repo:$version" docker push "$repo:$version" ||
  fail "$repo:$version is not pushed, see above: \`docker login${host:+ $host}\` if it asks who you" \
    "are, then push again; the image keeps the name here"
echo "Pushed $repo:$version."
