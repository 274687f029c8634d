"""Result cache: list it, or clear it, ``%flyte cache``. Runs in: kernel main thread."""

from __future__ import annotations

import time

from flyte_nb import cache as store
from flyte_nb.core.cache.location import folder_and_bound
from flyte_nb.core.values.describe import bytes_text
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.session import Session


@subcommand("cache", "[clear [task]]", "results that are kept: how many, how large, how often used; clear drops them")
def cache(_session: Session, *words: str) -> str:
    """Show the cache, or clear it."""
    if not words:
        return overview()
    if words[0] != "clear" or len(words) > 2:
        return "%flyte cache shows what is kept; %flyte cache clear [task] drops it."
    task = words[1] if len(words) > 1 else ""
    count = store.clear(task)
    if not count and task:
        return f"Nothing is kept of {task}; %flyte cache lists the tasks."
    return f"{count:,} result{'s' * (count != 1)} dropped{' of ' + task if task else ''}."


def overview() -> str:
    """The folder, and one line for each task."""
    folder, bound = folder_and_bound()
    rows = store.entries()
    if not rows:
        return f"No results are kept in {folder}."
    total = sum(row.nbytes for row in rows)
    results = sum(row.entries for row in rows)
    width = max(len("task"), *(len(row.task) for row in rows))
    lines = [f"{results:,} results in {folder}: {bytes_text(total, tenths=True)} of {bytes_text(bound, tenths=True)}"]
    lines.append(f"{'task':<{width}}  {'results':>8}  {'size':>9}  {'hits':>8}  last used")
    now = time.time()
    for row in rows:
        counts = f"{row.entries:>8,}  {bytes_text(row.nbytes, tenths=True):>9}  {row.hits:>8,}"
        lines.append(f"{row.task:<{width}}  {counts}  {ago(now - row.used_at)}")
    return "\n".join(lines)


def ago(seconds: float) -> str:
    """A time that has passed, roughly: "5 minutes ago"."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "just now"
