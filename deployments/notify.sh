#!/bin/sh
# Has Prefect's server tell of runs that fail or miss their target, by a block that is there: one of a notification
# (slack-webhook, sendgrid-email, ...) or of the type Webhook, made in Prefect's page or with its client.
# From the top of the repository:  deployments/notify.sh BLOCK-TYPE/NAME, such as slack-webhook/narrowcast
set -eu
block=${1:?give a block as TYPE/NAME, such as slack-webhook/narrowcast}
case $block in webhook/*) kind=webhook ;; *) kind=message ;; esac

id=$(python -c '
import sys
from prefect.client.orchestration import get_client
kind, _, name = sys.argv[1].partition("/")
with get_client(sync_client=True) as client:
    print(client.read_block_document_by_name(name, kind).id)
' "$block")
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
sed "s/block_document_id: BLOCK/block_document_id: $id/" "deployments/notifications/$kind.yaml" >"$scratch/$kind.yaml"
# An automation is not replaced by another of its name: the old one goes first.
prefect --no-prompt automation delete "narrowcast $kind" >/dev/null 2>&1 || true
prefect --no-prompt automation create --from-file "$scratch/$kind.yaml"
