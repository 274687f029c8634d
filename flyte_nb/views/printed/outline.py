"""Outline of a run: its tree in a bounded number of lines, for text, HTML and terminal. Runs in: engine thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.run_model import roots

#: Members of a group that are listed even though all is well.
LISTED = 12
#: Deepest level shown: deeper nesting is recursion, and reads the same.
MAX_TREE_DEPTH = 12


class Line(NamedTuple):
    """One line of the outline: a group, an action, or how many are left out."""

    depth: int
    group: Group | None = None
    action: Action | None = None
    left_out: int = 0


def outline(record: RunRecord, limit: int) -> list[Line]:
    """At most `limit` lines of the run's tree: level by level, so that a deep branch can't hide its siblings.

    Groups of one action show the action itself. Of larger groups the failed, paused and running members come first.
    """
    top = [record.groups[key] for root in roots(record) for key in record.children.get(root, ())]
    budget = [limit]
    tree: list[_Node] = []
    frontier = [(tree, group, 0) for group in top]
    while frontier and budget[0] > 0:
        following: list[tuple[list[_Node], Group, int]] = []
        for at, (into, group, depth) in enumerate(frontier):
            if budget[0] <= 0:
                into.append(_Node(Line(depth, left_out=sum(len(g.members) for _, g, _ in frontier[at:]))))
                break
            following.extend(_add_group(record, into, group, depth, budget))
        frontier = following
    return list(_walk(tree))


class _Node(NamedTuple):
    line: Line
    below: list[_Node] = []  # noqa: RUF012 - replaced where it is filled


def _add_group(
    record: RunRecord, into: list[_Node], group: Group, depth: int, budget: list[int]
) -> list[tuple[list[_Node], Group, int]]:
    """Add a group's line and its listed members; returns the groups below them."""
    members, left_out = _listed(record, group, budget[0])
    if len(group.members) > 1 or group.named:
        budget[0] -= 1
        node = _Node(Line(depth, group=group), [])
        into.append(node)
        into, depth = node.below, depth + 1
    below: list[tuple[list[_Node], Group, int]] = []
    for action in members:
        budget[0] -= 1
        node = _Node(Line(depth, action=action), [])
        into.append(node)
        if depth < MAX_TREE_DEPTH:
            below.extend(
                (node.below, record.groups[key], depth + 1) for key in record.children.get(action.name, ())[:50]
            )
    # Of a group that is not listed at all, its own line with its bar is enough.
    if left_out and 1 < len(group.members) <= LISTED:
        into.append(_Node(Line(depth, left_out=left_out)))
    return below


def _listed(record: RunRecord, group: Group, room: int) -> tuple[list[Action], int]:
    n = len(group.members)
    if n <= min(LISTED, room):
        return [record.actions[m] for m in group.members], 0
    if n > LISTED:
        return [], n
    return [record.actions[m] for m in group.members[:room]], n - room


def _walk(nodes: list[_Node]) -> Iterator[Line]:
    for node in nodes:
        yield node.line
        yield from _walk(node.below)
