#!/bin/sh
# Makes, or brings up to date, what Prefect's server has to know: the work pool, the deployments, the limit of
# runs, the automations that mark lost runs.
# From the top of the repository:  deployments/setup.sh [process|docker|kubernetes] [RUNS_AT_ONCE]
set -eu
kind=${1:-process}

prefect --no-prompt work-pool create narrowcast --type "$kind" \
    --base-job-template "deployments/pools/$kind.json" --overwrite
prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml
# Workers' slots in the whole pool, less at least one for probe shards.
prefect --no-prompt work-queue set-concurrency-limit runs "${2:-1}" --pool narrowcast
# An automation is not replaced by another of its name: the old ones go first.
for name in "narrowcast run lost" "narrowcast run never begun"; do
    prefect --no-prompt automation delete "$name" >/dev/null 2>&1 || true
done
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
case $kind in process) start_seconds=120 ;; *) start_seconds=900 ;; esac
sed "s/within: 900/within: $start_seconds/" deployments/automations.yaml >"$scratch/automations.yaml"
prefect --no-prompt automation create --from-file "$scratch/automations.yaml"
