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
import itertools
import textwrap
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.values.fixed_values import (
    BY_REPR,
    MAX_DEPTH,
    MAX_ITEMS,
    attributes,
    constant_text,
    data_text,
    fixed_text,
    is_own_code,
)
from flyte_nb.core.values.user_code import attribute, content_of, is_task, is_user_code, names_in_texts

#: Code objects whose hash is remembered. A map of 100,000 calls asks for the same few; a long notebook makes thousands.
MAX_HASHES = 4_096

#: Decorators, partials and methods peeled off one callable: more than programs nest, and the end of a cycle.
MAX_LAYERS = 32

#: Helpers followed from one function. Beyond this many the program is a library, and its version is not ours to compute.
MAX_HELPERS = 1_000

_EMPTY = object()
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
    """Hash of all that decides what a function does: `helpers_version`, and the fixed values that the code reads.

    A fixed value is a number, a text, a date, a path, the member of an enum and the like, a tuple of such, or what an installed
    package is asked for (``math.sqrt``): a global, a default, or a closure's variable (``THRESHOLD``). Left out are variables
    that the code itself assigns (a counter must not look like an edit), and what can change in place (`values_read`).
    """
    values = {f"{name}={text}" for name, value in values_read(func) if (text := fixed_text(value)) is not None}
    return _digest("code", "\n".join([helpers_version(func), *sorted(values)]))


def values_read(func: Callable[..., Any], *, of_classes: bool = False) -> Iterator[tuple[str, Any]]:
    """What a function and its helpers read now, by name: globals, defaults, variables of a closure.

    Without what is code of the user's own, and variables that the code itself assigns.

    Args:
        func: The function.
        of_classes: Whether attributes of classes count, which `class_version` has as they were in the beginning.
    """
    holders = _holders(func)
    functions = [each for holder in holders for each in _functions_of(holder)]
    assigned = set[str]().union(*(_assigned(each.__code__) for each in functions))
    for each in functions:
        yield from ((name, value) for name, value in _values(each) if name not in assigned and not is_own_code(value))
    for each in holders if of_classes else ():
        yield from attributes(each) if isinstance(each, type) else ()


def _holders(func: Callable[..., Any]) -> list[Any]:
    layers = _layers(func)
    return [_with_code(each) for each in (*layers, *(helper for _, helper in _helpers(layers)))]


def functions_used(func: Callable[..., Any]) -> list[types.FunctionType]:
    """A function, and those of its helpers and of classes that it uses."""
    return [each for holder in _holders(func) for each in _functions_of(holder)]


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
    while len(found) < MAX_LAYERS and callable(inner := attribute(found[-1], "__wrapped__")):
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
    consts = [_code_text(c) if isinstance(c, types.CodeType) else constant_text(c) for c in code.co_consts]
    return repr((
        code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_posonlyargcount,
        code.co_kwonlyargcount, code.co_flags, consts,
    ))  # fmt: skip


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
        plain = sorted((name, text) for name, value in attributes(cls) if (text := data_text(value)) is not None)
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


def _references(holder: Any) -> Iterator[tuple[str, Any]]:
    """Names, and what they stand for, that a function or class of the user's uses, and that are the user's own."""
    holder = _with_code(holder)
    if isinstance(holder, type):
        for base in holder.__mro__[1:]:
            if is_user_code(base):
                yield base.__qualname__, base
        if is_user_code(type(holder)):
            yield "metaclass", type(holder)
        for name, method in _methods(holder):
            for inner, helper in _references(method):
                yield f"{name}.{inner}", helper
        for name, value in vars(holder).items():
            if not (name.startswith("__") or isinstance(value, types.FunctionType)):
                yield from ((name, helper) for helper in _helpers_in(value))
        for name, field in (vars(holder).get("__dataclass_fields__") or {}).items():
            yield from ((name, helper) for helper in _helpers_in(field.default_factory))
        return
    if not isinstance(holder, types.FunctionType):
        return
    for name, value in _values(holder):
        yield from ((name, helper) for helper in _helpers_in(value))


def _values(func: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function's code refers to by name: globals, variables of its closure, attributes of the user's own modules."""
    names = names_of(func.__code__).union(names_in_texts(func.__code__))
    values: dict[str, Any] = {name: func.__globals__[name] for name in names if name in func.__globals__}
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=False)
    values.update({name: found for name, cell in cells if (found := content_of(cell, _EMPTY)) is not _EMPTY})
    code, defaults = func.__code__, func.__defaults__ or ()
    positional = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for name, value in (*zip(positional, defaults, strict=False), *(func.__kwdefaults__ or {}).items()):
        values[f"{name}="] = value
    for name, value in values.items():
        if not isinstance(value, types.ModuleType):
            yield name, value
        elif is_user_code(value):
            yield from ((f"{name}.{inner}", vars(value)[inner]) for inner in names & vars(value).keys())
        else:
            yield name, value


@functools.lru_cache(maxsize=MAX_HASHES)
def _assigned(code: types.CodeType) -> set[str]:
    """Globals, and variables of an enclosing function, that code assigns."""
    found = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in _ASSIGNING and (step.opname != "STORE_DEREF" or step.argval in code.co_freevars)
    }
    return found.union(*(_assigned(each) for each in code.co_consts if isinstance(each, types.CodeType)))


_ASSIGNING = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF"})


@functools.lru_cache(maxsize=MAX_HASHES)
def names_of(code: types.CodeType) -> frozenset[str]:
    """Names that code refers to, in functions defined in it, too."""
    return frozenset(code.co_names).union(
        *(names_of(each) for each in code.co_consts if isinstance(each, types.CodeType))
    )


def _helpers_in(value: object) -> Iterator[Any]:
    """The user's functions and classes that a value is made of: in a decorator's wrapper, in containers and objects."""
    queue, seen = [(value, 0)], set[int]()
    while queue and len(seen) < MAX_ITEMS:
        each, depth = queue.pop()
        if type(each) in BY_REPR or id(each) in seen:
            continue
        seen.add(id(each))
        found = [
            layer for layer in _layers(each) if isinstance(layer, types.FunctionType | type) and is_user_code(layer)
        ]
        yield from found
        is_whole = is_task(each) or isinstance(each, type | types.ModuleType) or (found and found[0] is each)
        if depth < MAX_DEPTH and not is_whole:
            queue += [(inner, depth + 1) for inner in itertools.islice(_inside(each), MAX_ITEMS)]


def _inside(value: Any) -> Iterator[Any]:
    """What may be code in a value: its class, its items, its attributes."""
    yield type(value)
    if isinstance(value, dict):
        yield from list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (*value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, property):
        yield from (value.fget, value.fset, value.fdel)
    elif isinstance(value, types.FunctionType):  # a library's wrapper, as of `functools.singledispatch`
        cells = (content_of(cell, _EMPTY) for cell in value.__closure__ or ())
        yield from (found for found in cells if found is not _EMPTY)
    else:
        yield from list((attribute(value, "__dict__") or {}).values())
