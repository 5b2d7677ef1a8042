#!/usr/bin/env bash
# Run the demo, a DAG of dags/, in an Airflow of its own that is thrown away afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

AIRFLOW_HOME=$(mktemp -d)
trap 'rm -rf "$AIRFLOW_HOME"' EXIT
export AIRFLOW_HOME AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags AIRFLOW__CORE__LOAD_EXAMPLES=False

step "Making an Airflow database" .venv/bin/airflow db migrate
.venv/bin/python dags/quickstart.py
