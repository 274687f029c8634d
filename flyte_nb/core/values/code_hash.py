"""Hash code: versions of functions and classes that survive re-running a cell. Runs in: everywhere.

The hash is taken where the function's source is at hand, that is in the process that defines it: a task carries its
version along when it is pickled, a worker does not compute it anew. A version is 64 hexadecimal digits; ``func`` may be a
function, method, partial or callable object.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import textwrap
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.values.user_code import is_user_code

#: Code objects whose hash is remembered. A map of 100,000 calls asks for the same few; a long notebook makes thousands.
MAX_HASHES = 4_096

#: Decorators, partials and methods peeled off one callable: more than programs nest, and the end of a cycle.
MAX_LAYERS = 32

#: Helpers followed from one function. Beyond this many the program is a library, and its version is not ours to compute.
MAX_HELPERS = 1_000

_Remembered = tuple["weakref.ref[types.CodeType]", str]
_remembered: dict[int, _Remembered] = {}
_remembered_classes: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def function_version(func: Callable[..., Any]) -> str:
    """Hash of a function's own source: the same in every process, and when its cell runs again unchanged.

    Decorators, annotations and the docstring count; comments and layout do not. Without source (``exec``, a plain
    prompt) the compiled code is hashed instead.
    """
    return _own_version(_layers(func)[-1])


def _own_version(layer: Any) -> str:
    """Hash of one function, its decorators' wrappers and what it wraps aside."""
    code = getattr(layer, "__code__", None)
    if not isinstance(code, types.CodeType):
        named = _with_code(layer)
        if named is not layer:
            return class_version(named)
        named = layer if hasattr(layer, "__qualname__") else type(layer)
        return _digest("object", f"{named.__module__}.{named.__qualname__}")
    # By identity: code objects compare equal when only a decorator's arguments differ.
    known = _remembered.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    version = _source_version(code) or _digest("code", _code_text(code))
    if len(_remembered) >= MAX_HASHES:
        _remembered.clear()
    _remembered[id(code)] = (weakref.ref(code), version)
    return version


def helpers_version(func: Callable[..., Any]) -> str:
    """Hash of a function and of everything of the user's that it uses: functions, classes and tasks, recursively.

    Looked at: names the code refers to, in its module and in its closure, and attributes of the user's own modules.
    Left out: installed packages, the standard library, and plain values (a counter must not look like an edit).
    """
    layers = _layers(func)
    parts = [_own_version(layer) for layer in layers]
    found = [
        f"{name}={class_version(helper) if isinstance(helper, type) else _own_version(helper)}"
        for name, helper in _helpers(layers)
    ]
    return _digest("helpers", "\n".join([*parts, *sorted(found)]))


def code_version(func: Callable[..., Any]) -> str:
    """Hash of all that decides what a function does: `helpers_version`, and the plain values that the code reads.

    A plain value is a number, a text, None, or a tuple of such: a global or a closure's variable that is read by name
    (``THRESHOLD``). Left out are variables that the code itself assigns (a counter must not look like an edit), and lists,
    dictionaries and other objects, which may change while they are used.
    """
    layers = _layers(func)
    holders = [*layers, *(helper for _, helper in _helpers(layers))]
    functions = [each for holder in holders for each in _functions_of(holder)]
    assigned = set[str]().union(*(_assigned(each.__code__) for each in functions))
    values = {
        f"{name}={_constant_text(value)}"
        for each in functions
        for name, value in _values(each)
        if name not in assigned and _is_plain_value(value)
    }
    return _digest("code", "\n".join([helpers_version(func), *sorted(values)]))


def _helpers(layers: list[Any]) -> list[tuple[str, Any]]:
    """Everything of the user's that a function's layers use, recursively, each once, with the name it is used by."""
    queue = list(layers)
    seen: dict[int, Any] = {id(layer): layer for layer in queue}
    found = []
    while queue and len(seen) <= MAX_HELPERS:
        for name, helper in _references(queue.pop()):
            if id(helper) not in seen:
                seen[id(helper)] = helper
                queue.append(helper)
                found.append((name, helper))
    return found


def _digest(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}:{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _layers(func: Any) -> list[Any]:
    """The functions that a callable is made of, from the outermost decorator's wrapper to the user's own, at the end."""
    found = [_peeled(func)]
    while len(found) < MAX_LAYERS and callable(inner := getattr(found[-1], "__wrapped__", None)):
        if isinstance(found[-1], type):
            break
        found.append(_peeled(inner))
    return found


def _peeled(func: Any) -> Any:
    """The function inside a task, a partial or a method."""
    for _ in range(MAX_LAYERS):
        if isinstance(func, functools.partial | functools.partialmethod):
            func = func.func
        elif isinstance(func, staticmethod | classmethod | types.MethodType):
            func = func.__func__
        elif isinstance(func, property):
            func = func.fget
        elif is_task(func):
            func = func.func
        else:
            break
    return func


def is_task(value: object) -> bool:
    """Whether a value is a task. By shape: this module is below the task's."""
    return not isinstance(value, type | types.FunctionType | types.ModuleType) and all(
        hasattr(type(value), name) for name in ("override", "forward", "aio")
    )


def _source_version(code: types.CodeType) -> str | None:
    """Hash of the parsed source; None if there is none, or it is not that of the function."""
    if code.co_name == "<lambda>":
        return None  # its "source" is the whole line it stands in
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    # A file edited since it was imported gives the lines of something else.
    match tree.body:
        case [ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) as node] if name == code.co_name:
            return _digest("source", ast.dump(node))
    return None


def _code_text(code: types.CodeType) -> str:
    consts = [_code_text(c) if isinstance(c, types.CodeType) else _constant_text(c) for c in code.co_consts]
    return repr((
        code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_posonlyargcount,
        code.co_kwonlyargcount, code.co_flags, consts,
    ))  # fmt: skip


def _constant_text(value: object) -> str:
    if isinstance(value, frozenset):  # its order differs from process to process
        return f"frozenset({sorted(repr(each) for each in value)})"
    return f"{type(value).__name__}:{value!r}"


def class_version(cls: type) -> str:
    """Hash of the own source of a class of the user's."""
    known = _remembered_classes.get(cls)
    if known is None:
        known = _remembered_classes[cls] = _hash_of_class(cls)
    return known


def _hash_of_class(cls: type) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        # inspect looks for a class by its module's file, which a notebook has not: its methods have their own source.
        methods = sorted((name, _own_version(method)) for name, method in _methods(cls))
        plain = sorted((name, repr(value)) for name, value in vars(cls).items() if _is_plain(name, value))
        hints = sorted((name, str(hint)) for name, hint in vars(cls).get("__annotations__", {}).items())
        return _digest("class", repr((cls.__qualname__, methods, plain, hints)))
    return _digest("source", ast.dump(tree))


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(cls).items():
        yield from ((name, layer) for layer in _layers(value) if isinstance(layer, types.FunctionType))


def _with_code(holder: Any) -> Any:
    """Where the code of a layer is: of an object that is called, in its class."""
    if isinstance(holder, type | types.FunctionType | types.ModuleType) or hasattr(holder, "__qualname__"):
        return holder
    return type(holder) if is_user_code(type(holder)) else holder


def _functions_of(holder: Any) -> list[types.FunctionType]:
    holder = _with_code(holder)
    if isinstance(holder, type):
        return [method for _, method in _methods(holder)]
    return [holder] if isinstance(holder, types.FunctionType) else []


def _is_plain(name: str, value: object) -> bool:
    # Python's own notes on a class differ from cell to cell: ``__firstlineno__`` since 3.13.
    return not name.startswith("__") and (value is None or isinstance(value, bool | int | float | str | bytes))


def _references(holder: Any) -> Iterator[tuple[str, Any]]:
    """Names, and what they stand for, that a function or class of the user's uses, and that are the user's own."""
    holder = _with_code(holder)
    if isinstance(holder, type):
        for base in holder.__mro__[1:]:
            if is_user_code(base):
                yield base.__qualname__, base
        for name, method in _methods(holder):
            for inner, helper in _references(method):
                yield f"{name}.{inner}", helper
        return
    if not isinstance(holder, types.FunctionType):
        return
    for name, value in _values(holder):
        yield from ((name, helper) for helper in _helpers_in(value))


def _values(func: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function's code refers to by name: globals, variables of its closure, attributes of the user's own modules."""
    names = _names(func.__code__)
    values: dict[str, Any] = {name: func.__globals__[name] for name in names if name in func.__globals__}
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=False):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            continue  # not filled yet: a function that refers to itself while it is being defined
    for name, value in values.items():
        if not isinstance(value, types.ModuleType):
            yield name, value
        elif is_user_code(value):
            yield from ((f"{name}.{inner}", vars(value)[inner]) for inner in names & vars(value).keys())


def _assigned(code: types.CodeType) -> set[str]:
    """Globals, and variables of an enclosing function, that code assigns."""
    found = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in _ASSIGNING and (step.opname != "STORE_DEREF" or step.argval in code.co_freevars)
    }
    return found.union(*(_assigned(each) for each in code.co_consts if isinstance(each, types.CodeType)))


_ASSIGNING = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF"})
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def _is_plain_value(value: object) -> bool:
    return type(value) in _PLAIN or (
        type(value) in (tuple, frozenset) and all(_is_plain_value(each) for each in value)  # type: ignore[attr-defined]
    )


def _names(code: types.CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _helpers_in(value: object) -> list[Any]:
    """The user's functions and classes that a value is made of: both the wrapper of a decorator and what it wraps."""
    return [each for each in _layers(value) if isinstance(each, types.FunctionType | type) and is_user_code(each)]
