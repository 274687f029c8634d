"""The finder of modules that only a body imports stands aside where Python asks for its own."""

from __future__ import annotations

import subprocess
import sys

#: `sysconfig` imports a module when it is asked, as it does in a worker that has just started with Python 3.13.0.
PROGRAM = """
import importlib, sys, sysconfig
from flyte_nb.core.transport import lazy_imports
from flyte_nb.core.values import user_code
found, data = sysconfig.get_path, sysconfig._get_sysconfigdata_name()
def get_path(name):
    sys.modules.pop(data, None)
    importlib.import_module(data)
    return found(name)
sysconfig.get_path = get_path
user_code.library_folders.cache_clear()
lazy_imports.Imports({}, tuple(sys.path), {}, ()).install(first=True)
print(user_code.is_user_file("/nowhere/helper.py", "helper"))
"""


def test_python_can_import_what_it_needs_to_say_where_it_lies() -> None:
    """Which folders are Python's own is known before the finder asks whether a module is in one of them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.split() == ["True"], done.stderr[-2000:]
