"""Static HTML of a run: what stays in the saved notebook. Runs in: engine thread.

Untrusted notebooks lose ``<svg>``, ``<style>``, scripts and CSS variables, and dark themes change the ground under it, so this
uses inline styles, inherited text colour, translucent greys, ``<details>`` and data-URI images only. Every string from outside
goes through `html.escape`.
"""

from __future__ import annotations

from html import escape

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.values import redact
from flyte_nb.views.printed.outline import Line, outline
from flyte_nb.views.printed.pictures import heat_png, histogram_png
from flyte_nb.views.printed.text import common_text
from flyte_nb.views.run_model import HEAT_MIN, RunModel, is_implied
from flyte_nb.views.words import (
    LOOKS,
    attempt_text,
    duration,
    elapsed,
    error_line,
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
    time_text,
)  # fmt: skip

#: Longest snapshot, in bytes: it is saved in the notebook.
MAX_PAGE_BYTES = 200_000
#: Rows of the tree.
TREE_ROWS = 120
#: Log lines.
MAX_LOG_LINES = 40
#: Longest log line, in characters.
PAGE_LINE_CHARS = 300
#: Different errors shown.
MAX_FOLDS = 10
#: Actions listed under an error.
MAX_LISTED = 20
#: Bytes of user reports included; larger ones are left to `run.get_report()`.
REPORT_BYTES = 60_000
#: Members of a group whose times are looked at; times below which nobody asks, in seconds.
MAX_TIMES, SHORTEST = 20_000, 0.001
#: Seconds from which on it is told what the time of an action was spent on.
SLOW_S = 1.0
#: Longest traceback, in characters.
TRACE_CHARS = 4_000
#: First in each frame of a report: nothing is fetched over the network, so that a report tells nobody who reads it, and when.
REPORT_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; font-src data:; media-src data:; style-src 'unsafe-inline'\">"
)

_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
_MUTED = "opacity:.72"
_LINE = "1px solid rgba(128,128,128,.28)"


def render(model: RunModel, view: str = "") -> str:
    """The snapshot.

    Args:
        model: The run; what changed should have been taken.
        view: Identity of the live view: a browser that still has it mounts it over this.

    Returns:
        HTML of less than `MAX_PAGE_BYTES` bytes.
    """
    now = model.clock()
    for rows, lines, reports in ((TREE_ROWS, MAX_LOG_LINES, True), (60, 20, False), (20, 5, False), (0, 0, False)):
        body = _header(model, now) + _errors(model) + _tree(model, now, rows) + _logs(model, lines)
        body += _reports(model) if reports else ""
        out = (
            f'<div class="flyte-nb-static" data-flyte-run="{escape(model.record.state.run)}" '
            f'data-flyte-view="{escape(view)}" '
            f'style="font-size:13px;line-height:1.5;border:{_LINE};border-radius:6px;overflow:hidden;margin:2px 0">{body}</div>'
        )
        if len(out.encode()) < MAX_PAGE_BYTES:
            return out
    return f"<pre>{_safe(_header_text(model, now), 2_000)}</pre>"


def _safe(text: str, limit: int) -> str:
    return escape(shown(text, limit))


def _label(text: str, limit: int) -> str:
    return escape(label_text(text, limit))


def _header_text(model: RunModel, now: float) -> str:
    state = model.record.state
    return f"{state.run} {saved_word(state, now)} {duration(elapsed(state.started_at, state.ended_at, now))}"


def _mark(phase: Phase) -> str:
    return f'<span style="color:{LOOKS[phase].colour};font-weight:600">{saved_mark(phase)}</span>'


def _header(model: RunModel, now: float) -> str:
    state = model.record.state
    took = duration(elapsed(state.started_at, state.ended_at, now))
    record = model.record
    actions = [a for n in record.numbered[:3] if not is_implied(record, a := record.actions[n])]
    title = actions[0].label if len(actions) == 1 and len(record.numbered) <= 2 else state.title
    where = f"In [{state.prompt}]" if state.prompt else ""
    counts = "" if sum(model.counts) <= 1 else summary(model.counts, saved=True)
    word = saved_word(state, now)
    if state.note and state.note != word:
        title = f"{state.note} · {title}"
    return (
        # The blanks between are for hosts that take the styles away.
        f'<div style="padding:5px 10px;display:flex;gap:9px;align-items:baseline">{_mark(state.phase)} '
        f'<b style="white-space:nowrap">{word[0].upper()}{word[1:]}</b> '
        f'<b style="{_MONO};font-size:12px;{_MUTED}">{escape(state.run)}</b> '
        f'<span style="{_MONO};font-size:12px;{_MUTED};white-space:nowrap">{escape(where)}</span> '
        f'<span style="{_MONO};font-size:12px;{_MUTED};flex:1;overflow:hidden;text-overflow:ellipsis;white-space:nowrap">'
        f"{_safe(title, 120)}</span> "
        f'<span style="{_MUTED};white-space:nowrap">{counts}</span> <b style="white-space:nowrap">{took}</b></div>'
    )


def _bar(counts: list[int], total: int) -> str:
    cells = "".join(
        f'<span style="flex:{n} 0 0%;min-width:2px;background:{segment.look.colour};'
        f'{"opacity:.35" if Phase.QUEUED in segment.phases else ""}"></span>'
        for segment, n in tally(counts)
    )
    words = escape(f"{summary(counts, saved=True)} of {number(total)}")
    return (
        f'<span title="{words}" style="display:inline-flex;width:160px;height:8px;border-radius:4px;overflow:hidden;'
        f'vertical-align:middle;background:rgba(128,128,128,.2)">{cells}</span>'
    )


def _tree(model: RunModel, now: float, limit: int) -> str:
    lines = outline(model.record, limit)
    if limit == 0 or not lines or (len(lines) == 1 and lines[0].group is None):
        return ""
    out: list[str] = []
    depth = -1
    for line in lines:
        # Lists, not indents: nesting stays to be seen where a host takes the styles away.
        while depth < line.depth:
            pad = 0 if depth < 0 else 18
            out.append(f'<ul style="list-style:none;margin:0;padding:0 0 0 {pad}px">')
            depth += 1
        while depth > line.depth:
            out.append("</ul>")
            depth -= 1
        out.append(f'<li style="margin:0;padding:0">{_tree_line(model, line, now)}</li>')
    out.append("</ul>" * (depth + 1))
    return f'<div style="border-top:{_LINE};padding:4px 10px">{"".join(out)}</div>'


def _tree_line(model: RunModel, line: Line, now: float) -> str:
    if line.group is not None:
        return _group(model, line.group, now)
    if line.action is not None:
        return _action(model, line.action, now)
    return f'<span style="{_MUTED}">… {number(line.left_out)} more</span>'


def _group(model: RunModel, group: Group, now: float) -> str:
    first = model.record.actions[group.members[0]]
    took = duration(elapsed(first.queued_at, model.group_ended(group), now))
    heat = ""
    if len(group.members) >= HEAT_MIN:
        heat = (
            f'<div><img alt="{escape(summary(group.counts, saved=True))}: one cell per action" '
            f'style="display:block;margin:3px 0 5px;max-width:100%;image-rendering:pixelated" '
            f'src="{heat_png(group.phases)}"></div>'
        ) + _times(model, group)
    return (
        f'<b style="{_MONO};font-size:12px">{_label(group_name(group), 80)}</b> '
        f'<span style="{_MUTED}">× {number(len(group.members))}{_shared(model, group)}</span> '
        f"{_bar(group.counts, len(group.members))} "
        f'<span style="{_MUTED}">{escape(model.progress.summary(group, saved=True))} · {took}</span>{heat}'
    )


def _times(model: RunModel, group: Group) -> str:
    """How the times of a group that has ended are distributed."""
    if model.group_ended(group) is None:
        return ""
    took = sorted(group.durations(model.record.actions, MAX_TIMES))
    if len(took) < HEAT_MIN or took[-1] < SHORTEST:
        return ""
    median, late = (took[int(share * len(took))] for share in (0.5, 0.95))
    words = f"{duration(took[0])} to {duration(took[-1])}, median {duration(median)}, 95 % below {duration(late)}"
    look = "vertical-align:bottom;margin-right:8px"
    picture = f'<img alt="How many took how long" style="{look}" src="{histogram_png(took)}">'
    return f'<div style="{_MUTED};font-size:12px">{picture}{words}</div>'


def _shared(model: RunModel, group: Group) -> str:
    text = model.labels.shared(group).text
    return f" · {_label(text, 120)}" if text else ""


def _action(model: RunModel, action: Action, now: float) -> str:
    """Call, result and time in the columns of the live view; side by side where a host takes the styles away."""
    spent = ran(action, now)
    took = duration(spent)
    marks = "".join(f" · {mark}" for mark in (attempt_text(action), "cached" if action.cached else "") if mark)
    # Of a slow one, what it was spent on.
    spent_on = time_text(model.record, action, now) if (spent or 0.0) >= SLOW_S and action.ended_at is not None else ""
    failed = f"color:{LOOKS[Phase.FAILED].colour}" if error_line(action) else f"{_MUTED};{_MONO}"
    cell = "min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return (
        f'<div style="display:flex;gap:10px;align-items:baseline"><span style="flex:11 1 0;{cell}">{_mark(action.phase)} '
        f'<span style="{_MONO};font-size:12px">{_label(model.labels.of(action.name, action.label) or action.task, 120)}</span>'
        f'<span style="{_MUTED}">{escape(marks)}</span></span> '
        f'<span style="flex:9 1 0;font-size:12px;{failed};{cell}">{_safe(result_line(action, 160), 320)}</span> '
        f'<span title="{_safe(spent_on, 300)}" style="flex:0 0 68px;text-align:right;{_MUTED};white-space:nowrap">'
        f"{escape(took)}</span></div>"
    )


def _errors(model: RunModel) -> str:
    out = []
    for fold in model.errors.most(MAX_FOLDS):
        failed = fold.ordered()
        first = failed[0]
        line = f'<div style="{_MONO};font-size:12px">'
        items = "".join(
            f"{line}a{a.number} {_label(model.labels.named(a.name, a.label), 120)}</div>" for a in failed[:MAX_LISTED]
        )
        left = len(failed) - MAX_LISTED
        more = f'<div style="{_MUTED}">… {number(left)} more</div>' if left > 0 else ""
        times, of = (f"{number(len(failed))} × ", "first:") if len(failed) > 1 else ("", "in")
        label = _label(model.labels.named(first.name, first.label), 80)
        text = model.failure_texts.get(first.name) or (first.error.message if first.error else "")
        block = f"{_MONO};font-size:12px;white-space:pre-wrap;margin:4px 0;max-height:300px;overflow:auto"
        spent = _safe(time_text(model.record, first, model.clock()), 300)
        items = f'<div style="{_MUTED}">{spent}</div>{items}' if spent else items
        trace = f'<pre style="{block}">{_safe(text, TRACE_CHARS)}</pre>' if text else ""
        out.append(
            f'<details style="padding:2px 0"><summary style="cursor:pointer">{_mark(Phase.FAILED)} {times}'
            f'<span style="{_MONO};font-size:12px">{_safe(fold.text, 240)}</span>{escape(common_text(model, fold))} '
            f'<span style="{_MUTED}">{of} a{first.number} {label}'
            f"{' at ' + _safe(fold.where, 120) if fold.where else ''}</span></summary>{trace}{items}{more}</details>"
        )
    if (others := len(model.errors) - MAX_FOLDS) > 0:
        out.append(f'<div style="{_MUTED}">… {others} other error{"s" * (others > 1)}</div>')
    if not out:
        return ""
    red = "rgba(217,54,62,.10)"
    return f'<div style="border-top:{_LINE};background:{red};padding:4px 10px">{"".join(out)}</div>'


def _logs(model: RunModel, limit: int) -> str:
    record = model.record
    tail = model.log.last(limit)
    if not tail:
        return ""
    hidden = record.logs.total - len(tail)
    several = len(record.logs.actions()) > 1
    above = f'<span style="{_MUTED}">… {number(hidden)} lines above are not in this snapshot</span>'
    rows = [above] if hidden > 0 else []
    for name, line in tail:
        action = record.actions.get(name)
        label = (
            f'<span style="{_MUTED}">{_label(model.labels.named(action.name, action.label), 30)} │ </span>'
            if action and several
            else ""
        )
        colour = f' style="color:{LOOKS[Phase.FAILED].colour}"' if line.stream in ("error", "critical") else ""
        rows.append(f"{label}<span{colour}>{_safe(line.text, PAGE_LINE_CHARS)}</span>")
    opened = " open" if len(tail) <= 12 else ""
    return (
        f'<details{opened} style="border-top:{_LINE};padding:4px 10px"><summary style="cursor:pointer;{_MUTED}">'
        f"Log · {number(record.logs.total)} line{'s' * (record.logs.total != 1)}</summary>"
        f'<pre style="{_MONO};font-size:12px;line-height:1.4;white-space:pre-wrap;margin:2px 0;max-height:260px;overflow:auto">'
        f"{'<br>'.join(rows)}</pre></details>"
    )


def _reports(model: RunModel) -> str:
    out = []
    left = REPORT_BYTES
    for (name, tab), report in model.record.reports.items():
        action = model.record.actions.get(name)
        source = escape(REPORT_POLICY + redact.scrub_code(report[: 2 * REPORT_BYTES]), quote=True)
        left -= len(source.encode())
        if left < 0 or action is None:
            break
        out.append(
            f'<details style="border-top:{_LINE};padding:4px 10px"><summary style="cursor:pointer">Report · '
            f'{_label(action.label, 80)} · {_safe(tab, 40)}</summary><iframe sandbox="" srcdoc="{source}" '
            f'style="width:100%;height:320px;border:0;background:#fff"></iframe></details>'
        )
    return "".join(out)
