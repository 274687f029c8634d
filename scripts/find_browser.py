"""Find a Chromium for the browser tests, or get one, or say how. Runs in: `make test`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium; the environment variable CHROMIUM decides first."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """Find or install; exit 1 with the remedy where neither works."""
    path = find()
    if path is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, stdout=subprocess.DEVNULL)
        path = find()
    if path is None:
        print(
            "The browser tests need Chromium and none was found. Install one (Debian: apt-get install chromium; macOS: "
            "brew install --cask chromium) or name one in the environment variable CHROMIUM.",
            file=sys.stderr,
        )
        return 1
    print(f"browser: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
