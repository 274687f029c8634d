"""Synthetic runs that the browser tests play into the view. Runs in: kernel."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase

EVIL = "<img src=x onerror=window.__pwned=1>"


def hostile(run: str) -> Iterator[ev.Event]:
    yield syn.opened(run, EVIL)
    yield syn.root(run)
    for i in range(3):
        a = syn.Actor(run, f"e{i}", "a0", f"{EVIL}({i})", task=EVIL, group=EVIL)
        yield a.queued(syn.T0)
        yield a.start(syn.T0)
        yield a.logged(syn.T0 + 0.1, EVIL)
        yield ev.Reported(run, f"e{i}", "main", f"<b>the report</b><script>parent.__pwned = 2</script>{EVIL}")
        note = ErrorNote("user", "KeyError", EVIL, EVIL)
        yield a.attempt_ended(syn.T0 + 0.5, note)
        yield a.ended(syn.T0 + 0.5, Phase.FAILED, note)
    yield ev.RunClosed(run, Phase.FAILED, syn.T0 + 0.6)


def flood(run: str) -> Iterator[ev.Event]:
    yield syn.opened(run, "await noisy()")
    yield syn.root(run)
    actors = [syn.Actor(run, f"n{i}", "a0", f"noisy({i})") for i in range(20)]
    for a in actors:
        yield a.queued(syn.T0)
        yield a.start(syn.T0)
    for step in range(200):
        for a in actors:
            yield a.logged(
                syn.T0 + step * 0.01, *[f"step {step} \x1b[32mloss\x1b[0m {k}" for k in range(25)], hidden=100
            )
    for a in actors:
        yield a.ended(syn.T0 + 2.1)
    yield ev.RunClosed(run, Phase.SUCCEEDED, syn.T0 + 2.2)


def question(run: str) -> Iterator[ev.Event]:
    yield syn.opened(run, "await approve()")
    yield syn.root(run)
    for name, kind, prompt in (("q", "str", "Deploy which version?"), ("y", "bool", "Deploy it now?")):
        about = {"name": name, "prompt": prompt, "data_type": kind, "description": "v7 has passed its tests."}
        a = syn.Actor(
            run, name, "a0", f"{name}: {prompt}", task=name, kind="condition", inputs=pickle.dumps(((), about))
        )
        yield a.queued(syn.T0)
        yield a.noted(syn.T0 + 0.1, Phase.PAUSED, "waits for an answer")
