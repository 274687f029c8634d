"""Tell the user's frames from the machinery's, and read their source. Runs in: everywhere.

Three kinds: "user" (the notebook, and files that are not installed), "library" (installed packages and the standard
library), "machinery" (flyte_nb, asyncio, Dask, Jupyter: what the user did not call). The package that a task itself lives
in is the user's, installed or not.
"""

from __future__ import annotations

import functools
import linecache
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flyte_nb.core.values.user_code import is_user_file, library_path

#: Top-level packages whose frames are folded into a count.
MACHINERY = frozenset(
    {
        "IPython", "_asyncio", "_pydevd_bundle", "asyncio", "bdb", "cloudpickle", "concurrent", "contextvars", "dask",
        "debugpy", "distributed", "flyte", "flyte_nb", "flyte_nb_kernel", "ipykernel", "ipykernel_launcher", "nbclient",
        "nest_asyncio", "nest_asyncio2", "pdb", "pydevd", "runpy", "selectors", "threading", "tornado", "traitlets", "uvloop",
        "zmq",
    }
)  # fmt: skip

USER, LIBRARY, MACHINE = "user", "library", "machinery"

#: A file of at most this many lines is shipped whole: every cell of a notebook, most modules of a project.
WHOLE_FILE_LINES = 300
#: Otherwise: lines before and after the failing one, within its function.
LINES_BEFORE, LINES_AFTER = 60, 20
#: Longest source shipped of one file, in characters.
MAX_SOURCE = 16_000
#: Longest single line of source shown, in characters: data pasted into a cell.
MAX_LINE = 500


@functools.lru_cache(maxsize=4096)
def kind_of(filename: str, module: str) -> str:
    """Whose frame this is: "user", "library" or "machinery".

    Args:
        filename: ``co_filename``.
        module: ``__name__`` of its globals; "" if unknown.
    """
    root = module.partition(".")[0]
    # A script or notebook named like a package of ours is still the user's: ``__main__`` is decided by its file.
    if root in MACHINERY:
        return MACHINE
    if is_user_file(filename, module):
        return USER
    package = (library_path(filename) or "").partition("/")[0].removesuffix(".py")
    return MACHINE if package in MACHINERY else LIBRARY


def is_notebook_file(filename: str) -> bool:
    """Whether this is the name that IPython or ipykernel gave to a cell."""
    if "ipykernel_" in filename:
        return Path(filename).parent.name.startswith("ipykernel_")
    return filename.startswith("<ipython-input-")


def register_source(filename: str, text: str) -> None:
    """Make the source of a file known to this process, so that failure records made here carry it.

    A notebook's cells are no files: a worker that received a function from a cell has its file name (``co_filename``), and not
    its text.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    _unreadable.discard(filename)
    # No modification time: `linecache.checkcache` then leaves it alone.
    linecache.cache[filename] = (len(text), None, lines, filename)


#: Cells whose source came along with a task's code, the latest last; and most of them.
_travelled: OrderedDict[str, None] = OrderedDict()
MAX_TRAVELLED = 1_000


def cells_of(filenames: Iterable[str]) -> dict[str, str]:
    """Source of those that are cells of this process's notebook: no worker can read it."""
    return {
        name: "".join(linecache.getlines(name))
        for name in dict.fromkeys(filenames)
        if (is_notebook_file(name) or name in _travelled) and name in linecache.cache
    }


def take_cells(sources: dict[str, str]) -> None:
    """Make cells known here, where code of theirs has arrived."""
    for filename, text in sources.items():
        if filename in linecache.cache and filename not in _travelled:
            continue  # they are this process's own
        register_source(filename, text)
        _travelled[filename] = None
        _travelled.move_to_end(filename)
    while len(_travelled) > MAX_TRAVELLED:
        linecache.cache.pop(_travelled.popitem(last=False)[0], None)


#: Relative names of files that cannot be read ("index.pyx" of compiled code): linecache would search ``sys.path`` each time.
_unreadable: set[str] = set()


def line_of(filename: str, line: int) -> str:
    """The text of one line, stripped; "" if its source is unknown."""
    if filename in _unreadable:
        return ""
    text = linecache.getline(filename, line).strip()[:MAX_LINE]
    if not text and filename[:1] not in ("<", os.sep) and filename not in linecache.cache:
        if len(_unreadable) > 1_000:
            _unreadable.clear()
        _unreadable.add(filename)
    return text


class Source(NamedTuple):
    """Consecutive lines of one file."""

    filename: str
    #: Number of the first line, counted from 1.
    start: int
    #: The lines, each with its line end.
    text: str
    #: Whether this is the whole file.
    whole: bool


_blocks: dict[tuple[str, int, int], tuple[list[str], Source]] = {}


def source_of(filename: str, first: int, line: int) -> Source | None:
    """The source around a line, from linecache; None if it is unknown. The same block is returned every time.

    Args:
        filename: ``co_filename``.
        first: Line where the function starts.
        line: Line of interest.
    """
    lines = linecache.getlines(filename)
    if not lines or filename in _travelled:  # those who read the record have their own
        return None
    if len(lines) <= WHOLE_FILE_LINES:
        start, end = 1, len(lines)
    else:
        start = max(1, first - 1, line - LINES_BEFORE) if first <= line else max(1, line - LINES_BEFORE)
        end = min(len(lines), line + LINES_AFTER)
    key = (filename, start, end)
    known = _blocks.get(key)
    if known is not None and known[0] is lines:
        return known[1]
    text = _joined(lines, start, end)
    if len(text) > MAX_SOURCE:
        start = max(1, line - 10)
        text = _joined(lines, start, line + 5)
    made = Source(filename, start, text, start == 1 and text.count("\n") >= len(lines))
    if len(_blocks) > 500:
        _blocks.clear()
    _blocks[key] = (lines, made)
    return made


def _joined(lines: list[str], start: int, end: int) -> str:
    return "".join(part if len(part) <= MAX_LINE else part[:MAX_LINE] + "...\n" for part in lines[start - 1 : end])
