"""Read a printed page back: what it says of a run, for comparison with what the live view and the text say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any


class Node:
    """An element, with what is inside of it."""

    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.inside: list[Node | str] = []

    @property
    def children(self) -> list[Node]:
        return [one for one in self.inside if isinstance(one, Node)]

    @property
    def text(self) -> str:
        """Without what blanks there are between its parts."""
        said = "".join(one if isinstance(one, str) else one.text for one in self.inside)
        return re.sub(r"\s+", " ", said).strip() if self.tag != "pre" else said

    def all(self, tag: str) -> list[Node]:
        found = [self] if self.tag == tag else []
        return [*found, *(each for one in self.children for each in one.all(tag))]


class Reader(HTMLParser):
    """Makes a tree of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.path = [Node("page", {})]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        self.path[-1].inside.append(node)
        if tag == "br":
            self.path[-1].inside.append("\n")
        elif tag != "img":
            self.path.append(node)

    def handle_endtag(self, tag: str) -> None:
        self.path.pop()

    def handle_data(self, data: str) -> None:
        self.path[-1].inside.append(data)


def read(page: str) -> dict[str, Any]:
    """What a page says.

    Returns:
        ``header``: state, run, prompt, title, counts, time; ``rows``: depth, mark ("" of a group), call, marks after it, result
        (of a group its counts), time; ``errors``: how many, text, first action, place; ``log``: label and text.
    """
    box = Reader(page).path[0].children[0]
    found: dict[str, Any] = {"header": [one.text for one in box.children[0].children[1:]], "rows": [], "errors": []}
    for part in box.children[1:]:
        if part.tag == "div" and part.children[0].tag == "ul":
            _rows(part.children[0], 0, found["rows"])
        elif part.tag == "div":
            found["errors"] = [_error(one.children[0].text) for one in part.children if one.tag == "details"]
        elif part.children[0].text.startswith("Log"):
            found["log"] = [re.split(" ?│ ?", line, maxsplit=1) for line in part.all("pre")[0].text.split("\n")]
    return found


def _rows(list_: Node, depth: int, out: list[list[Any]]) -> None:
    for one in list_.children:
        if one.tag == "ul":
            _rows(one, depth + 1, out)
        elif one.children[0].tag == "b":
            name, count, _bar, said = one.children[:4]
            counts, _, took = said.text.rpartition(" · ")
            out.append([depth, "", f"{name.text} {count.text}", "", counts, took])
        else:
            call, *rest = one.children[0].children
            mark, label, marks = [part.text for part in call.children]
            out.append([depth, mark, label, marks.removeprefix("· "), *(part.text for part in rest)])


def _error(summary: str) -> list[str]:
    found = re.fullmatch(r"✗ (?:([\d,]+) × )?(.*) (?:first:|in) (a\d+ .*?)(?: at (.*))?", summary)
    assert found is not None, summary
    return [found[1] or "1", found[2], found[3], found[4] or ""]
