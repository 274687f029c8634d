"""A run as users see it: wait for it, look at it, retry what failed, decide over parked actions. Runs in: the calling code."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from flyte_nb.core.history.as_dict import AsDict, run_dict
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.runs.engine import ROOT, WATCH_EVERY
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run_control import RunControl
from flyte_nb.core.runs.run_proxy import RunProxy
from flyte_nb.core.settings.validate import check_options
from flyte_nb.core.values.aio import DualIterator, Polled, blocking, wait_in_a_thread
from flyte_nb.errors import RunNotDoneError

#: Options of Flyte's for logs, without effect here.
LOG_OPTIONS = ("attempt", "filter_system", "max_lines", "raw", "show_ts")

if TYPE_CHECKING:  # `Run` alone means `Run[Any]`; Python itself knows defaults of type variables from 3.13 on
    from typing_extensions import TypeVar

    V_co = TypeVar("V_co", default=Any, covariant=True)
else:
    from typing import TypeVar

    V_co = TypeVar("V_co", covariant=True)


class Run(AsDict, Generic[V_co]):
    """One run. ``await run`` gives the value of its task; that of a cell gives the results of its calls, in order."""

    def __init__(self, backend: RunControl | RunProxy) -> None:
        #: The run's control in this process, or a proxy of the one in its home.
        self.backend = backend

    @property
    def control(self) -> RunControl:
        """The run's control, if its home is this process.

        Raises:
            RuntimeError: Its home is another process.
        """
        if not isinstance(self.backend, RunControl):
            raise RuntimeError(  # noqa: TRY004 - it is where it is asked, not what
                f"run {self.name} has its home in another process: ask for this there, outside of tasks."
            )
        return self.backend

    # -- facts ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique in this process."""
        return self.backend.name

    @property
    def url(self) -> str:
        """Where it is shown: in the notebook."""
        return f"flyte-nb://{self.name}"

    @property
    def phase(self) -> Phase:
        """Its phase now."""
        return self.backend.phase

    @property
    def action(self) -> Action | None:
        """Its root action."""
        return self.backend.action

    #: Its actions, root first, in order of arrival; as a table; beside another run: set by `flyte_nb.core.results`, which
    #: is above this room.
    actions: ClassVar[Any]
    to_rows: ClassVar[Any]
    to_pandas: ClassVar[Any]
    to_arrow: ClassVar[Any]
    to_polars: ClassVar[Any]
    compare: ClassVar[Any]

    def done(self) -> bool:
        """Whether nothing of it executes any more."""
        return self.backend.done()

    def to_dict(self) -> dict[str, Any]:
        """What is known of it now, by Flyte's names: ``{"action": {"id": ..., "status": {"phase": ...}}}``."""
        return run_dict(self.backend.info, self.action)

    def __repr__(self) -> str:
        return f"<Run {self.backend}>"

    # -- waiting --------------------------------------------------------------------------------------------------

    @blocking
    def wait(self, quiet: object = False, wait_for: str = "terminal") -> None:
        """Wait until it is done (or, with ``wait_for="running"``, has begun); never raises for its failure."""
        self.backend.wait(wait_for)

    @blocking
    def outputs(self) -> ActionOutputs:
        """Wait, and return its outputs; raises what its task raised."""
        value = self.backend.value()
        task, _ = self.backend.called()
        outputs = task.interface.outputs if task is not None else {}
        names = tuple(outputs) or ("o0",)
        several = (len(outputs) > 1 or hasattr(value, "_fields")) and isinstance(value, tuple | list)
        return ActionOutputs.of(tuple(value) if several else (value,), names)

    @blocking
    def inputs(self) -> Mapping[str, Any]:
        """Its inputs by name; none for the run of a cell."""
        task, bound = self.backend.called()
        return task.interface.named(*bound) if task is not None else {}

    @blocking
    def raise_for_status(self) -> None:
        """Raise what its task raised, if it did.

        Raises:
            errors.RunNotDoneError: It has not ended.
        """
        if not self.done():
            raise RunNotDoneError(f"run {self.name} is {self.phase.value}: call wait() first")
        self.backend.value()

    @blocking
    def abort(self, reason: str = "aborted") -> None:
        """Cancel it; what awaits it gets `errors.ActionAbortedError`."""
        self.backend.abort(reason)

    cancel = abort

    @DualIterator
    def get_logs(self, **flytes: Any) -> list[str]:
        """What its actions printed, line by line. Flyte's ``attempt filter_system show_ts`` have no effect."""
        check_options("get_logs", flytes, LOG_OPTIONS)
        return self.backend.logs()

    @blocking
    def show_logs(self, **flytes: Any) -> None:
        """Print what its actions printed. Flyte's ``attempt filter_system max_lines raw show_ts`` have no effect."""
        check_options("show_logs", flytes, LOG_OPTIONS)
        for line in self.backend.logs():
            print(line)  # noqa: T201 - what it is for

    @blocking
    def get_report(self, attempt: int | None = None) -> str:
        """The report of its root as one HTML page; where that has none, those of all its actions; "" if there are none."""
        return self.backend.report()

    @DualIterator
    def watch(self, cache_data_on_done: bool = False) -> Polled[Run]:
        """The run itself, each time its phase has changed, until it has ended."""

        def looks() -> Iterator[Run | None]:
            seen = None
            while not self.done():
                phase = self.phase
                yield self if phase is not seen else None
                seen = phase
            yield self

        return Polled(looks, WATCH_EVERY, self.backend.waiting)

    @blocking
    def details(self) -> Run:
        """The run itself."""
        return self

    @blocking
    def first_failure(self) -> Any:
        """Where it failed first (``.task_name .error_message .name .action``), its root last; None if nothing failed."""
        failed = [action for action in self.backend.actions if action.phase.is_failure]
        if not failed:
            return None
        first = min(failed, key=lambda action: (action.name == ROOT, action.ended_at or 0.0))
        message = first.error.message if first.error else ""
        return SimpleNamespace(task_name=first.task, error_message=message, name=first.name, action=first)

    # -- retrying, and deciding over parked actions ---------------------------------------------------------------

    def retry_failed(self) -> Run:
        """Run what failed again, with the code that its tasks have now; what succeeded is not computed again.

        Actions that were cancelled (siblings in a `TaskGroup`) count as failed. Parked actions are retried as well.

        Returns:
            The run itself: ``await run.retry_failed()`` waits, and gives what `results` gives.

        Raises:
            LookupError: Nothing failed, or the arguments are not kept any more.
            RuntimeError: Its cell is still running, and nothing of it is parked.
        """
        self.control.retry(None)
        return self

    def retry(self, action: Action | str) -> Run:
        """Run one failed or parked action again, with the code of now.

        Args:
            action: The action, or its name: "a17".

        Raises:
            LookupError: There is no such action, or its arguments are not kept any more.
            RuntimeError: It is neither parked nor has it ended.
        """
        self.control.retry(action)
        return self

    def resume(self, action: Action | str, value: Any) -> None:
        """Let a parked action succeed with a value, as if its task had returned it.

        Args:
            action: The action, or its name: "a17".
            value: What the await of it gives.

        Raises:
            LookupError: There is no such action.
            RuntimeError: It is not parked.
            errors.RuntimeDataValidationError: The value is not what the task returns.
        """
        self.control.decide(action, "resume", value)

    def fail(self, action: Action | str) -> None:
        """Let a parked action fail with the error that parked it.

        Args:
            action: The action, or its name: "a17".

        Raises:
            LookupError: There is no such action.
            RuntimeError: It is not parked.
        """
        self.control.decide(action, "raise")

    @blocking
    def results(self, *, return_exceptions: bool = False, group: str = "", task: str = "") -> list[Any]:
        """What the calls that its cell (or its first task) made gave, in call order: what a gather over all of them gives.

        Args:
            return_exceptions: Put the error of a failed call in its place, as ``gather`` does; else the first is raised.
            group: Only calls of this group.
            task: Only calls of this task, by its full name or the function's.

        Raises:
            errors.BaseRuntimeError: A call failed.
            LookupError: A result is too large to have been kept.
        """
        return self.control.results(return_exceptions=return_exceptions, group=group, task=task)

    #: Find runs by name: set by `flyte_nb.core.runs.run_registry`, which knows them.
    get: ClassVar[Any]
    listall: ClassVar[Any]

    def __await__(self) -> Generator[Any, None, V_co]:
        return wait_in_a_thread(self.backend.value).__await__()

    def __iter__(self) -> Iterator[Any]:
        """Items of its task as they come, if that yields."""
        reading = self.backend.reading()
        return iter(self.backend.value()) if reading is None or reading.is_over else reading

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        reading = self.backend.reading()
        if reading is None or reading.is_over:
            for item in await wait_in_a_thread(self.backend.value):
                yield item
        else:
            async for item in reading:
                yield item

    def __reduce_ex__(self, protocol: Any) -> Any:
        if isinstance(self.backend, RunProxy):  # it is returned to where it is at home, or to another worker
            return _found, (self.name,)
        return super().__reduce_ex__(protocol)


def _found(name: str) -> Any:
    return Run.get(name)
