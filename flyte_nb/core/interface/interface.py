"""Interface of a task: inputs, outputs, and the check of both. Runs in: everywhere.

Calls are checked here, on the side of the caller, before anything is submitted: arguments are bound as Python binds them,
defaults are filled in, and obvious mismatches with the annotations are refused.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from flyte_nb.core.interface import type_check
from flyte_nb.core.interface.annotations import one_hint, outputs_of, resolve_hints
from flyte_nb.core.interface.coerce import coerce
from flyte_nb.core.interface.columns import columns_of
from flyte_nb.core.interface.json_schema import schema_of_inputs
from flyte_nb.core.values.describe import SHORT_REPR, forgotten_await, repr_with_type
from flyte_nb.core.values.pickler import dumps_bounded
from flyte_nb.errors import ArgumentError, RuntimeDataValidationError

#: What stands for "no default" and "no annotation", as in `inspect`.
EMPTY = inspect.Parameter.empty

#: Largest value that the error about it carries, in bytes.
MAX_VALUE = 48_000

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Interface:
    """Inputs and outputs of a task.

    Attributes:
        name: Full name of the task, for messages.
        inputs: Per parameter, in order: (type, default); `EMPTY` for no default.
        outputs: Per result: its type. ``{"o0": T}``, ``o0, o1, ...`` for a tuple, the fields of a NamedTuple, ``{}`` for none.
        signature: Python's signature of the function.
        returns: The return annotation; `EMPTY` if there is none.
    """

    __slots__ = (
        "_by_keyword", "_check_returned", "_checks", "_count", "_exact", "_has_checks", "_keyword_checks", "_positional",
        "_single_type", "inputs", "name", "outputs", "returns", "signature",
    )  # fmt: skip

    def __init__(
        self, name: str, inputs: Mapping[str, tuple[Any, Any]], outputs: Mapping[str, Any], signature: inspect.Signature,
        returns: Any = EMPTY,
    ) -> None:  # fmt: skip
        self.name: str = name
        self.inputs: dict[str, tuple[Any, Any]] = dict(inputs)
        self.outputs: dict[str, Any] = dict(outputs)
        self.signature: inspect.Signature = signature
        self.returns: Any = returns
        self._compile()

    @classmethod
    def of(cls, func: Callable[..., Any], task: str | None = None) -> Interface:
        """The interface of a function.

        Args:
            func: The task's function.
            task: Full name of the task; the function's own by default.

        Raises:
            ValueError: The function takes ``*args`` or ``**kwargs``.
            TypeError: Its return annotation is a tuple of one, or of any length.
        """
        name = task or str(getattr(func, "__qualname__", repr(func)))
        signature = inspect.signature(func)
        resolved = resolve_hints(func)
        inputs: dict[str, tuple[Any, Any]] = {}
        for parameter in signature.parameters.values():
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
                raise ValueError(
                    f"Task {name} takes {stars}{parameter.name}: the inputs of a task must have names. "
                    "Take a list or a dict instead."
                )
            inputs[parameter.name] = (resolved.get(parameter.name, Any), parameter.default)
        returns = resolved.get("return", EMPTY) if signature.return_annotation is not EMPTY else EMPTY
        return cls(name, inputs, outputs_of(returns, name), signature, returns)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.name, self.inputs, self.outputs, _kinds(self.signature), self.returns)

    def __repr__(self) -> str:
        return f"{self._takes()} -> {self._gives()}"

    def _takes(self, *, defaults: bool = True) -> str:
        parts = []
        for name, (hint, default) in self.inputs.items():
            if self._by_keyword and name == self._by_keyword[0][0]:
                parts.append("*")
            shown = "" if default is EMPTY or not defaults else f" = {SHORT_REPR.repr(default)}"
            parts.append(f"{name}: {type_check.display(hint)}{shown}")
        return f"({', '.join(parts)})"

    def _gives(self) -> str:
        if not self.outputs:
            return "None"
        return f"({', '.join(f'{name}: {type_check.display(hint)}' for name, hint in self.outputs.items())})"

    def signature_text(self) -> str:
        """Names and types of inputs and outputs, the same in every process. Defaults are left out: they may be any object."""
        return f"{self._takes(defaults=False)} -> {self._gives()}"

    def json_schema(self) -> dict[str, Any]:
        """A JSON schema of the inputs."""
        return schema_of_inputs(self.inputs)

    # -- Binding -------------------------------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Bind a call's arguments as Python would, fill in the defaults, and refuse what obviously does not fit.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments; not changed.

        Returns:
            Every parameter's value: the positional ones as a tuple, in order, the keyword-only ones as a dict. Unchanged,
            but for plain data where the annotation names a class: a dict for a dataclass or a pydantic model, a value for
            an enum, a tuple for a NamedTuple.

        Raises:
            ArgumentError: They fit neither the signature (the text is Python's, with the task's name) nor the
                annotations. It is a `TypeError` and a `ValueError`.
        """
        # The commonest call, a map over one list, takes the first line and the last: well under a microsecond.
        if kwargs or len(args) != self._count or self._by_keyword:
            args, kwargs = self._bind_slowly(args, kwargs)
        if self._has_checks and (kwargs or tuple(map(type, args)) != self._exact):
            return self._checked(args, kwargs)
        return args, kwargs

    @property
    def exact(self) -> tuple[type, ...] | None:
        """Types of positional arguments that `bind` gives back as they are; None if it does with none."""
        return None if self._by_keyword or not self._has_checks else self._exact

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > self._count:
            # As in Flyte, where inputs have an order and a name each: what is keyword-only may be given by position.
            beyond = dict(zip((name for name, _ in self._by_keyword), args[self._count :], strict=False))
            if len(args) > len(self.inputs) or beyond.keys() & kwargs.keys():
                self._refuse(args, kwargs)
            args, kwargs = args[: self._count], {**kwargs, **beyond}
        left = dict(kwargs)
        values = list(args)
        for name, default, by_keyword in self._positional[len(args) :]:
            value = left.pop(name, default) if by_keyword else default
            if value is EMPTY:
                self._refuse(args, kwargs)
            values.append(value)
        named: dict[str, Any] = {}
        for name, default in self._by_keyword:
            value = left.pop(name, default)
            if value is EMPTY:
                self._refuse(args, kwargs)
            named[name] = value
        if left:
            self._refuse(args, kwargs)
        return tuple(values), named

    def _refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.name}() {error}. It takes {self._takes()}.") from None
        raise ArgumentError(f"{self.name}() does not take these arguments. It takes {self._takes()}.")

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Values by parameter name, of arguments that `bind` has bound."""
        return {**dict(zip((p[0] for p in self._positional), args, strict=False)), **kwargs}

    # -- Checking ------------------------------------------------------------------------------------------------------

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, each as it is if it fits, else built of plain data (a model of a dict), else refused."""
        for index, (value, row) in enumerate(zip(args, self._checks, strict=False)):
            if not _fits(value, row):
                args = (*args[:index], self._built(row, value), *args[index + 1 :])
        for key, value in kwargs.items():
            if not _fits(value, self._keyword_checks[key]):
                kwargs = {**kwargs, key: self._built(self._keyword_checks[key], value)}
        return args, kwargs

    def _built(self, row: _Row, value: Any) -> Any:
        name, _exact, check, _default = row
        try:
            made = coerce(self.inputs[name][0], value)
        except Exception as error:
            self._refuse_value(name, value, f" ({type(error).__name__}: {error})")
        if check is not None and not check(made):
            self._refuse_value(name, value)
        return made

    def _refuse_value(self, name: str, value: Any, why: str = "") -> NoReturn:
        expected = type_check.display(self.inputs[name][0])
        forgotten = forgotten_await(value)
        raise ArgumentError(
            f"Type conversion failed for variable '{name}': expected {expected}, got {repr_with_type(value)}{why}. "
            f"{forgotten}{' ' * bool(forgotten)}Task {self.name} takes {self._takes()}."
        )

    def check_outputs(self, value: Any) -> Any:  # noqa: RET503 - it ends in an error
        """Refuse a result that obviously does not fit the return annotation.

        Args:
            value: What the function returned.

        Returns:
            The same; built of plain data where the annotation asks for it, as arguments are.

        Raises:
            RuntimeDataValidationError: It does not fit. The error's ``value`` is what was returned. Without a return
                annotation everything fits.
        """
        if type(value) is self._single_type:
            return value
        if not self.outputs:
            if value is None or self.returns is Any or self.returns is EMPTY:
                return value
            shown = value if isinstance(value, tuple) else (value,)
            self._refuse_output(
                "o0",
                f"Expected no outputs but got {SHORT_REPR.repr(shown)},did you miss a return type annotation?",
                value,
            )
        if self._check_returned is None or self._check_returned(value):
            return value
        why = ""
        try:
            made = coerce(one_hint(self.returns), value)
            if self._check_returned(made):
                return made
        except ValueError as error:
            why = f" ({error})"
        except Exception:
            why = ""
        expected = type_check.display(self.returns)
        if len(self.outputs) > 1 and (not isinstance(value, tuple | list) or len(value) != len(self.outputs)):
            got = f"{len(value)}" if isinstance(value, tuple | list) else "1"
            self._refuse_output(
                ", ".join(self.outputs), f"Expected {len(self.outputs)} outputs ({expected}), but got {got}", value
            )
        self._refuse_output(
            next(iter(self.outputs)),
            f"expected {expected}, got {repr_with_type(value)}{why}. Return such a value, or change the annotation.",
            value,
        )

    def _refuse_output(self, name: str, why: str, value: Any) -> NoReturn:
        error = RuntimeDataValidationError(name, why, self.name)
        error.pickled = dumps_bounded(value, MAX_VALUE)
        raise error

    # -- Description ---------------------------------------------------------------------------------------------------

    def has_default(self, name: str) -> bool:
        """Whether an input may be left out."""
        return self.inputs[name][1] is not EMPTY

    def required_inputs(self) -> list[str]:
        """Names of the inputs that have no default."""
        return [name for name in self.inputs if not self.has_default(name)]

    def num_required_inputs(self) -> int:
        """How many inputs have no default."""
        return len(self.required_inputs())

    def get_input_types(self) -> dict[str, Any]:
        """Type by name of input."""
        return {name: hint for name, (hint, _) in self.inputs.items()}

    def has_outputs(self) -> bool:
        """Whether there is a result."""
        return bool(self.outputs)

    def convert_to_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A call's arguments by name, defaults filled in.

        Raises:
            ArgumentError: They do not fit the signature.
        """
        return self.named(*self.bind(args, kwargs))

    def _compile(self) -> None:
        parameters = self.signature.parameters.values()
        rows = {name: (name, *_row(hint), default) for name, (hint, default) in self.inputs.items()}
        defaults = {name: self._default(row) for name, row in rows.items()}
        #: (name, default, whether it may be given by keyword)
        self._positional = tuple(
            (p.name, defaults[p.name], p.kind is not inspect.Parameter.POSITIONAL_ONLY)
            for p in parameters
            if p.kind in _POSITIONAL
        )
        self._by_keyword = tuple(
            (p.name, defaults[p.name]) for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY
        )
        self._count = len(self._positional)
        #: Per parameter: (name, type that needs no check, check or None, default, which always fits: ``x: int = None``).
        self._checks = tuple(rows[name] for name, _, _ in self._positional)
        self._keyword_checks = {name: rows[name] for name, _ in self._by_keyword}
        self._exact = tuple(row[1] for row in self._checks)
        self._has_checks = any(row[2] is not None for row in rows.values())
        single = self.outputs["o0"] if list(self.outputs) == ["o0"] and not columns_of(self.returns) else _Never
        self._single_type = single if _is_exact(single) else _Never
        self._check_returned = type_check.compile_check(one_hint(self.returns)) if self.outputs else None

    def _default(self, row: _Row) -> Any:
        """A default as the body gets it: plain data in the place of a class is made into it, as given values are."""
        name, _exact, check, default = row
        if default is EMPTY or default is None or check is None or check(default):
            return default
        with contextlib.suppress(Exception):
            made = coerce(self.inputs[name][0], default)
            if check(made):
                return made
        return default


#: Of a parameter: its name, the type that needs no check, its check, and its default, which always fits.
_Row = tuple[str, Any, type_check.Check | None, Any]


def _fits(value: Any, row: _Row) -> bool:
    _name, exact, check, default = row
    return check is None or type(value) is exact or value is default or check(value)


class _Never:
    """Type of no value."""


def _row(hint: Any) -> tuple[Any, type_check.Check | None]:
    check = type_check.compile_check(hint)
    return (hint if check is not None and _is_exact(hint) else _Never), check


def _is_exact(hint: Any) -> bool:
    return isinstance(hint, type) and typing.get_origin(hint) is None


#: Class of the kinds of parameters, which `inspect` has no public name for.
_KIND: Any = type(inspect.Parameter.POSITIONAL_ONLY)


def _kinds(signature: inspect.Signature) -> tuple[tuple[str, int], ...]:
    return tuple((p.name, int(p.kind)) for p in signature.parameters.values())


def _rebuild(
    name: str, inputs: dict[str, tuple[Any, Any]], outputs: dict[str, Any], kinds: tuple[tuple[str, int], ...], returns: Any
) -> Interface:  # fmt: skip
    parameters = [
        inspect.Parameter(each, _KIND(kind), default=inputs[each][1], annotation=inputs[each][0])
        for each, kind in kinds
    ]
    return Interface(name, inputs, outputs, inspect.Signature(parameters), returns)
