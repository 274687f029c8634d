#!/usr/bin/env bash
# The built widget is committed, so that pip needs no Node. Fail if it isn't what js/ builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

built="$(mktemp -d)"
trap 'rm -rf "$built"' EXIT
cp -R flyte_nb/views/static/. "$built"
(cd js && ../scripts/node.sh npm run --silent build)
if ! diff -rq "$built" flyte_nb/views/static; then
    echo "flyte_nb/views/static was not what js/ builds. It has been rebuilt: look at it and commit it." >&2
    exit 1
fi
