"""Runs that never happened: event streams for the view's tests, benchmarks and pictures. Runs in: anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, LogLine, Phase

Event = ev.Event
T0 = 1_760_000_000.0


def opened(run: str = "r1", title: str = "await main()", at: float = T0, prompt: int = 7) -> ev.RunOpened:
    return ev.RunOpened(run, title, "cell", at, "cell-1", prompt)


def root(run: str = "r1", at: float = T0) -> ev.ActionQueued:
    return ev.ActionQueued(run, "a0", "", "", "", "", at, "root")


class Actor:
    """Makes the events of one action."""

    def __init__(
        self, run: str, name: str, parent: str, label: str, task: str = "", group: str = "", **more: object
    ) -> None:
        self.run, self.name = run, name
        self._queued = dict(
            parent=parent, task=task or f"demo.{label.partition('(')[0]}", label=label, group=group, **more
        )
        self._seq = 0
        self.worker = "tls://127.0.0.1:40001"
        self.slot = "0"
        self.started = 0.0

    def queued(self, at: float) -> ev.ActionQueued:
        return ev.ActionQueued(self.run, self.name, at=at, **self._queued)  # type: ignore[arg-type]

    def start(self, at: float, attempt: int = 0) -> ev.AttemptStarted:
        self.started = at
        return ev.AttemptStarted(self.run, self.name, attempt, at, self.worker, 4242, self.slot)

    def noted(self, at: float, phase: Phase, note: str = "", attempt: int = 0) -> ev.ActionNoted:
        self._seq += 1
        return ev.ActionNoted(self.run, self.name, self._seq, phase, at, note, attempt)

    def attempt_ended(self, at: float, error: ErrorNote | None = None, attempt: int = 0) -> ev.AttemptEnded:
        return ev.AttemptEnded(
            self.run,
            self.name,
            attempt,
            self.started,
            at,
            error is None,
            self.worker,
            4242,
            self.slot,
            at - self.started,
            error,
        )

    def ended(
        self, at: float, phase: Phase = Phase.SUCCEEDED, error: ErrorNote | None = None, **more: object
    ) -> ev.ActionEnded:
        self._seq += 1
        return ev.ActionEnded(self.run, self.name, self._seq, phase, at, error, **more)  # type: ignore[arg-type]

    def logged(self, at: float, *lines: str, stream: str = "stdout", hidden: int = 0) -> ev.Logged:
        return ev.Logged(self.run, self.name, 0, tuple(LogLine(at, stream, text) for text in lines), hidden)


def one_action(run: str = "r1") -> Iterator[Event]:
    """A quick cell."""
    yield opened(run, "await square(3)")
    yield root(run)
    a = Actor(run, "x1", "a0", "square(3)")
    yield a.queued(T0)
    yield a.start(T0 + 0.01)
    yield a.attempt_ended(T0 + 0.05)
    yield a.ended(T0 + 0.06, preview="9", cached=False)
    yield ev.RunClosed(run, Phase.SUCCEEDED, T0 + 0.06)


def nested(run: str = "r1", close: bool = True) -> Iterator[Event]:
    """Twelve actions, nested three deep, one retried, one from the cache, one failed; some print."""
    yield opened(run, "report = await pipeline('2026-Q3')")
    yield root(run)
    main = Actor(run, "m", "a0", "pipeline('2026-Q3')")
    yield main.queued(T0)
    yield main.start(T0 + 0.02)
    yield main.logged(T0 + 0.03, "starting pipeline for 2026-Q3")
    at = T0 + 0.05
    load = Actor(run, "l", "m", "load_sales('s3://acme/sales/2026-Q3')")
    yield load.queued(at)
    yield load.start(at + 0.01)
    yield load.logged(at + 0.4, "read 1,204,332 rows", "\x1b[32mschema ok\x1b[0m")
    yield load.attempt_ended(at + 0.62)
    yield load.ended(at + 0.63, preview="DataFrame 1204332 × 14")
    for i, region in enumerate(["emea", "apac", "amer"]):
        clean = Actor(run, f"c{i}", "m", f"clean({region!r})")
        clean.worker, clean.slot = f"tls://127.0.0.1:4000{i % 2 + 1}", "0"
        yield clean.queued(at + 0.65)
        yield clean.start(at + 0.66)
        for j, what in enumerate(["dedupe", "impute"]):
            child = Actor(run, f"c{i}{j}", f"c{i}", f"{what}({region!r}, method='median')", max_attempts=3 if j else 1)
            child.worker = clean.worker
            yield child.queued(at + 0.7 + j * 0.2)
            yield child.start(at + 0.72 + j * 0.2)
            if i == 1 and j == 1:
                yield child.attempt_ended(
                    at + 0.95, ErrorNote("user", "TimeoutError", "warehouse did not answer", "etl.py:31 in impute")
                )
                yield child.noted(at + 0.96, Phase.QUEUED, "backing off 0.1 s", attempt=1)
                yield child.start(at + 1.06, attempt=1)
                yield child.logged(at + 1.1, "retrying against replica", stream="warning")
                yield child.attempt_ended(at + 1.3, attempt=1)
            else:
                yield child.attempt_ended(at + 0.9 + j * 0.2)
            yield child.ended(at + 1.31, cached=j == 0 and i == 2, preview="Series[float64] len=401444")
        yield clean.attempt_ended(at + 1.4)
        yield clean.ended(at + 1.41)
    report = Actor(run, "r", "m", "render_report(['emea', 'apac', 'amer'])")
    yield report.queued(at + 1.5)
    yield report.start(at + 1.52)
    note = ErrorNote("user", "KeyError", "'discount'", "report.py:88 in render_report")
    yield report.attempt_ended(at + 1.9, note)
    yield report.ended(at + 1.91, Phase.FAILED, note)
    yield main.attempt_ended(at + 1.95, note)
    yield main.ended(at + 1.96, Phase.FAILED, note)
    if close:
        yield ev.RunClosed(run, Phase.FAILED, at + 1.97, note)


def mapped(
    n: int = 1_000,
    failing: int = 3,
    run: str = "r1",
    slots: int = 8,
    took: float = 0.02,
    seed: int = 7,
    close: bool = True,
    bundle: int = 1,
    logs: bool = False,
) -> Iterator[Event]:
    """A map of `n` actions on `slots` lanes of 4 workers; events come in the order of a real run, `bundle` at a time."""
    rng = random.Random(seed)
    yield opened(run, f"results = await flyte.map(score, range({n}))")
    yield root(run)
    fails = set(rng.sample(range(n), failing))
    actors = [Actor(run, f"s{i}", "a0", f"score({i}, 'model-{i % 7}')", "demo.score", "score") for i in range(n)]
    for i, actor in enumerate(actors):
        yield actor.queued(T0 + i * 2e-6)
    free = [T0 + 0.05] * slots
    todo = list(range(0, n, bundle))
    while todo:
        lane = min(range(slots), key=lambda s: free[s])
        first = todo.pop(0)
        at = free[lane]
        batch = range(first, min(n, first + bundle))
        for i in batch:
            actor = actors[i]
            actor.worker, actor.slot = f"tls://127.0.0.1:{40001 + lane // 2}", str(lane % 2)
            yield actor.start(at)
            at += took * rng.uniform(0.5, 1.5) * (6 if rng.random() < 0.01 else 1)
            if logs and i % 17 == 0:
                yield actor.logged(at, f"scored batch {i}: auc={rng.uniform(0.7, 0.95):.4f}")
            note = ErrorNote("user", "KeyError", "'a'", "model.py:12 in score") if i in fails else None
            yield actor.attempt_ended(at, note)
            yield actor.ended(at, Phase.FAILED if note else Phase.SUCCEEDED, note, preview=f"0.{i:06d}")
        free[lane] = at
    if close:
        yield ev.RunClosed(run, Phase.FAILED if failing else Phase.SUCCEEDED, max(free) + 0.01)
