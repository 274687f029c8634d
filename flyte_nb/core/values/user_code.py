"""Which code is the user's: neither installed, nor of the standard library, nor ours. Runs in: everywhere.

One answer for three uses: what counts for a task's hash, what travels to workers by value, and which frames a traceback
shows. It goes by folders of libraries and not by ``sys.prefix``: a project may lie below that (a virtual environment made in
the project's root, a system's Python with ``/usr/src/app``), and it may contain its environment.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import dis
import functools
import os
import re
import site
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import cloudpickle

#: Top-level packages of ours.
OURS = frozenset({"flyte_nb", "flyte_nb_kernel"})

_INSTALLED = ("site-packages", "dist-packages")


@functools.lru_cache(maxsize=1)
def library_folders() -> tuple[str, ...]:
    """Where Python and what is installed lie, each with a slash at its end."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.dirname(os.__file__), os.path.join(sys.base_prefix, "DLLs")}  # noqa: PTH118, PTH120 - as written
    try:
        folders.update(site.getsitepackages())
        folders.add(site.getusersitepackages())
    except Exception:  # Embedded interpreters lack parts of ``site``.
        pass
    return tuple(_slashed(folder).rstrip("/") + "/" for folder in folders if folder)


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


def library_path(filename: str) -> str | None:
    """Path of a library's file below the folder of libraries ("numpy/linalg/linalg.py"); None for any other file.

    Args:
        filename: ``co_filename``, or a module's ``__file__``.
    """
    filename = _slashed(filename)
    for folder in _INSTALLED:
        _, found, rest = filename.rpartition(f"/{folder}/")
        if found:
            return rest
    below = next((filename[len(folder) :] for folder in library_folders() if filename.startswith(folder)), None)
    return below if below is not None else _below_target(filename)


def _below_target(filename: str) -> str | None:
    # What `pip install --target` has put into a folder of the user's own.
    for folder in sys.path:
        start = _slashed(folder).rstrip("/") + "/"
        if len(start) > 1 and filename.startswith(start):
            rest = filename[len(start) :]
            with contextlib.suppress(OSError):
                if rest.partition("/")[0] in _installed_in(folder, os.stat(folder).st_mtime_ns):  # noqa: PTH116 - quick
                    return rest
    return None


@functools.lru_cache(maxsize=256)
def _installed_in(folder: str, _changed: int) -> frozenset[str]:
    """Names directly in a folder that installed packages have put there, as their records say."""
    names: set[str] = set()
    for record in Path(folder).glob("*.dist-info/RECORD"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            names.update(line.partition("/")[0].partition(",")[0] for line in record.read_text().splitlines())
    return frozenset(names)


@functools.lru_cache(maxsize=4096)
def is_user_file(filename: str, module: str = "") -> bool:
    """Whether code of this file (or cell) is the user's own.

    Args:
        filename: ``co_filename``, or a module's ``__file__``.
        module: ``__name__`` of the module; "" if unknown.
    """
    ours = module.partition(".")[0] in OURS
    return not (ours or filename.startswith("<frozen") or library_path(filename) is not None)


def found_by_name(module: str, qualname: str) -> Any:
    """What this process finds under a qualified name in a module that it has imported; None if there is nothing."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def attribute(value: object, name: str) -> Any:
    """An attribute of any value; None if it has none. Nothing of the user's is called, which may load, ask, or raise anything.

    (``__getattr__ = dict.__getitem__`` raises KeyError for a name that Python itself asks for.)
    """
    lookup: Any = type if issubclass(type(value), type) else object
    try:
        return lookup.__getattribute__(value, name)
    except Exception:  # a property's
        return None


def content_of(cell: types.CellType, empty: Any = None) -> Any:
    """What a variable of a closure holds; `empty` if it is not filled: of a function that refers to itself as it is defined."""
    try:
        return cell.cell_contents
    except ValueError:
        return empty


def is_user_code(value: Any) -> bool:
    """Whether a function, class or module is the user's own."""
    if isinstance(value, types.FunctionType):
        return is_user_file(value.__code__.co_filename, value.__module__ or "")
    module = (value.__name__ if isinstance(value, types.ModuleType) else value.__module__) or ""
    if module == "__main__":
        return True
    holder = value if isinstance(value, types.ModuleType) else sys.modules.get(module)
    if holder is None:  # it came by value, or is of a library in C that names no module of Python's
        return value in cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS  # noqa: SLF001
    filename = getattr(holder, "__file__", None)
    return isinstance(filename, str) and bool(filename) and is_user_file(filename, module)


#: What Python and libraries keep in a class or module, and is none of the program's state.
_KEPT = frozenset({
    "__annotations__", "__dataclass_fields__", "__builtins__", "__warningregistry__", "__path__", "__slots__", "__class_vars__",
    "__private_attributes__", "__protocol_attrs__", "__parameters__", "__orig_bases__", "__all__",
})  # fmt: skip
_CONTAINERS = (list, dict, set, bytearray, collections.deque)


def is_pythons(name: str, value: object) -> bool:
    """Whether an attribute of a class or module is kept there by Python or a library, instead of being the program's."""
    if not name.startswith("__"):
        return name == "_abc_impl"
    return name in _KEPT or name.startswith("__pydantic") or not isinstance(value, _CONTAINERS)


@functools.lru_cache(maxsize=4096)
def names_in_texts(code: types.CodeType) -> tuple[str, ...]:
    """Globals that code names in a text: ``df.query("x > @LIMIT")``, ``eval("LIMIT + 1")``, ``globals()["LIMIT"]``."""
    found: dict[str, None] = {}
    # Functions of Python, and not methods of that name (``model.eval()``).
    called = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for text in (each for each in code.co_consts if isinstance(each, str) and len(each) <= _LONGEST):
        if not {"query", "eval"}.isdisjoint(code.co_names):
            found.update(dict.fromkeys(_AT_NAME.findall(text)))
        if called & {"eval", "exec"}:
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                tree = ast.parse(text.strip())
                found.update(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))
        if "globals" in called and text.isidentifier():
            found[text] = None
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            found.update(dict.fromkeys(names_in_texts(each)))
    return tuple(found)


#: Characters of a text that is searched for names.
_LONGEST = 10_000
_AT_NAME = re.compile(r"@([^\W\d]\w*)")


def is_task(value: object) -> bool:
    """Whether a value is a task. By shape: this room is below the task's."""
    return not isinstance(value, type | types.FunctionType | types.ModuleType) and all(
        hasattr(type(value), name) for name in ("override", "forward", "aio")
    )
