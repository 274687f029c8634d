"""Plain text of a run: one useful screen, and its parts. Runs in: engine thread."""

from __future__ import annotations

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action, LogLine
from flyte_nb.core.values.describe import plain
from flyte_nb.views.equal_errors import Fold
from flyte_nb.views.printed.outline import Line, outline
from flyte_nb.views.run_model import RunModel, is_implied
from flyte_nb.views.words import (
    LOOKS,
    attempt_text,
    cut,
    cut_middle,
    duration,
    elapsed,
    group_name,
    label_text,
    number,
    ran,
    result_line,
    saved_mark,
    saved_word,
    shown,
    summary,
    tally,
)

#: One screen.
SCREEN_LINES = 24
WIDTH = 100
BAR = 20
#: Longest text, in characters: it is in every saved notebook beside the HTML.
MAX_CHARS = 4_000


def screen(model: RunModel) -> str:
    """The run on one screen: header, tree, errors, last log lines."""
    record = model.record
    now = model.clock()
    out = [headline(model, now)]
    errors = model.errors.most()
    lines = outline(record, 14 if errors or model.log else 20)
    if len(lines) > 1 or any(line.group for line in lines):
        out.extend(_tree_line(model, line, now) for line in lines)
    out.extend(f"  ✗ {fold_text(model, fold)}" for fold in errors[:4])
    if (others := len(errors) - 4) > 0:
        out.append(f"  ✗ and {others} other error{'s' * (others > 1)}")
    room = max(0, SCREEN_LINES - len(out) - 1)
    tail = model.log.last(min(room, 8))
    hidden = record.logs.total - len(tail)
    if tail and hidden > 0:
        out.append(f"  … {number(hidden)} log lines above these")
    out.extend(f"  │ {log_line(model, name, line)}" for name, line in tail)
    return cut("\n".join(shown(line, WIDTH) for line in out), MAX_CHARS)


def fold_text(model: RunModel, fold: Fold) -> str:
    """``"397 × KeyError: 'a', all with fold=3  (first: a17 square(17))"``."""
    first = f"{fold.first.id} {label_text(model.labels.named(fold.first.name, fold.first.label), 80)}"
    if len(fold.names) == 1:
        return f"{fold.text}  (in {first})"
    return f"{number(len(fold.names))} × {fold.text}{common_text(model, fold)}  (first: {first})"


def common_text(model: RunModel, fold: Fold) -> str:
    """``", all with fold=3"``: what the failed calls have in common, and no other; "" for nothing."""
    common = model.labels.in_common(fold)
    return f", {'both' if len(fold.names) == 2 else 'all'} with {label_text(common, 80)}" if common else ""


def headline(model: RunModel, now: float) -> str:
    """``"✓ r3 succeeded in 2.10 s: 1,000 done"``; ``"▷ r3 not ended at 03:12:44 after 2.10 s: 2 under way"``."""
    state = model.record.state
    took = duration(elapsed(state.started_at, state.ended_at, now))
    counts, word = summary(model.counts, saved=True), saved_word(state, now)
    head = f"{saved_mark(state.phase)} {state.run} {word} {'after' if ' at ' in word else 'in'} {took}"
    title = f" · {state.title}" if state.title else ""
    return head + (f": {counts}" if counts else "") + title


def _tree_line(model: RunModel, line: Line, now: float) -> str:
    pad = "  " * (line.depth + 1)
    if line.group is not None:
        return pad + group_text(model, line.group, now)
    if line.action is not None:
        return pad + _said(saved_mark(line.action.phase), *action_columns(model, line.action, now))
    return f"{pad}… {number(line.left_out)} more"


def group_text(model: RunModel, group: Group, now: float) -> str:
    """``"square × 603 [######....] 600 done, 3 failed  2.10 s"``."""
    first = model.record.actions[group.members[0]]
    took = duration(elapsed(first.queued_at, model.group_ended(group), now))
    filled = bar(group.counts, len(group.members))
    return f"{group_label(model, group)} [{filled}] {model.progress.summary(group, saved=True)}  {took}"


def group_label(model: RunModel, group: Group) -> str:
    """``"fit × 72 · X=<DataFrame 569x30>"``: its task, how many calls, and what they share."""
    shared = model.labels.shared(group).text
    said = f" · {cut_middle(shared, 60)}" if shared else ""
    return f"{cut_middle(group_name(group), 40)} × {number(len(group.members))}{said}"


def action_text(model: RunModel, action: Action, now: float) -> str:
    """``"✓ square(3)  9  0.10 s"``: call, result and time, as the view's columns, not below its group."""
    return _said(LOOKS[action.phase].icon, *action_columns(model, action, now, alone=True))


def _said(mark: str, *columns: str) -> str:
    return f"{mark} {'  '.join(filter(None, columns))}"


def action_columns(model: RunModel, action: Action, now: float, *, alone: bool = False) -> tuple[str, str]:
    """``("square(3)", "9  0.10 s")``: the call, and what is said of it."""
    label = (model.labels.named if alone else model.labels.of)(action.name, action.label)
    took = duration(ran(action, now))
    said = (attempt_text(action), "cached" if action.cached else "", result_line(action, 80), took)
    return label_text(label or action.task, 60), "  ".join(filter(None, said))


def bar(counts: list[int], total: int, width: int = BAR) -> str:
    """A bar of `width` characters, by `Segment.mark`: ``#`` done, ``x`` failed, ``.`` queued."""
    out = ""
    seen = 0
    for segment, n in tally(counts):
        seen += n
        # Rounding the running sum keeps the whole at `width`; a segment that isn't empty gets a character if there is room.
        upto = max(round(seen * width / max(1, total)), min(width, len(out) + 1))
        out += segment.mark * (upto - len(out))
    return out[:width].ljust(width, ".")


def log_line(model: RunModel, name: str, line: LogLine) -> str:
    """``"square(3): text"``."""
    action = model.record.actions.get(name)
    implied = action is None or is_implied(model.record, action)
    label = "" if action is None or implied else label_text(model.labels.named(name, action.label) or action.task, 30)
    return f"{label}: {plain(line.text)}" if label else plain(line.text)
