"""Find a Chromium for the browser tests; with ``--install``, get one where that can be done. Runs in: tests, `make`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
REMEDY = (
    "The browser tests need Chromium or Chrome, and none was found. Install one (Debian, Ubuntu: apt-get install chromium; "
    "Fedora: dnf install chromium; macOS: brew install --cask google-chrome), or name one: CHROMIUM=/path/to/chrome make test"
)


def find_chromium() -> str | None:
    """Path of a browser: the one that ``CHROMIUM`` names, else one on the PATH or in its usual place; None if there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((path for path in MAC if Path(path).exists()), None)


def install_chromium() -> None:
    """Install Debian's package, which needs root."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
    ):
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print the browser's path; 1 and a remedy if there is none and none could be installed."""
    can_install = (
        "--install" in sys.argv and os.geteuid() == 0 and shutil.which("apt-get") and not os.environ.get("CHROMIUM")
    )
    if find_chromium() is None and can_install:
        print("Installing chromium ...", flush=True)
        install_chromium()
    path = find_chromium()
    if path is None:
        print(REMEDY, file=sys.stderr)
        return 1
    print(f"Browser: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
