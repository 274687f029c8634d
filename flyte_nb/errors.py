"""Errors of Flyte 2, and our own: one tree, each with a code and a kind. Runs in: everywhere.

A task's own exception reaches the task that awaits it as a class that derives from both a class of this tree and the
exception's own type (see `flyte_nb.core.failures.reraise`): ``except ValueError`` and ``except RuntimeUserError`` both work.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NoReturn, TypeAlias

from flyte_nb.core.values.dual_class import reduce_error

ErrorKind = Literal["system", "unknown", "user"]
_Raises: TypeAlias = Callable[[Any, object], NoReturn]


_render: Callable[[BaseException], list[str]] = traceback.format_exception


def render_with(render: Callable[[BaseException], list[str]]) -> None:
    """Register how IPython shows an error of this tree: as a list of lines. Rendering is above: it needs failure records."""
    global _render
    _render = render


class BaseRuntimeError(RuntimeError):
    """Base of every error that a task, a run or the machinery under them raises.

    Attributes:
        code: What went wrong, as a word: the name of the task's exception class, or of Flyte's error.
        kind: "user" (the task's code), "system" (the machinery) or "unknown".
        worker: Where it happened: "w0", as views and tracebacks name it; None if unknown.
    """

    code: str
    kind: ErrorKind
    worker: str | None

    def __init__(self, code: str, kind: ErrorKind, root_cause_message: str, worker: str | None = None) -> None:
        super().__init__(root_cause_message)
        self.code = code
        self.kind = kind
        self.worker = worker

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses have constructors of their own shape, so a copy is rebuilt from the parts, without calling them.
        return reduce_error(self)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the user's frames, local and remote, and where the others are."""
        return _render(self)

    def _raise(self, _other: object) -> NoReturn:
        """Arithmetic on an error raises it, so that ``sum(flyte.map(...))`` surfaces the failure of an item."""
        raise self

    __add__: ClassVar[_Raises] = _raise
    __radd__: ClassVar[_Raises] = _raise
    __sub__: ClassVar[_Raises] = _raise
    __rsub__: ClassVar[_Raises] = _raise
    __mul__: ClassVar[_Raises] = _raise
    __rmul__: ClassVar[_Raises] = _raise
    __truediv__: ClassVar[_Raises] = _raise
    __rtruediv__: ClassVar[_Raises] = _raise
    __floordiv__: ClassVar[_Raises] = _raise
    __rfloordiv__: ClassVar[_Raises] = _raise


class RuntimeUserError(BaseRuntimeError):
    """The task's own code failed."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "user", message, worker)


class RuntimeSystemError(BaseRuntimeError):
    """The machinery under a task failed: a worker, the cluster, the network."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "system", message, worker)


class RuntimeUnknownError(BaseRuntimeError):
    """A failure that cannot be attributed."""

    def __init__(self, code: str, message: str, worker: str | None = None) -> None:
        super().__init__(code, "unknown", message, worker)


class InitializationError(BaseRuntimeError):
    """``init`` was given something it cannot use, or something needs ``init`` first."""


class _NamedUserError(RuntimeUserError):
    """A user error whose code is the name of its class, and whose constructor takes the message alone."""

    def __init__(self, message: str) -> None:
        super().__init__(type(self).__name__, message)


class _NamedSystemError(RuntimeSystemError):
    """A system error whose code is the name of its class."""

    def __init__(self, message: str, worker: str | None = None) -> None:
        super().__init__(type(self).__name__, message, worker)


class OOMError(RuntimeUserError):
    """The attempt used more memory than it may; try ``task.override(resources=Resources(memory=...))``."""


class TaskInterruptedError(RuntimeUserError):
    """The attempt was interrupted by the machine it ran on."""


class PrimaryContainerNotFoundError(RuntimeUserError):
    """Flyte's pod lost its primary container. Never raised here: there are no pods."""


class TaskTimeoutError(RuntimeUserError, TimeoutError):
    """A time limit of the task passed. It is Python's `TimeoutError` as well."""

    def __init__(self, message: str, code: str = "TaskTimeoutError") -> None:
        super().__init__(code, message)


class MaxRuntimeExceededError(TaskTimeoutError):
    """An attempt ran longer than ``Timeout(max_runtime=...)``."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "MaxRuntimeExceededError")


class MaxQueuedTimeExceededError(TaskTimeoutError):
    """An attempt waited longer than ``Timeout(max_queued_time=...)`` before it ran."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "MaxQueuedTimeExceededError")


class DeadlineExceededError(TaskTimeoutError):
    """The action, over all of its attempts, took longer than ``Timeout(deadline=...)``."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "DeadlineExceededError")


class RetriesExhaustedError(RuntimeUserError):
    """Every attempt that the task's retries allow has failed; the code is that of the last failure."""


class NonRecoverableError(RuntimeUserError):
    """Raise it in a task to fail at once, whatever retries are left."""

    def __init__(self, message: str, code: str = "NonRecoverableError") -> None:
        super().__init__(code, message)


class CustomError(RuntimeUserError):
    """An error with a code of the user's choice."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)

    @classmethod
    def from_exception(cls, e: BaseException) -> CustomError:
        """Wrap any exception: its class name becomes the code, its text the message.

        Args:
            e: The exception; it becomes the ``__cause__``.
        """
        error = cls(type(e).__name__, str(e))
        error.__cause__ = e
        return error


class ActionAbortedError(_NamedUserError):
    """The awaited action was aborted from outside: by ``run.abort()``, a button, or a magic."""


class ArgumentError(TypeError, ValueError):
    """A task was called with arguments that its signature or its annotations do not allow.

    Raised where the task is called, before anything is submitted. Flyte raises ``ValueError`` for some of these cases
    and Python ``TypeError``: this is both.
    """


class RuntimeDataValidationError(RuntimeUserError):
    """A value does not fit the annotation it passes through.

    Args:
        var: Name of the input or output, "o0" for a single result.
        e: What is wrong, an exception or a sentence.
        task_name: Full name of the task; "" if unknown.

    ``value`` is the value that was refused, so that what was computed is not lost; None if it is large or cannot be pickled.
    """

    #: The value as it travels: of any class, unlike what else an error carries from a worker.
    pickled: bytes = b""

    def __init__(self, var: str, e: Exception | str, task_name: str = "") -> None:
        where = f"In task {task_name}, variable {var!r}" if task_name else f"Variable {var!r}"
        super().__init__("DataValidationError", f"{where}: {e}")

    @property
    def value(self) -> Any:
        """The value that was refused."""
        return pickle.loads(self.pickled) if self.pickled else None


class InlineIOMaxBytesBreached(_NamedUserError):  # noqa: N818 - Flyte's spelling
    """Inputs or outputs are larger than ``max_inline_io_bytes``: raise the limit, or pass a File or Dir."""


class RestrictedTypeError(_NamedUserError):
    """A type that tasks may not take or return."""


class ParameterMaterializationError(_NamedUserError):
    """A parameter's value could not be fetched."""


class NotInTaskContextError(RuntimeUserError):
    """Something that exists only inside a running task was used outside of one."""


class TraceDoesNotAllowNestedTasksError(_NamedUserError):
    """A task was called inside ``@flyte.trace``: call the plain function with ``task.forward(...)``."""


class SyncTaskCallInAsyncContextError(_NamedUserError):
    """A sync task was called, without ``.aio``, from an async task, under strict rules."""


class OnlyAsyncIOSupportedError(_NamedUserError):
    """Another event loop than asyncio's is running."""


class ConditionTimedoutError(_NamedUserError):
    """The condition was not signalled within its timeout."""


class ConditionFailedError(_NamedUserError):
    """The condition ended without a value."""


class ConditionNotFoundError(_NamedUserError):
    """There is no such condition in the run."""


class ConditionAlreadyExistsError(_NamedUserError):
    """The run has a condition of that name already."""


class ActionNotFoundError(RuntimeError):
    """There is no such action."""


class RunNotDoneError(BaseRuntimeError):
    """The result of a run was asked for before the run had ended: ``run.wait()`` first."""

    def __init__(self, message: str) -> None:
        super().__init__("RunNotDoneError", "user", message)


class LogsNotYetAvailableError(BaseRuntimeError):
    """Nothing has been logged yet."""

    def __init__(self, message: str) -> None:
        super().__init__("LogsNotYetAvailable", "system", message)


class UnionRpcError(RuntimeSystemError):
    """A call to Flyte's server failed."""


class SlowDownError(_NamedUserError):
    """Too many calls a second."""


class ResourceExhaustedError(SlowDownError):
    """A quota is used up."""


class RemoteTaskNotFoundError(_NamedUserError):
    """There is no deployed task of that name."""


class RemoteTaskUsageError(_NamedUserError):
    """A deployed task was used in a way it does not support."""


class DeploymentError(_NamedUserError):
    """A deploy failed."""


class CodeBundleError(_NamedUserError):
    """The code could not be packed."""


class ImageBuildError(_NamedUserError):
    """An image could not be built."""


class ImagePullBackOffError(RuntimeUserError):
    """An image could not be pulled."""


class InvalidImageNameError(RuntimeUserError):
    """An image's name is not valid."""


class InvalidPackageError(RuntimeUserError):
    """A package could not be installed into an image."""

    def __init__(self, package_name: str, original_error: str) -> None:
        super().__init__("InvalidPackageError", f"Package {package_name!r} is not valid: {original_error}")
        self.package_name = package_name
        self.original_error = original_error


class ModuleLoadError(_NamedUserError):
    """A module with tasks could not be imported."""


class GPUFaultError(BaseRuntimeError):
    """A GPU reported a fault.

    Args:
        code: Word for the fault.
        kind: "user", "system" or "unknown".
        message: Sentence for the fault.
        worker: Where.
        fault: Further facts, kept as attributes.
    """

    def __init__(self, code: str, kind: ErrorKind, message: str, worker: str | None = None, **fault: Any) -> None:
        BaseRuntimeError.__init__(self, code, kind, message, worker)
        self.__dict__.update(fault)


class GPUFaultUserError(GPUFaultError, RuntimeUserError):
    """A GPU fault that the task's code caused."""

    def __init__(self, code: str, message: str, worker: str | None = None, **fault: Any) -> None:
        GPUFaultError.__init__(self, code, "user", message, worker, **fault)


class GPUFaultSystemError(GPUFaultError, RuntimeSystemError):
    """A GPU fault of the machine."""

    def __init__(self, code: str, message: str, worker: str | None = None, **fault: Any) -> None:
        GPUFaultError.__init__(self, code, "system", message, worker, **fault)


class OutOfScopeError(_NamedUserError, NotImplementedError):
    """Something of Flyte that needs a Flyte server was used: it imports and constructs here, and does no more."""


class NoClusterError(_NamedSystemError):
    """There is no cluster to run on: ``flyte_nb.init()`` starts one, ``flyte_nb.init("tcp://...")`` attaches to one."""


class NoWorkerError(_NamedSystemError):
    """No worker of the cluster could take an action within ``init(placement_timeout=...)``; the message says why."""


class SchedulerLostError(_NamedSystemError):
    """The connection to the cluster's scheduler broke and did not come back."""


class WorkerLostError(_NamedSystemError):
    """Workers died under an action again and again, so it is given up."""


class VersionMismatchError(NoClusterError):
    """The cluster runs other versions of Python or of a package than this process, and they do not fit together."""


class SerializationError(_NamedUserError):
    """A task, an argument or a result cannot be pickled; the message names which."""


class LateCallError(_NamedUserError):
    """An action that has ended tried to start another one."""


__all__ = [
    "ActionAbortedError", "ActionNotFoundError", "ArgumentError", "BaseRuntimeError", "CodeBundleError",
    "ConditionAlreadyExistsError", "ConditionFailedError", "ConditionNotFoundError", "ConditionTimedoutError",
    "CustomError", "DeadlineExceededError", "DeploymentError", "ErrorKind", "GPUFaultError", "GPUFaultSystemError",
    "GPUFaultUserError", "ImageBuildError", "ImagePullBackOffError", "InitializationError", "InlineIOMaxBytesBreached",
    "InvalidImageNameError", "InvalidPackageError", "LateCallError", "LogsNotYetAvailableError",
    "MaxQueuedTimeExceededError", "MaxRuntimeExceededError", "ModuleLoadError", "NoClusterError", "NoWorkerError",
    "NonRecoverableError", "NotInTaskContextError", "OOMError", "OnlyAsyncIOSupportedError", "OutOfScopeError",
    "ParameterMaterializationError", "PrimaryContainerNotFoundError", "RemoteTaskNotFoundError", "RemoteTaskUsageError",
    "ResourceExhaustedError", "RestrictedTypeError", "RetriesExhaustedError", "RunNotDoneError",
    "RuntimeDataValidationError", "RuntimeSystemError", "RuntimeUnknownError", "RuntimeUserError", "SchedulerLostError",
    "SerializationError", "SlowDownError", "SyncTaskCallInAsyncContextError", "TaskInterruptedError",
    "TaskTimeoutError", "TraceDoesNotAllowNestedTasksError", "UnionRpcError", "VersionMismatchError", "WorkerLostError",
]  # fmt: skip
