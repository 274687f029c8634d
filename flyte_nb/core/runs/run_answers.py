"""Answers of a run's home to tasks on workers that start runs, or ask about them: `RunProxy`. Runs in: the run's home."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import cloudpickle

from flyte_nb import errors
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.start import with_runcontext
from flyte_nb.core.settings import notices
from flyte_nb.core.transport.payload import carried
from flyte_nb.core.values import pickler

#: Generators that actions have drawn from, remembered to notice the next one.
MAX_DRAWN = 1_000
SAME_NUMBERS = (
    "Several actions of {task} drew the same random numbers: each got a copy of one generator, which starts where the original "
    "stood. Give each its own: pass a seed and call np.random.default_rng(seed) in the task, or pass rng.spawn(n)'s children."
)
#: Seconds between two looks at whether a run that is waited for has ended.
LOOK_EVERY = 0.02


def serve(answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
    """Answer what workers ask about runs: on the controller's thread, or in another where the user's code may run."""

    def in_a_thread(then: Callable[[Any], None], function: Callable[..., Any], *args: Any) -> None:
        def work() -> None:
            try:
                answer = ("ok", function(*args))
            except BaseException as exc:
                answer = ("raised", _pickled(exc))
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the links to workers
                loop.call_soon_threadsafe(then, answer)

        loop.run_in_executor(None, work)

    def wait(_run: str, then: Callable[[Any], None], name: str, wait_for: str) -> None:
        run = run_registry.known(name)
        if run is None:
            in_a_thread(then, run_registry.find, name)  # raises
        elif run.done():
            in_a_thread(then, _settled, run)
        elif wait_for == "running" and run.phase is Phase.RUNNING:
            then(("ok", None))
        else:
            loop.call_later(LOOK_EVERY, wait, _run, then, name, wait_for)

    drawn: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def drew(run: str, then: Callable[[Any], None], task: str, seed: bytes, action: str) -> None:
        first = drawn.setdefault((task, seed), action)
        while len(drawn) > MAX_DRAWN:
            drawn.popitem(last=False)
        if first != action:
            notices.notice_once("same random numbers", SAME_NUMBERS.format(task=task), run)
        then(None)

    answers.serve("drew", drew)
    answers.serve("run.start", lambda _run, then, blob: in_a_thread(then, _start, blob))
    answers.serve("run.facts", lambda _run, then, name: in_a_thread(then, _facts, name))
    answers.serve("run.inputs", lambda _run, then, name: in_a_thread(then, _inputs, name))
    answers.serve("run.abort", lambda _run, then, name, reason: in_a_thread(then, _abort, name, reason))
    answers.serve("run.wait", wait)


def _start(blob: bytes) -> str:
    task, (args, kwargs), options = cloudpickle.loads(blob)
    return with_runcontext(**options).run(task, *args, **kwargs).name


def _facts(name: str) -> tuple[str, bool, list[Action], list[str], str]:
    run = run_registry.find(name)
    return run.phase.value, run.done(), run.backend.actions, list(run.get_logs()), run.get_report()


def _inputs(name: str) -> bytes:
    return pickler.dumps(run_registry.find(name).control.called())


def _abort(name: str, reason: str) -> str:
    run_registry.find(name).abort(reason)
    return name


def _settled(run: Run) -> tuple[Any, ...]:
    settled = run.control.settled
    assert settled is not None
    payload = settled.payload
    return settled.kind, payload and carried(payload), settled.error, settled.code, settled.message


def _pickled(exc: BaseException) -> bytes:
    try:
        return bytes(cloudpickle.dumps(exc))
    except Exception:
        return bytes(cloudpickle.dumps(errors.RuntimeUserError(type(exc).__name__, str(exc))))
