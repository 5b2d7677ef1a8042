#!/usr/bin/env bash
# Create a CPU base image with PyTorch if none can be pulled, from Debian's archive and the package
# index.
#
#   container/local-base.sh IMAGE
#
# Needs Debian or Ubuntu as root, two minutes and 3 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

readonly IMAGE=$1 SUITE=bookworm PYTHON=3.11 # the suite's Python
readonly PACKAGES=(torch==2.13.0 numpy)

may_install || fail "no base image with PyTorch: it cannot be pulled, and building one needs root" \
  "on Debian or Ubuntu; set AIRFLOW_TORCHX_BASE_IMAGE to an image with PyTorch"

# Install wheels for the image's Python, which may differ from pip's.
install_torch() {
  local flags=() glibc
  if [[ $(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') != "$PYTHON" ]]
  then
    flags=(--python-version "$PYTHON")
    for glibc in 2_28 2_27 2_17; do flags+=(--platform "manylinux_${glibc}_$(uname -m)"); done
  fi
  .venv/bin/python -m pip install --progress-bar off --no-cache-dir --no-compile \
    --only-binary=:all: --target "$site" "${flags[@]}" "${PACKAGES[@]}"
}

finish() {
  mkdir "$root/app"
  ln -s python3 "$root/usr/bin/python"
  sed '1s|.*|#!/usr/bin/python3|' "$site/bin/torchrun" >"$root/usr/local/bin/torchrun"
  chmod 755 "$root/usr/local/bin/torchrun"
  # Files that a training does not need.
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
  rm -rf "$site"/torch/{include,test} "$site"/torch/bin/protoc* "${site:?}"/{bin,share}
  find "$site" -type d -name tests -prune -exec rm -rf {} +
  # Precompiled, `import torch` takes 2.1 s instead of 4.3 s in every new container (2 cores).
  chroot "$root" python3 -m compileall -q -j0 -x torch/testing/_internal "${site#"$root"}"
}

load() {
  tar -C "$root" -c . |
    client load "$IMAGE" 'WORKDIR /app' 'CMD ["bash"]' "ENV PATH=$IMAGE_PATH"
}

mkdir -p .cache
# Not in /tmp, which may be small or mounted with nodev.
root=$(mktemp -d -p "$PWD/.cache")
site=$root/usr/local/lib/python$PYTHON/dist-packages
trap 'rm -rf "$root"' EXIT

command -v debootstrap >/dev/null || apt_install debootstrap debian-archive-keyring
step "Base image, 1 of 4: Debian" \
  debootstrap --variant=minbase --include=python3,ca-certificates "$SUITE" "$root"
step "Base image, 2 of 4: PyTorch" install_torch
step "Base image, 3 of 4: compile" finish
step "Base image, 4 of 4: import as $IMAGE" load
