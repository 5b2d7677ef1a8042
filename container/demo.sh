#!/usr/bin/env bash
# Run the demo, dags/quickstart.py, in a temporary Airflow.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source-path=SCRIPTDIR/..
. container/lib.sh

AIRFLOW_HOME=$(mktemp -d)
trap 'rm -rf "$AIRFLOW_HOME"' EXIT
export AIRFLOW_HOME AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags AIRFLOW__CORE__LOAD_EXAMPLES=False

step "Creating an Airflow database" .venv/bin/airflow db migrate
.venv/bin/python dags/quickstart.py
