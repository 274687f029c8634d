"""Table of a run in the browser: pages of its sheet, text to copy, numbers to plot, on demand. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.results.sheet import Cell, Column, Order, Sheet
from flyte_nb.views.browser.patches import PatchStream
from flyte_nb.views.browser.rows import Json
from flyte_nb.views.words import cut, cut_middle

#: Rows of a page, and columns of a table on show.
MAX_PAGE, MAX_SHOWN = 200, 60
#: Tasks and groups offered to choose from.
MAX_SCOPES = 60
#: Columns plotted together.
MAX_PLOTTED = 12
#: Bytes per message of a file or a table to copy, below what makes a websocket stutter.
CHUNK = 500_000

Reply = Callable[..., None]


class Sheets(Protocol):
    """What makes the sheet of a run; the session's."""

    def sheet(self, record: RunRecord, scope: str, *, fresh: bool = False) -> Awaitable[Sheet]:
        """The sheet of a scope, as far as it has been read."""
        ...


class TableReplies:
    """Answers to what the table asks for.

    Args:
        patches: The run, as the browser sees it.
        sheets: What makes sheets; None where nothing does.
        reply: Sends an answer: (nonce, content, buffers).
    """

    def __init__(self, patches: PatchStream, sheets: Sheets | None, reply: Reply) -> None:
        self._patches = patches
        self._sheets = sheets
        self._reply = reply
        self.ops: Mapping[str, Callable[[Mapping[str, Any], str], Awaitable[None]]] = {
            "table": self._page, "plot": self._plot, "table_text": self._text,
        }  # fmt: skip

    async def _sheet(self, args: Mapping[str, Any], *, fresh: bool = False) -> Sheet:
        if self._sheets is None:
            raise LookupError("This view has no table.")
        return await self._sheets.sheet(self._patches.record, str(args.get("scope", ""))[:2_000], fresh=fresh)

    async def _page(self, args: Mapping[str, Any], nonce: str) -> None:
        """Rows from one place to another of the table as it is sorted and filtered; with ``head`` also its columns."""
        has_head = args.get("head") is True
        scopes = self._scopes(args) if has_head or "scope" not in args else []
        scope = str(args["scope"]) if "scope" in args else _usual(scopes)
        sheet = await self._sheet({"scope": scope}, fresh=args.get("fresh") is True)
        order, columns = _order(args), sheet.names
        known = [name for name in _names(args) or columns if name in columns][:MAX_SHOWN]
        start, stop = _index(args.get("start")), _index(args.get("stop"))
        rows = await asyncio.to_thread(sheet.ordered, order)
        wanted = rows[start : min(stop, start + MAX_PAGE)]
        cells = sheet.rows(wanted, known)
        content: Json = {
            "rows": [self._row(known, row) for row in cells], "ids": [sheet.numbers[row] for row in wanted],
            "names": known, "start": start, "found": len(rows), "read": len(sheet), "total": sheet.total,
            "left_out": sheet.left_out, "going": sheet.going, "scope": scope,
        }  # fmt: skip
        if has_head:
            said = await asyncio.to_thread(sheet.columns)
            content.update(columns=[_column(each) for each in said], scopes=scopes)
        self._reply(nonce, content)

    def _row(self, names: list[str], cells: list[Cell]) -> list[Any]:
        return [
            self._worker(cell) if name == "worker" else _sendable(cell)
            for name, cell in zip(names, cells, strict=True)
        ]  # fmt: skip

    def _worker(self, cell: Cell) -> str:
        address = str(cell or "")
        return f"w{self._patches.workers.number(address)}" if ":" in address else address

    async def _plot(self, args: Mapping[str, Any], nonce: str) -> None:
        """Values of some columns: doubles each, and the actions that they are of."""
        sheet = await self._sheet(args)
        names = _names(args)[:MAX_PLOTTED]
        ids, columns, total = await asyncio.to_thread(sheet.plotted, _order(args), names)
        axes = [{"name": name, "texts": texts} for name, (_, texts) in zip(names, columns, strict=False)]
        buffers = [ids.tobytes(), *(values.tobytes() for values, _ in columns)]
        self._reply(nonce, {"axes": axes, "n": len(ids), "total": total}, buffers)

    async def _text(self, args: Mapping[str, Any], nonce: str) -> None:
        """The table as text, in pieces."""
        sheet = await self._sheet(args)
        tabs = args.get("tabs") is True
        text = await asyncio.to_thread(sheet.text, _order(args), _names(args) or sheet.names, tabs=tabs)
        reply_file(self._reply, nonce, f"{self._patches.record.state.run}.{'tsv' if tabs else 'csv'}", text)

    def _scopes(self, args: Mapping[str, Any]) -> list[list[Any]]:
        """What tables there are: of each task, of each named group, and the one that was asked for: [scope, words, rows]."""
        tasks: dict[str, int] = {}
        groups: list[list[Any]] = []
        asked = str(args.get("scope", ""))
        for group in self._patches.record.groups.values():
            n = len(group.members)
            if not group.named:
                tasks[group.task] = tasks.get(group.task, 0) + n
            if (group.named or asked == f"g:{group.key}") and len(groups) < MAX_SCOPES:
                groups.append([f"g:{group.key}", cut_middle(group.label, 80), n])
        most = sorted(tasks.items(), key=lambda pair: -pair[1])[:MAX_SCOPES]
        return [*([f"t:{task}", cut(task.rpartition(".")[2], 80), n] for task, n in most), *groups]


def reply_file(reply: Reply, nonce: str, name: str, text: str) -> None:
    """Send a text as a file, in pieces."""
    data, name = text.encode(), re.sub(r"[^\w.-]", "_", name)
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    for number, part in enumerate(parts):
        reply(nonce, {"file": name, "part": number, "parts": len(parts)}, [part])


def _usual(scopes: list[list[Any]]) -> str:
    """What is looked at first: the calls of which there are most; all, where none are several."""
    largest = max(scopes, key=lambda scope: scope[2], default=None)
    return str(largest[0]) if largest is not None and largest[2] > 1 else ""


def _column(column: Column) -> Json:
    return {
        "name": column.name, "of": column.of, "unit": column.unit, "numeric": column.is_numeric, "varies": column.varies,
    }  # fmt: skip


def _order(args: Mapping[str, Any]) -> Order:
    def text(key: str) -> str:
        value = args.get(key)
        return value[:500] if isinstance(value, str) else ""

    return Order(text("text"), text("sort"), args.get("desc") is True)


def _names(args: Mapping[str, Any]) -> list[str]:
    found = args.get("names")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _index(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _sendable(cell: Cell) -> Any:
    """A cell as JSON has it: that has no infinity."""
    return str(cell) if type(cell) is float and not math.isfinite(cell) else cell
