"""What stays without a browser: HTML, text, plain lines, the terminal's tree."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.printed import html, text
from flyte_nb.views.printed.console import ConsoleTree
from flyte_nb.views.printed.lines import PlainLines
from flyte_nb.views.run_model import RunModel
from tests.views.browser import recording
from tests.views.printed import reading

EVIL = "<img src=x onerror=alert(1)>\"'&\x1b[31m"
ModelOf = Callable[[object], RunModel]


def hostile() -> Iterator[ev.Event]:
    """Every string that a user controls tries to be markup."""
    yield syn.opened("r1", EVIL)
    yield syn.root()
    for i in range(3):
        actor = syn.Actor("r1", f"e{i}", "a0", f"{EVIL}({i})", task=EVIL, group=EVIL)
        yield actor.queued(syn.T0)
        yield actor.start(syn.T0)
        yield actor.logged(syn.T0, EVIL, stream=EVIL)
        yield ev.Reported("r1", f"e{i}", EVIL, f"{EVIL}<script>alert(2)</script>")
        note = ErrorNote("user", EVIL, EVIL + "\n" + EVIL, EVIL)
        yield actor.ended(syn.T0 + 1, Phase.FAILED, note)
    yield ev.RunClosed("r1", Phase.FAILED, syn.T0 + 1, ErrorNote("user", EVIL, EVIL))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def test_no_user_string_becomes_markup(model_of: ModelOf) -> None:
    """A task, a log line, an error and a report named like markup show as text."""
    model = model_of(hostile())
    model.failure_texts["e0"] = EVIL
    page = html.render(model, "v1")
    tags = parsed(page)

    assert {"div", "span", "b", "ul", "li", "details", "summary", "pre", "br", "iframe"} >= tags.tags
    assert {
        "style",
        "class",
        "title",
        "open",
        "sandbox",
        "srcdoc",
        "data-flyte-run",
        "data-flyte-view",
    } >= tags.attributes
    assert "\x1b" not in re.sub(r'srcdoc="[^"]*"', "", page)
    assert 'sandbox=""' in page


@pytest.mark.parametrize("make", [syn.one_action, syn.nested, syn.mapped, hostile, lambda: syn.mapped(20_000, 2_000)])
def test_snapshot_is_well_formed_small_and_needs_nothing(
    model_of: ModelOf, make: Callable[[], Iterator[ev.Event]]
) -> None:
    """Every tag is closed, nothing is loaded, no CSS variable or style sheet is used, and it fits."""
    page = html.render(model_of(make()))
    tags = parsed(page)

    assert [] == tags.open
    assert len(page.encode()) < html.MAX_PAGE_BYTES
    assert not re.search(r"<(svg|style|script)|var\(--|https?://", re.sub(r'srcdoc="[^"]*"', "", page))


def test_snapshot_of_a_wide_and_loud_run_still_fits(store: RunStore, model_of: ModelOf) -> None:
    """Long labels, many errors and long lines don't push it over the limit."""

    def loud() -> Iterator[ev.Event]:
        yield syn.opened()
        yield syn.root()
        for i in range(400):
            actor = syn.Actor("r1", f"e{i}", "a0", "é" * 400, task=f"t{i % 200}", group=f"g{i % 200}")
            yield actor.queued(syn.T0)
            yield actor.logged(syn.T0, "ü" * 5_000)
            yield actor.ended(syn.T0, Phase.FAILED, ErrorNote("user", f"E{i}", "ö" * 4_000))
            yield ev.Reported("r1", f"e{i}", "main", "<p>ä</p>" * 10_000)
        yield ev.RunClosed("r1", Phase.FAILED, syn.T0 + 1)

    assert len(html.render(model_of(loud())).encode()) < html.MAX_PAGE_BYTES


def test_snapshot_says_what_matters(model_of: ModelOf) -> None:
    """State, counts, errors with their first action, and the last lines can be read in it."""
    page = re.sub("<[^>]+>", "", html.render(model_of(syn.mapped(1_000, 3, logs=True))))

    for words in ("Failed", "997 done, 3 failed", "3 × KeyError: &#x27;a&#x27;", "first: a", "scored batch"):
        assert words in page


def test_text_says_what_the_page_says(model_of: ModelOf) -> None:
    """The same columns, words, numbers and order; the live view's are compared with the page's by its own tests."""
    model = model_of(recording.story())
    page, lines = reading.read(html.render(model)), text.screen(model).splitlines()

    state, run, _prompt, title, counts, took = page["header"]
    assert lines[0] == f"✗ {run} {state.lower()} in {took}: {counts} · {title}"
    rows = [
        "  " * (depth + 1) + "  ".join(filter(None, (f"{mark} {call}".strip(), marks, result, time)))
        for depth, mark, call, marks, result, time in page["rows"]
    ]
    assert rows == [re.sub(r" \[[#x/=>.]+\] ", "  ", line) for line in lines[1 : len(rows) + 1]]
    errors = [
        f"  ✗ {n} × {said}  (first: {first})" if n != "1" else f"  ✗ {said}  (in {first})"
        for n, said, first, _ in page["errors"]
    ]
    assert errors == lines[len(rows) + 1 : len(rows) + 1 + len(errors)]
    tail = [line.removeprefix("  │ ") for line in lines if line.startswith("  │ ")]
    assert tail
    assert tail == [": ".join(line) for line in page["log"][-len(tail) :]]


def test_what_is_saved_while_it_runs_does_not_say_that_it_runs(model_of: ModelOf) -> None:
    """Text and page say when that was, in the same words; of a run that its kernel did not see the end of, when it was cut off."""
    events = list(syn.mapped(40, 2, close=False))
    begun = next(at for at, event in enumerate(events) if isinstance(event, ev.AttemptStarted) and at > 50)
    model = model_of(events[: begun + 1])
    assert any(action.phase is Phase.RUNNING for action in model.record.actions.values())

    def both() -> tuple[str, str]:
        return text.screen(model), re.sub("<[^>]+>", "", html.render(model, "v1"))

    for said in both():
        assert re.search(r"[Nn]ot ended at \d\d:\d\d:\d\d", said)
        assert " under way" in said
        assert not re.search("running|▶", said, re.IGNORECASE)

    model.record.update(phase=Phase.ABORTED, ended_at=syn.T0 + 2, note="cut off at 03:12:44")
    for said in both():
        assert 1 == len(re.findall("[Cc]ut off at 03:12:44", said))
        assert "ancelled" not in said.splitlines()[0]


def test_quick_cell_is_one_line_of_text(model_of: ModelOf) -> None:
    """One action that worked is one line."""
    assert "✓ r1 succeeded in 0.06 s: 1 done · await square(3)" == text.screen(model_of(syn.one_action()))


def test_text_of_a_large_run_is_one_screen(model_of: ModelOf) -> None:
    """100,000 actions are a few lines; nothing is wider than a terminal."""
    screen = text.screen(model_of(syn.mapped(20_000, 3_000, logs=True)))

    assert len(screen.splitlines()) <= text.SCREEN_LINES
    assert max(map(len, screen.splitlines())) <= text.WIDTH
    assert len(screen) <= text.MAX_CHARS
    assert "3,000 × KeyError: 'a'" in screen


@pytest.mark.parametrize("counts", [[0] * 12, [5] * 12, [10**6, *[0] * 5, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, *[0] * 8]])
def test_bar_is_always_as_wide_as_it_says(counts: list[int]) -> None:
    """Whatever the counts, a bar has its width, and what isn't empty is seen."""
    assert text.BAR == len(text.bar(counts, sum(counts)))
    if counts[7]:
        assert "x" in text.bar(counts, sum(counts))


def lines_of(store: RunStore, events: list[ev.Event], every: int) -> list[str]:
    store.append(events[0])
    lines = PlainLines(RunModel(store.runs["r1"], lambda: syn.T0 + 3), io.StringIO())
    out: list[str] = []
    for at in range(1, len(events), every):
        store.extend(events[at : at + every])
        out.extend(lines.lines())
    return out


def test_pipe_gets_a_line_per_action_of_a_small_run(store: RunStore) -> None:
    """Start, every end with its duration, what was printed, and the result."""
    out = lines_of(store, list(syn.nested()), 5)

    assert out[0].startswith("r1 ▶ started")
    assert "r1 │ load_sales('s3:…ales/2026-Q3'): schema ok" in out
    assert "r1 ✗ render_report(['emea', 'apac', 'amer'])  KeyError: 'discount'  0.38 s" in out
    assert "✗ r1 failed in 2.02 s: 10 done, 2 failed · report = await pipeline('2026-Q3')" == out[-1]


def test_pipe_of_a_large_run_stays_short(store: RunStore) -> None:
    """Thousands of actions with hundreds of failures are some dozen lines."""
    out = lines_of(store, list(syn.mapped(5_000, 500)), 500)

    assert len(out) < 60
    assert any("more failures are counted" in line for line in out)


def test_terminal_tree_is_no_taller_than_the_terminal(model_of: ModelOf) -> None:
    """A wide and deep run fits; user text is not taken for rich's markup."""
    for make in (syn.nested, syn.mapped, hostile):
        store = RunStore()
        store.extend(make())
        model = RunModel(store.runs["r1"], lambda: syn.T0 + 3)
        out = io.StringIO()
        tree = ConsoleTree(model, out)
        tree.console.size = (100, 20)
        model.take(last=True)
        tree.console.print(tree.render())

        assert 0 < len(out.getvalue().splitlines()) <= 18
