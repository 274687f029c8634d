"""Code blocks of the documentation, executed as cells of a real kernel: found by Sybil, page after page in one kernel.

A block of ``python`` or ``ipython`` is a cell. What pages say about a block stands in a comment before it, which no reader sees:

    <!--- raises: ValueError -->            the cell must fail so
    <!--- skip: next "needs a scheduler" --> it is not run
    <!--- invisible-code: python ... -->     it is run and not shown

A ``text`` block after ``<!--- output -->`` is what the cell above it shows; ``...`` stands for anything. Runs in: tests.
"""

from __future__ import annotations

import re
from pathlib import Path

from sybil import Document, Example
from sybil.parsers.myst import CodeBlockParser, SkipParser

from tests.kernel.kernelclient import Kernel

#: A block with what stands before it, and the comment that has the next one skipped.
CODE = re.compile(r"(<!--- (?:(?!-->).)*-->\s*)?```i?python\n(.*?)```", re.DOTALL)
SKIPPED = re.compile(r"<!--- skip: next")
_RAISES = re.compile(r"<!--- raises: (\w+) -->\s*\Z")
_OUTPUT = re.compile(r"\s*(?:```\s*)?<!--- output -->\s*```text\n(.*?)```", re.DOTALL)
#: Between two pages: no name is left of the one before.
FRESH = "%reset -f"
#: What the first cell of every page has, wherever it is read.
LOAD = "%load_ext flyte_nb"


class Pages:
    """Runs the blocks of pages in a kernel.

    Args:
        kernel: Shared by all pages: a cluster is started once.
        folder: The kernel's working folder.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        #: Outputs of the page that were found as they stand there.
        self._compared = 0

    def run(self, path: Path) -> int:
        """Run all blocks of a page; returns how many there were."""
        self._kernel.run(FRESH).ok()
        self._kernel.run(LOAD).ok()
        parsers = [CodeBlockParser(language, self._evaluate) for language in ("python", "ipython")] + [SkipParser()]
        document = Document.parse(str(path), *parsers)
        count = self._compared = 0
        for example in document.examples():
            try:
                example.evaluate()
            except Exception as exc:
                if type(exc).__name__ != "SkipTest":
                    raise
            count += 1
        assert self._compared == document.text.count("<!--- output -->"), "an output stands below no block that is run"
        return count

    def _evaluate(self, example: Example) -> None:
        place = f"{Path(example.path).name}:{example.line}"
        cell = self._kernel.run(str(example.parsed))
        raises = _RAISES.search(example.document.text, 0, example.region.start)
        if raises is not None:
            assert cell.error.name == raises[1], (
                f"{place}: {cell!r} raised {cell.error.name or 'nothing'}, not {raises[1]}"
            )
        else:
            assert cell.status == "ok", f"{place}: {cell!r}\n{cell.error.value}\n{cell.error.traceback}"
        wanted = _OUTPUT.match(example.document.text, example.region.end)
        if wanted is not None:
            shown = "\n".join(filter(None, (cell.stdout, cell.stderr, cell.error.traceback, cell.result)))
            shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", shown).split())
            pattern = ".*?".join(re.escape(" ".join(part.split())) for part in wanted[1].split("..."))
            assert re.search(pattern, shown), f"{place} does not show\n{wanted[1]}\nbut\n{shown}"
            self._compared += 1
