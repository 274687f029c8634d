"""Condition: a step that waits for a person's answer, `new_condition`. Runs in: the task's thread; answered at the run's home.

A condition is an action of kind "condition" that its controller parks at once (phase PAUSED) and never gives to a worker. It
ends when it is signalled, when its timeout passes, or with the action that made it. Its answer is recorded like any child's
result: a task that is executed again does not ask again. What a run's home knows of it is `flyte_nb.core.runs.conditions`, and
the object that answers it `flyte_nb.remote.condition`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from flyte_nb.core.control.calls import Call, ResumePoint, Settled
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.settings.config import TaskConfig
from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.settings.retry import Timeout
from flyte_nb.core.settings.triggers import ConditionWebhook
from flyte_nb.core.steps.step import name_step
from flyte_nb.core.tasks.context import Context, current
from flyte_nb.core.tasks.task import TaskTemplate
from flyte_nb.core.transport.mailbox import mailbox_of
from flyte_nb.core.transport.payload import dumps
from flyte_nb.core.values import redact
from flyte_nb.core.values.aio import Dual

logger: logging.Logger = logging.getLogger("flyte")

PromptType = Literal["text", "markdown"]
#: What an answer may be.
TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
_YES = frozenset({"true", "1", "yes", "y", "t", "on", "ok", "approve", "approved"})
_NO = frozenset({"false", "0", "no", "n", "f", "off", "reject", "rejected"})
#: Longest prompt shown in an action's row, in characters.
PROMPT_CHARS = 200


class ConditionTask(TaskTemplate[..., Any]):
    """Stand-in for the task in a condition's call."""

    def __init__(self, name: str, timeout_s: float | None) -> None:
        self.name = name
        self.short_name: str = name
        limit = Timeout(deadline=dt.timedelta(seconds=timeout_s)) if timeout_s is not None else Timeout()
        self.config: TaskConfig = TaskConfig(short_name=name, timeout=limit)


class _PendingAnswer:
    """The call of a condition, and what waits for it to settle: any number of threads and loops."""

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self._settled: Settled | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._ticket = gateway.submit(call, self._settle)

    def _settle(self, settled: Settled) -> None:
        with self._lock:
            if self._settled is not None:
                return
            self._settled = settled
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _when_settled(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if self._settled is None:
                self._callbacks.append(callback)
                return
        callback()

    def _cancel(self, reason: str) -> None:
        self._gateway.drop(self._ticket, reason)
        self._settle(Settled("cancelled", None, message=reason))

    def wait(self) -> Any:
        """The answer; blocks."""
        done = threading.Event()
        self._when_settled(done.set)
        try:
            with self._gateway.blocking():
                done.wait()
        except BaseException:  # KeyboardInterrupt, and a cancellation raised into this thread
            self._cancel("its wait was interrupted")
            raise
        return self._open()

    async def wait_aio(self) -> Any:
        """The answer, awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        box = mailbox_of(loop)
        self._when_settled(lambda: box.post(_wake, future))
        try:
            await future
        except BaseException:  # CancelledError
            self._cancel("its await was cancelled")
            raise
        return self._open()

    def _open(self) -> Any:
        assert self._settled is not None
        return self._settled.result()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@dataclass
class Condition:
    """A question to a person; `new_condition` makes it."""

    #: Name that it is answered by.
    name: str
    #: What is asked.
    prompt: str = "Approve?"
    #: How the prompt is written.
    prompt_type: PromptType = "text"
    #: Type of the answer.
    data_type: type = bool
    #: More about it.
    description: str = ""
    #: Seconds (or a timedelta) from its making until it counts as timed out; None = never.
    timeout: dt.timedelta | float | None = None
    #: No effect here: no address is called.
    webhook: ConditionWebhook | None = None
    _answer: _PendingAnswer | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.data_type not in TYPES.values():
            raise TypeError(f"Invalid data_type {self.data_type!r}. Must be one of bool, int, float, str.")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ValueError(f"timeout must be positive, not {self.timeout!r}.")

    @property
    def timeout_s(self) -> float | None:
        """The timeout in seconds; None for none."""
        given = self.timeout
        return given.total_seconds() if isinstance(given, dt.timedelta) else float(given) if given is not None else None

    def _wait(self) -> Any:
        """Wait for the answer.

        Returns:
            A value of `data_type`.

        Raises:
            errors.ConditionTimedoutError: No answer came within `timeout`.
            errors.ConditionFailedError: It was ended without an answer.
            RuntimeError: It was not made inside a task or a cell.
        """
        return self._pending().wait()

    async def _wait_aio(self) -> Any:
        return await self._pending().wait_aio()

    wait: ClassVar[Dual[[Any], Any]] = Dual(_wait, _wait_aio, name="wait")

    def _pending(self) -> _PendingAnswer:
        if self._answer is None:
            context = current()
            if context is None:
                raise RuntimeError(
                    "Conditions can only be awaited within a task context: make it with flyte.new_condition(...) inside a "
                    "task that flyte.run(...) runs, or in a notebook cell."
                )
            self.submit(context)
        assert self._answer is not None
        return self._answer

    def submit(self, context: Context) -> None:
        """Make it an action of the run: from now on it can be answered."""
        name = name_step(context, f"condition\0{self.name}")
        about = {
            "name": self.name, "prompt": self.prompt, "prompt_type": self.prompt_type,
            "data_type": self.data_type.__name__, "description": self.description, "timeout": self.timeout_s,
        }  # fmt: skip
        record = context.scope.records.get(name)
        task: Any = ConditionTask(self.name, self.timeout_s)
        asked = " ".join(redact.scrub_start(self.prompt, PROMPT_CHARS).split())
        label = redact.scrub_code(f"{self.name}: {asked}", ())[:PROMPT_CHARS]
        call = Call(
            task, context.run, name, context.action, dumps(((), about)), label, context.group, context.custom, record,
            kind="condition",
        )  # fmt: skip
        if self.webhook is not None:
            notice_once("webhook", "Accepted without effect: ConditionWebhook; the condition waits in the run's view.")
        self._answer = _PendingAnswer(context.gateway, call)
        if context.run.mode == "local" and (record is None or isinstance(record, ResumePoint)):  # no view asks there
            how = f"flyte.remote.Condition.get({self.name!r}, run_name={context.run.name!r}).signal(...)"
            logger.warning("%s waits for an answer (%s): %s", context.run.name, self.data_type.__name__, how)


@Dual
def new_condition(
    name: str, /, prompt: str = "Approve?", prompt_type: PromptType = "text", data_type: type = bool,
    description: str = "", timeout: dt.timedelta | float | None = None, webhook: ConditionWebhook | None = None,
) -> Condition:  # fmt: skip
    """Ask a person: the run's view shows the question, and `Condition.wait` waits for the answer.

    It is answered in the view, by ``%flyte signal <name> <value>``, or by ``flyte.remote.Condition.get(name,
    run_name=...).signal(value)``.

    Args:
        name: Name that it is answered by.
        prompt: What is asked.
        prompt_type: "text" or "markdown".
        data_type: Type of the answer: bool, int, float or str.
        description: More about it.
        timeout: Seconds, or a timedelta, from now on; None waits for ever.
        webhook: Accepted without effect.

    Returns:
        The condition; await ``condition.wait.aio()``, or block in ``condition.wait()``.

    Raises:
        TypeError: `data_type` is none of these.
        ValueError: `timeout` is not positive.

    Example:
        >>> go = await flyte.new_condition.aio("go", prompt="Train on all rows?")
        >>> if await go.wait.aio(): ...
    """
    condition = Condition(name, prompt, prompt_type, data_type, description, timeout, webhook)
    context = current()
    if context is not None:
        condition.submit(context)
    return condition


def answer_of(value: object, data_type: type) -> Any:
    """An answer given as a value, as one of the condition's type.

    Raises:
        TypeError: It is of another type; an int is a float, too.
    """
    if type(value) is data_type:
        return value
    if data_type is float and type(value) is int:
        return float(value)
    raise TypeError(
        f"This condition takes an answer of type {data_type.__name__}, not {value!r} ({type(value).__name__})."
    )


def answer_from_text(text: str, data_type: type) -> Any:
    """An answer that was typed, as one of the condition's type.

    Raises:
        TypeError: The text does not read as one.
    """
    word = text.strip()
    if data_type is bool and word.lower() in _YES | _NO:
        return word.lower() in _YES
    if data_type in (int, float):
        try:
            return data_type(word)
        except ValueError:
            pass
    if data_type is str:
        return text
    example = {"bool": "yes or no", "int": "a whole number", "float": "a number"}[data_type.__name__]
    raise TypeError(f"This condition takes {example}, not {text!r}.")
