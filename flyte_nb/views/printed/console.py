"""A live tree of a run on a terminal, with rich. Runs in: engine thread."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flyte_nb.core.history.facts import Phase
from flyte_nb.views.outline import Line, outline
from flyte_nb.views.picture import Picture
from flyte_nb.views.text import action_text, fold_text, log_line
from flyte_nb.views.words import LOOKS, cut, duration, elapsed, number, plain, summary, tally

#: Lines left for the shell above the tree.
MARGIN = 4
#: Tallest tree, in lines, whatever the terminal: a taller one scrolls what the program prints out of sight.
MAX_HEIGHT = 30
#: Log lines printed above the tree per flush.
LOGS_PER_FLUSH = 60
BAR = 24


class ConsoleTree:
    """Draws and redraws the tree below what the program prints; log lines go above it.

    Args:
        picture: The run.
        stream: A terminal.
    """

    def __init__(self, picture: Picture, stream: TextIO) -> None:
        self._picture = picture
        self.console = Console(file=stream, highlight=False, markup=False)
        self._live = self._new_live()
        self._started = False
        #: Whether something else is being printed: nothing is drawn meanwhile.
        self._paused = False

    def _new_live(self) -> Live:
        # What the program prints (a traceback, say) goes above the tree, not through it; unless it goes elsewhere already.
        plain_stdout = sys.stdout is sys.__stdout__ and self.console.is_terminal
        return Live(console=self.console, auto_refresh=False, redirect_stdout=plain_stdout, redirect_stderr=False)

    def flush(self) -> None:
        """Take what changed and redraw."""
        if not self._paused:
            self._draw()

    def _draw(self) -> None:
        self._print_logs()
        if not self._started:
            self._started = True
            self._live.start()
        self._live.update(self.picture(), refresh=True)

    def _print_logs(self) -> None:
        """Print what was logged since, above the tree."""
        picture = self._picture
        _, _, lines, skipped = picture.take()
        if skipped:
            self.console.print(Text(f"… {number(skipped)} log lines hidden", style="dim"))
        for name, line in lines[-LOGS_PER_FLUSH:]:
            style = "red" if line.stream in ("stderr", "error", "critical") else ""
            self.console.print(Text(log_line(picture, name, line), style=style), soft_wrap=True)

    def finish(self) -> None:
        """Draw for the last time and leave the tree where it is."""
        self._draw()
        self._live.stop()

    def pause(self) -> None:
        """Take the tree away, for something else to be printed in its place."""
        self._paused = True
        self._print_logs()
        if self._started:
            self._started = False
            self._live.transient = True
            self._live.stop()
            self._live = self._new_live()  # one that has stopped would go up over what is printed in its place

    def resume(self) -> None:
        """It has been printed: the next flush draws the tree again, below that."""
        self._paused = False

    def leave(self) -> None:
        """Leave the terminal to the prompt: the run goes on without being shown."""
        self._draw()
        self._live.stop()
        run = self._picture.record.state.run
        self.console.print(Text(f"  {run} goes on; %flyte show {run} shows it", style="dim"))

    def picture(self) -> RenderableType:
        """The tree as rich draws it."""
        picture = self._picture
        now = picture.clock()
        height = min(MAX_HEIGHT, self.console.height - MARGIN)
        folds = picture.errors.rows()[:3]
        lines = outline(picture.record, max(3, height - 2 - len(folds)))
        parts: list[RenderableType] = [self._header(now)]
        if len(lines) > 1 or any(line.group for line in lines):
            table = Table.grid(padding=(0, 1))
            for _ in range(3):
                table.add_column(no_wrap=True, overflow="ellipsis")
            for line in lines:
                table.add_row(*self._cells(line, now))
            parts.append(table)
        errors = [f"  ✗ {fold_text(fold)}" for fold in folds]
        parts.extend(Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in errors)
        return Group(*parts)

    def _header(self, now: float) -> Text:
        state = self._picture.record.state
        look = LOOKS[state.phase]
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{look.icon} {state.run} {look.word} ", style=f"bold {look.terminal}")
        text.append(duration(elapsed(state.started_at, state.ended_at, now)))
        if sum(self._picture.counts) > 1:
            text.append(f"  {summary(self._picture.counts)}")
        text.append(f"  {plain(cut(state.headline, 80))}", style="dim")
        return text

    def _cells(self, line: Line, now: float) -> tuple[RenderableType, ...]:
        pad = "  " * (line.depth + 1)
        if line.group is not None:
            group = line.group
            first = self._picture.record.actions[group.members[0]]
            took = duration(elapsed(first.queued_at, self._picture.group_ended(group), now))
            label = Text(f"{pad}{plain(cut(group.label, 50))} × {number(len(group.members))}", style="bold")
            return label, _bar(group.counts, len(group.members)), Text(f"{summary(group.counts)}  {took}", style="dim")
        if line.action is not None:
            action = line.action
            look = LOOKS[action.phase]
            icon, _, rest = action_text(action, now).partition(" ")
            name, _, tail = rest.partition("  ")
            text = Text(pad)
            text.append(icon, style=look.terminal)
            text.append(f" {plain(name)}")
            return text, Text(""), Text(plain(tail), style="red" if action.phase is Phase.FAILED else "dim")
        return Text(f"{pad}… {number(line.left_out)} more", style="dim"), Text(""), Text("")


def _bar(counts: list[int], total: int) -> Text:
    out = Text()
    seen = used = 0
    for name, phase, n in tally(counts):
        seen += n
        upto = max(round(seen * BAR / max(1, total)), min(BAR, used + 1))
        out.append(("░" if name == "queued" else "█") * (upto - used), style=LOOKS[phase].terminal)
        used = upto
    return out
