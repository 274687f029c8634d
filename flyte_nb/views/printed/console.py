"""Console tree: a run as a live tree on a terminal, drawn with rich. Runs in: engine thread."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flyte_nb.core.history.facts import Phase
from flyte_nb.core.values.describe import plain
from flyte_nb.views.printed.outline import Line, outline
from flyte_nb.views.printed.text import action_columns, fold_text, group_label, log_line
from flyte_nb.views.run_model import RunModel
from flyte_nb.views.surface import Mode, Surface
from flyte_nb.views.words import LOOKS, cut, duration, elapsed, number, summary, tally

#: Lines left for the shell above the tree.
MARGIN = 4
#: Tallest tree, in lines, whatever the terminal: a taller one scrolls what the program prints out of sight.
MAX_HEIGHT = 30
#: Seconds between two redraws at least.
DRAW_EVERY = 0.125
BAR = 24


class ConsoleTree(Surface):
    """Draws and redraws the tree on a terminal below what the program prints; log lines go above it."""

    mode = Mode.CONSOLE

    def __init__(self, model: RunModel, stream: TextIO) -> None:
        super().__init__(model)
        self.console: Console = Console(file=stream, highlight=False, markup=False)
        self._live = self._new_live()
        self._started = False
        #: Whether something else is being printed: nothing is drawn meanwhile.
        self._paused = False

    def _new_live(self) -> Live:
        # Output of the program, such as a traceback, goes above the tree, unless stdout was redirected already.
        plain_stdout = sys.stdout is sys.__stdout__ and self.console.is_terminal
        return Live(console=self.console, auto_refresh=False, redirect_stdout=plain_stdout, redirect_stderr=False)

    def interval(self) -> float:
        """Seconds to the next redraw at least."""
        return DRAW_EVERY

    def update(self) -> int:
        """Take what changed and redraw."""
        if not self._paused:
            self._draw()
        return 0

    def _draw(self) -> None:
        self._print_logs()
        if not self._started:
            self._started = True
            self._live.start()
        self._live.update(self.render(), refresh=True)

    def _print_logs(self) -> None:
        """Print what was logged since, above the tree."""
        changes = self.model.take()
        if changes.skipped:
            self.console.print(Text(f"… {number(changes.skipped)} log lines hidden", style="dim"))
        for name, line in changes.lines:
            style = "red" if line.stream in ("stderr", "error", "critical") else ""
            self.console.print(Text(log_line(self.model, name, line), style=style), soft_wrap=True)

    def close(self) -> None:
        """Draw for the last time and leave the tree where it is."""
        self._draw()
        self._live.stop()

    def pause(self) -> None:
        """Remove the tree, for something else to be printed there."""
        self._paused = True
        self._print_logs()
        if self._started:
            self._started = False
            self._live.transient = True
            self._live.stop()
            self._live = self._new_live()  # a stopped one would be redrawn over what is printed below it

    def resume(self) -> None:
        """It has been printed: the next flush draws the tree again, below that."""
        self._paused = False

    def leave(self) -> bool:
        """Leave the terminal to the prompt: the run goes on without being shown."""
        self._draw()
        self._live.stop()
        run = self.model.record.state.run
        self.console.print(Text(f"  {run} goes on; %flyte show {run} shows it", style="dim"))
        return True

    def render(self) -> RenderableType:
        """The tree as rich draws it."""
        model = self.model
        now = model.clock()
        height = min(MAX_HEIGHT, self.console.height - MARGIN)
        folds = model.errors.most(3)
        lines = outline(model.record, max(3, height - 2 - len(folds)))
        parts: list[RenderableType] = [self._header(now)]
        if len(lines) > 1 or any(line.group for line in lines):
            table = Table.grid(padding=(0, 1))
            for _ in range(3):
                table.add_column(no_wrap=True, overflow="ellipsis")
            for line in lines:
                table.add_row(*self._cells(line, now))
            parts.append(table)
        errors = [f"  ✗ {fold_text(model, fold)}" for fold in folds]
        parts.extend(Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in errors)
        return Group(*parts)

    def _header(self, now: float) -> Text:
        state = self.model.record.state
        look = LOOKS[state.phase]
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{look.icon} {state.run} {look.word} ", style=f"bold {look.terminal}")
        text.append(duration(elapsed(state.started_at, state.ended_at, now)))
        if sum(self.model.counts) > 1:
            text.append(f"  {summary(self.model.counts)}")
        text.append(f"  {plain(cut(state.headline, 80))}", style="dim")
        return text

    def _cells(self, line: Line, now: float) -> tuple[RenderableType, ...]:
        pad = "  " * (line.depth + 1)
        if line.group is not None:
            group = line.group
            first = self.model.record.actions[group.members[0]]
            took = duration(elapsed(first.queued_at, self.model.group_ended(group), now))
            label = Text(f"{pad}{plain(group_label(self.model, group))}", style="bold")
            said = Text(f"{self.model.progress.summary(group)}  {took}", style="dim")
            return label, _bar(group.counts, len(group.members)), said
        if line.action is not None:
            action = line.action
            look = LOOKS[action.phase]
            call, told = action_columns(self.model, action, now)
            text = Text(pad)
            text.append(look.icon, style=look.terminal)
            text.append(f" {call}")
            return text, Text(""), Text(plain(told), style="red" if action.phase is Phase.FAILED else "dim")
        return Text(f"{pad}… {number(line.left_out)} more", style="dim"), Text(""), Text("")


def _bar(counts: list[int], total: int) -> Text:
    out = Text()
    seen = used = 0
    for segment, n in tally(counts):
        seen += n
        upto = max(round(seen * BAR / max(1, total)), min(BAR, used + 1))
        out.append(("░" if Phase.QUEUED in segment.phases else "█") * (upto - used), style=segment.look.terminal)
        used = upto
    return out
