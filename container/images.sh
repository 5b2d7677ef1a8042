#!/usr/bin/env bash
# Make sure that the engine has the images of the tests and of the demo.
#
#   container/images.sh
#
# The tests use busybox under a local tag. The demo's base is the first available image with
# PyTorch: $AIRFLOW_TORCHX_BASE_IMAGE, an existing public or local image, the public image by a
# pull, or the local image by local-base.sh. Its name is written to .cache/base-image.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly TESTS=airflow-torchx/busybox:local LOCAL=airflow-torchx/pytorch:local
readonly PUBLIC=pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime

# Downloaded and unpacked, not installed: that would replace the host's own busybox.
unpack_busybox() {
  cd "$scratch"
  apt-get download busybox-static || {
    may_install
    apt update
    apt-get download busybox-static
  }
  dpkg-deb --extract busybox-static_*.deb package
}

# Create the 2 MB image: one binary, and a link per tool.
load_busybox() {
  local root=$scratch/root tools tool
  mkdir -p "$root"/{bin,etc,root,proc,sys,dev}
  mkdir -m 1777 "$root/tmp"
  find "$scratch/package" -path '*bin/busybox' -exec cp {} "$root/bin/" \;
  tools=$("$root/bin/busybox" --list)
  for tool in $tools; do [[ $tool == busybox ]] || ln -s busybox "$root/bin/$tool"; done
  printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false \
    >"$root/etc/passwd"
  printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
  tar --owner=0 --group=0 -C "$root" -c . | client load "$TESTS" 'CMD ["sh"]' "ENV PATH=$IMAGE_PATH"
}

make_tests_image() {
  if command -v apt-get >/dev/null && step "Downloading busybox" unpack_busybox; then
    step "Creating $TESTS" load_busybox
  else
    step "Pulling busybox" client pull busybox:stable-musl
    client tag busybox:stable-musl "$TESTS"
  fi
}

# Print the name of the base image after the engine has it.
choose_base() {
  local chosen=${AIRFLOW_TORCHX_BASE_IMAGE:-} image
  for image in ${chosen:-"$PUBLIC" "$LOCAL"}; do
    ! client has "$image" || { echo "$image" && return; }
  done
  if step "Pulling ${chosen:-$PUBLIC}" client pull "${chosen:-$PUBLIC}" >&2; then
    echo "${chosen:-$PUBLIC}"
  elif [[ $chosen ]]; then
    fail "cannot pull AIRFLOW_TORCHX_BASE_IMAGE=$chosen, see above"
  else
    echo "Creating a local base image instead." >&2
    container/local-base.sh "$LOCAL" >&2 && echo "$LOCAL"
  fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! client has "$TESTS"; then make_tests_image; fi
base=$(choose_base)
mkdir -p .cache
echo "$base" >.cache/base-image
