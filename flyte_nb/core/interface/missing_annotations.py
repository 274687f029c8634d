"""Missing annotations: refused under ``init(strict=True)``, else told, by what was seen. Runs in: everywhere.

A task without annotations takes and gives any value. Flyte wants annotations, so one line a session says which: those of the
first such call that has ended, from its arguments and its result.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

#: Elements of a container that are looked at, types that are named of one, and nesting that is followed.
MAX_ELEMENTS, MAX_TYPES, MAX_NESTING = 20, 3, 3
#: Results of a tuple that are named one by one.
MAX_RESULTS = 8
#: Longest default that is repeated.
MAX_DEFAULT = 40

EMPTY = inspect.Parameter.empty


class _Settings:
    """Of this process."""

    def __init__(self) -> None:
        #: Whether a task without annotations is refused.
        self.strict = False
        #: Whether the line was said.
        self.said = False
        self.say: Callable[[str], object] = lambda line: print(line, file=sys.stderr)  # noqa: T201 - for the user


_settings = _Settings()


def configure(*, strict: bool | None = None, say: Callable[[str], object] | None = None) -> None:
    """Set whether a task without annotations is refused, and how the line is shown; None changes nothing."""
    if strict is not None:
        _settings.strict = strict
    if say is not None:
        _settings.say = say


def are_missing(func: Callable[..., Any], name: str, signature: inspect.Signature) -> bool:
    """Whether a function lacks annotations that Flyte wants: of a parameter, or of a result.

    Args:
        func: The task's function.
        name: Full name of the task.
        signature: Signature of the function.

    Raises:
        TypeError: It does, and `configure` was told to be strict.
    """
    missing = [n for n, p in signature.parameters.items() if p.annotation is EMPTY]
    result = signature.return_annotation is EMPTY and _returns_something(func)
    if _settings.strict and (missing or result):
        what = [f"its parameter{'s' * (len(missing) > 1)} {_listed(missing)}"] if missing else []
        what += ["its result"] if result else []
        raise TypeError(
            f"Task {name} has no type annotation for {' and '.join(what)}, and flyte_nb.init(strict=True) wants them all. "
            f"Write `{_definition(func, signature, {}, EMPTY if not result else _TYPE)}`, with types for `...`."
        )
    return bool(missing) or result


def was_said() -> bool:
    """Whether the line was said in this session."""
    return _settings.said


def seen(func: Callable[..., Any], name: str, arguments: Mapping[str, Any], result: object) -> None:
    """Say once what the annotations of a function are, by the values of one call.

    Args:
        func: The task's function.
        name: Full name of the task.
        arguments: The call's arguments by name.
        result: What it gave.
    """
    if _settings.said:
        return
    _settings.said = True
    with contextlib.suppress(Exception):  # nothing depends on it
        signature = inspect.signature(func)
        text = _definition(func, signature, arguments, result)
        also = " A lambda cannot have annotations." if func.__name__ == "<lambda>" else ""
        _settings.say(
            f"flyte_nb: {name} runs without annotations here; Flyte will want `{text}`, by what this call was given and "
            f"gave.{also} (Said once; flyte_nb.init(strict=True) refuses such tasks.)"
        )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class _Text:
    """Stands in a signature for an annotation or a default, and is shown as a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


#: "Some type".
_TYPE = _Text("...")


def _definition(
    func: Callable[..., Any], signature: inspect.Signature, arguments: Mapping[str, Any], result: object
) -> str:
    """The first line of a function with all its annotations; those that are there stay."""
    names = getattr(inspect.unwrap(func), "__globals__", {})

    def annotation(given: object, value: object) -> Any:
        if given is not EMPTY:
            return _Text(given if isinstance(given, str) else _written(given, names))
        return _TYPE if value is _TYPE else _Text(type_text(value, names))

    parameters = []
    for parameter in signature.parameters.values():
        known = arguments.get(parameter.name, parameter.default)
        hint = annotation(parameter.annotation, _TYPE if known is EMPTY else known)
        if parameter.default is None and repr(hint) != "None" and parameter.annotation is EMPTY:
            hint = _Text(f"{hint!r} | None")
        default = EMPTY if parameter.default is EMPTY else _Text(_short(parameter.default))
        parameters.append(parameter.replace(annotation=hint, default=default))
    returns = EMPTY if result is EMPTY else annotation(signature.return_annotation, result)
    if isinstance(result, tuple) and type(result) is tuple and signature.return_annotation is EMPTY:
        # A tuple is several results in Flyte, a fixed number of them.
        several = 2 <= len(result) <= MAX_RESULTS
        returns = _Text(type_text(result if several else list(result), names))
    made = signature.replace(parameters=parameters, return_annotation=returns)
    prefix = "async def" if inspect.iscoroutinefunction(func) else "def"
    name = func.__name__ if func.__name__.isidentifier() else "task"
    return f"{prefix} {name}{made}:"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_DEFAULT else "..."


def _written(hint: Any, names: Mapping[str, Any]) -> str:
    """A given annotation as it may have been written."""
    if isinstance(hint, type) and not hasattr(hint, "__args__"):
        return _class_text(hint, names)
    return str(hint).replace("typing.", "").replace("__main__.", "")


def type_text(value: object, names: Mapping[str, Any], depth: int = 0) -> str:
    """The annotation of a value: ``list[int]``, ``pd.DataFrame``.

    Args:
        value: The value; nothing of it is called.
        names: Global names of the code that will use the annotation: what modules are called there.
        depth: How deep in another value it stands.
    """
    kind = type(value)
    if value is None:
        return "None"
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        return {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}.get(value.dtype.kind, "float")
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return "Callable"
    if depth < MAX_NESTING and kind in (list, set, frozenset):
        inner = _union(value, names, depth)  # type: ignore[arg-type]
        return f"{kind.__name__}[{inner}]" if inner else kind.__name__
    if depth < MAX_NESTING and kind is tuple and value:
        if len(value) <= MAX_RESULTS:  # type: ignore[arg-type]
            return f"tuple[{', '.join(type_text(each, names, depth + 1) for each in value)}]"  # type: ignore[attr-defined]
        return f"tuple[{_union(value, names, depth)}, ...]"  # type: ignore[arg-type]
    if depth < MAX_NESTING and kind is dict:
        keys, values = _union(value, names, depth), _union(value.values(), names, depth)  # type: ignore[attr-defined,arg-type]
        return f"dict[{keys}, {values}]" if keys and values else "dict"
    return _class_text(kind, names)


def _union(values: Iterable[Any], names: Mapping[str, Any], depth: int) -> str:
    """What the elements of a container are; "" where it is empty, or they are too many things."""
    found = dict.fromkeys(type_text(each, names, depth + 1) for each in islice(values, MAX_ELEMENTS))
    if set(found) == {"int", "float"}:
        return "float"
    return " | ".join(sorted(found, key=lambda text: text == "None")) if len(found) <= MAX_TYPES else ""


def _class_text(cls: type, names: Mapping[str, Any]) -> str:
    if cls.__module__ in ("builtins", "__main__", names.get("__name__")) or names.get(cls.__name__) is cls:
        return cls.__qualname__
    root = cls.__module__.partition(".")[0]
    modules = {n: m for n, m in list(names.items()) if isinstance(m, types.ModuleType) and not n.startswith("_")}
    for name, module in modules.items():
        if module.__name__ in (cls.__module__, root) and getattr(module, cls.__name__, None) is cls:
            return f"{name}.{cls.__name__}"
    public = getattr(sys.modules.get(root), cls.__name__, None) is cls
    return f"{root if public else cls.__module__}.{cls.__qualname__}"


def _returns_something(func: Callable[..., Any]) -> bool:
    """Whether a function has a `return` with a value, as far as its bytecode shows."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    if code is None:
        return False
    before = None
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_CONST":  # since Python 3.12
            if step.argval is not None:
                return True
        elif step.opname == "RETURN_VALUE" and not (
            before is not None and before.opname == "LOAD_CONST" and before.argval is None
        ):
            return True
        before = step
    return False
