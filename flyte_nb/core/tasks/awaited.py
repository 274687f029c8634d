"""Tell from the calling code whether what a call gives will be awaited. Runs in: the calling code.

``await square(3)`` means "run it on the cluster" also where `square` is a plain ``def`` task, and ``gather(*(square(i) for i in
r))`` means "all at once". Such a call must give an awaitable, any other its value; which of both is decided before anything
is computed, from what the calling code does with it: its bytecode (the next instruction awaits), else its source, where the
value is followed through arguments, lists, names and helper functions to a function of asyncio's that awaits it. Where that
cannot be shown the answer is no, and the call blocks and gives its value, as in Flyte.
"""

from __future__ import annotations

import ast
import asyncio
import dis
import functools
import itertools
import types
from collections import OrderedDict
from types import CodeType, FrameType
from typing import Any, NamedTuple

from flyte_nb.core.tasks.parsed_source import Definition, Tree, tree_of
from flyte_nb.core.values.user_code import library_path

#: Decisions that are remembered.
MAX_DECISIONS = 2_000
#: Helper functions, and names, that a value is followed through.
MAX_DEPTH = 8

#: Functions that await what they are given: their names, and which of their arguments (None: all positional ones).
_AWAITING: dict[str, int | None] = {
    "gather": None, "as_completed": 0, "create_task": 0, "ensure_future": 0, "run": 0, "run_coroutine_threadsafe": 0,
    "run_until_complete": 0, "shield": 0, "wait": 0, "wait_for": 0,
}  # fmt: skip
#: Names of their arguments.
_AWAITED_KEYWORDS = frozenset({"arg", "aw", "aws", "coro", "coro_or_future", "fs", "fut", "future", "main"})
#: Packages whose functions of these names they are.
_LOOPS = frozenset({"asyncio", "nest_asyncio", "nest_asyncio2", "tqdm", "uvloop"})
#: What only passes on what it is given: the value is where its result is.
_PASSING = frozenset({list, tuple, set, frozenset, iter, reversed, itertools.chain})
#: Built-in functions that call a task once for each item of what they give.
_CALLING = frozenset({list, tuple, set, frozenset})
#: Uses of a list that say nothing about what is in it.
_COLLECTING = frozenset({"append", "add", "insert", "extend", "appendleft"})

_UNKNOWN: Any = object()


def is_awaited(frame: FrameType, called: object) -> bool:
    """Whether what the call that a frame is making gives will be awaited, and not used as a value.

    Args:
        frame: The frame that calls.
        called: What is called.
    """
    return _is_awaited(frame, called, 0)


#: By code and instruction: the code (which keeps its id taken), the decision if it holds for all calls, and what is known.
_decisions: OrderedDict[tuple[int, int], tuple[CodeType, bool | None, _Place]] = OrderedDict()


def _is_awaited(frame: FrameType, called: object, depth: int) -> bool:
    code, at = frame.f_code, frame.f_lasti
    known = _decisions.get((id(code), at))
    if known is not None and known[1] is not None:
        return known[1]
    if depth > MAX_DEPTH:
        return False
    if code.co_filename == _TASKS_FILE:
        return True  # asyncio.as_completed(map(square, r)) takes them one by one, and so do others
    try:
        place = known[2] if known is not None else _Place.of(code, at)
        flow = _Flow(frame, depth, called=called)
        found = (place.is_awaited and not place.is_spread) or flow.decide(place)
    except Exception:
        return False  # source that is not what was executed: nothing can be shown
    if known is None:
        _decisions[id(code), at] = code, None if flow.dynamic else found, place
        while len(_decisions) > MAX_DECISIONS:
            _decisions.popitem(last=False)
    return found


_TASKS_FILE = asyncio.gather.__code__.co_filename


class _Place(NamedTuple):
    """What is known of a call by its code: the next instruction, and what stands there in the source."""

    is_awaited: bool
    is_returned: bool
    #: Whether arguments are unpacked, which may call: ``total(*map(square, r))``.
    is_spread: bool
    tree: Tree | None
    node: ast.expr | None
    #: Global names in the code.
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, code: CodeType, at: int) -> _Place:
        steps = (step.opname for step in dis.get_instructions(code) if step.offset > at)
        following = next((name for name in steps if name != "CACHE"), "")
        awaited, spread = following == "GET_AWAITABLE", dis.opname[code.co_code[at]] == "CALL_FUNCTION_EX"
        if awaited and not spread:
            return cls(is_awaited=True, is_returned=False, is_spread=False, tree=None, node=None)
        tree = tree_of(code.co_filename) if library_path(code.co_filename) is None else None
        node = tree.at(code, at) if tree is not None else None
        if node is None or tree is None or not tree.tells(node, code):
            tree = node = None
        return cls(awaited, following == "RETURN_VALUE", spread, tree, node, code.co_names)


class _Flow:
    """Where one value goes, from the call that a frame is making."""

    def __init__(
        self, frame: FrameType | None, depth: int, names: dict[str, Any] | None = None, called: object = None
    ) -> None:
        #: What the frame calls: the task, or the code of a function that returns its value.
        self._called = called
        #: Of a helper function that is not running yet: none.
        self._frame = frame
        self._globals = frame.f_globals if frame is not None else names or {}
        self._depth = depth
        self._followed: set[tuple[ast.AST, str]] = set()
        #: Whether the decision holds for this call only: it depends on local variables, or on who called the caller.
        self.dynamic = False
        self.tree: Tree | None = None
        #: The function that the call stands in.
        self._scope: ast.AST | None = None

    def decide(self, place: _Place) -> bool:
        """Whether the value of the call is awaited."""
        self.tree, node = place.tree, place.node
        if self.tree is None or node is None:
            if place.is_spread and "map" in place.names:
                return False
            return place.is_awaited or (place.is_returned and self._returned())
        self._scope = self.tree.scope(node)
        if isinstance(node, ast.Call):
            if any(self._is_map(inner) for outer in ast.walk(node) if self._is_map(outer) for inner in outer.args[1:]):  # type: ignore[attr-defined]
                return False  # of one map within another: which of both calls cannot be told
            if self._awaiting(node.func) is not _UNKNOWN:
                return True  # gather(*map(square, r)): its arguments are being made
            called = self._value(node.func)
            if isinstance(called, type | types.BuiltinFunctionType):
                return called in _CALLING and self._goes(node)  # not sorted(r, key=square), which uses the value itself
            if place.is_spread and not self._is_called(called):
                return False  # total(*map(square, r)): its arguments are being made, and it takes values
        return self._goes(node)

    def _is_called(self, value: Any) -> bool:
        """Whether this is what the frame calls, as far as can be told."""
        value = getattr(value, "__func__", value)
        if isinstance(value, functools.partial):
            value = value.func
        return value is _UNKNOWN or value is self._called or getattr(value, "__code__", None) is self._called

    def _goes(self, node: ast.AST) -> bool:
        """Whether the value of an expression, or all that it holds, is awaited."""
        assert self.tree is not None
        parent = self.tree.parent.get(node)
        match parent:
            case ast.Await():
                return True
            case ast.Tuple() if name := self._unpacked_to(parent, node):
                return self._named(name, self.tree.parent[parent])
            case ast.Starred() | ast.List() | ast.Tuple() | ast.Set() | ast.keyword():
                return self._goes(parent)
            case ast.ListComp(elt=each) | ast.SetComp(elt=each) | ast.GeneratorExp(elt=each) if each is node:
                return self._goes(parent)
            case ast.DictComp(value=each) if each is node:
                return self._goes(parent)
            case ast.Dict():
                return node in parent.values and self._goes(parent)
            case ast.Subscript(value=each, ctx=ast.Load()) if each is node:
                return self._goes(parent)
            case ast.Attribute(attr="values" | "items" as method):
                return self._of_dict(parent, method)
            case ast.IfExp(body=one, orelse=other) if node in (one, other):
                return self._goes(parent)
            case ast.Call():
                return self._passed(parent, node)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name))]):
                return self._named(name, parent)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if isinstance(
                node, ast.Dict | ast.DictComp
            ):
                return self._named(name, parent, keys=True)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
                return self._named(name, parent)
            case ast.AnnAssign(target=ast.Name(id=name)):
                return self._named(name, parent)
            case ast.NamedExpr(target=ast.Name(id=name)):
                return self._goes(parent) and self._named(name, parent)
            case ast.For(iter=it, target=ast.Name(id=name)):
                return it is node and self._named(name, parent)
            case ast.comprehension(iter=it, target=ast.Name(id=name)):
                return it is node and self._named(name, parent, within=self.tree.parent[parent])
            case ast.Return():
                return self.tree.scope(parent) is self._scope and self._returned()
            case ast.Lambda():
                return parent is self._scope and self._returned()
            case ast.Yield():
                return self.tree.scope(parent) is self._scope and self._returned(of_generator=True)
        return False

    def _unpacked_to(self, values: ast.Tuple, node: ast.AST) -> str:
        """The name that a part of a tuple gets where it is assigned: ``a, b = f(1), f(2)``; "" for none."""
        assert self.tree is not None
        match self.tree.parent.get(values):
            case ast.Assign(targets=[ast.Tuple(elts=targets)]) if len(targets) == len(values.elts):
                target = targets[next(i for i, each in enumerate(values.elts) if each is node)]
                return target.id if isinstance(target, ast.Name) else ""
        return ""

    def _returned(self, *, of_generator: bool = False) -> bool:
        """Whether what the running function returns, or yields, is awaited by its caller."""
        self.dynamic = True
        frame = self._frame
        if frame is None or frame.f_back is None:
            return False
        flags = frame.f_code.co_flags
        generator = bool(flags & 0x20)  # CO_GENERATOR
        if flags & 0x280 or generator is not of_generator:  # CO_COROUTINE, CO_ASYNC_GENERATOR
            return False
        return _is_awaited(frame.f_back, frame.f_code, self._depth + 1)

    def _of_dict(self, attribute: ast.Attribute, method: str) -> bool:
        """Whether the values of a dict are awaited, by ``values()`` or ``for key, value in d.items()``."""
        assert self.tree is not None
        call = self.tree.parent.get(attribute)
        if not isinstance(call, ast.Call):
            return False
        if method == "values":
            return self._goes(call)
        match loop := self.tree.parent.get(call):
            case ast.For(target=ast.Tuple(elts=[_, ast.Name(id=name)])):
                return self._named(name, loop)
            case ast.comprehension(target=ast.Tuple(elts=[_, ast.Name(id=name)])):
                return self._named(name, loop, within=self.tree.parent[loop])
        return False

    def _named(self, name: str, node: ast.AST, within: ast.AST | None = None, *, keys: bool = False) -> bool:
        """Whether a variable that holds the value is awaited wherever it is used, and is used at all."""
        assert self.tree is not None
        scope = within if within is not None else self.tree.scope(node)
        if (scope, name) in self._followed:
            return True  # on the way already: the other uses decide
        self._followed.add((scope, name))
        uses = [each for each in self.tree.uses(scope, name) if not self._collects(each, keys=keys)]
        return bool(uses) and all(self._goes(each) for each in uses)

    def _collects(self, node: ast.Name, *, keys: bool) -> bool:
        """Whether a use of a list only fills it, or asks for its length; of a dict (`keys`), whether it takes the keys only."""
        assert self.tree is not None
        parent = self.tree.parent.get(node)
        if isinstance(parent, ast.Subscript) and not isinstance(parent.ctx, ast.Load):
            return True
        if keys and isinstance(parent, ast.Call) and node in parent.args:
            return self._value(parent.func) in (len, list, set, sorted, tuple, zip, enumerate)
        if keys and isinstance(parent, ast.For | ast.comprehension | ast.Compare):
            return True
        if keys and isinstance(parent, ast.Attribute) and parent.attr == "keys":
            return True
        if isinstance(parent, ast.Attribute):
            return parent.attr in _COLLECTING and isinstance(self.tree.parent.get(parent), ast.Call)
        return isinstance(parent, ast.Call) and self._value(parent.func) is len

    def _is_map(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and self._value(node.func) is map

    def _passed(self, call: ast.Call, node: ast.AST) -> bool:
        """Whether an argument is awaited by what it is given to."""
        assert self.tree is not None
        keyword = node.arg if isinstance(node, ast.keyword) else None
        place = next((i for i, each in enumerate(call.args) if each is node), 0)
        awaiting = self._awaiting(call.func)
        if awaiting is not _UNKNOWN:
            return keyword in _AWAITED_KEYWORDS if keyword else awaiting is None or place == awaiting
        if isinstance(call.func, ast.Attribute) and call.func.attr in _COLLECTING:
            holder = call.func.value
            return isinstance(holder, ast.Name) and self._named(holder.id, call)
        function = self._value(call.func)
        if function is map and place and isinstance(call.args[0], ast.Name | ast.Attribute):
            inner = call.args[0]  # map(asyncio.ensure_future, calls)
            return self._awaiting(inner) is not _UNKNOWN or self._helped(inner, None, place - 1, False)
        try:
            if function in _PASSING:
                return self._goes(call)
        except TypeError:  # not hashable
            return False
        return self._helped(call.func, keyword, place, isinstance(node, ast.Starred))

    def _helped(self, func: ast.expr, keyword: str | None, place: int, starred: bool) -> bool:
        """Whether a function of the user's awaits an argument: it is followed through its parameters."""
        function = self._value(func)
        if isinstance(function, types.MethodType):
            function, place = function.__func__, place + 1
        if self._depth >= MAX_DEPTH:
            return False
        inner, definition = self, self._defined_here(func) if function is _UNKNOWN else None
        if isinstance(function, types.FunctionType):
            inner = _Flow(None, self._depth + 1, function.__globals__)
            inner.tree = tree_of(function.__code__.co_filename)
            definition = inner.tree.function(function.__code__) if inner.tree is not None else None
        if definition is None:
            return False
        arguments = definition.args
        positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        rest = [arguments.vararg.arg] if arguments.vararg is not None else []
        if keyword is not None:
            names = [keyword] if keyword in (*positional, *(each.arg for each in arguments.kwonlyargs)) else []
        elif starred:
            names = [*positional[place:], *rest]
        else:
            names = positional[place : place + 1] or rest
        return bool(names) and all(inner._named(name, definition, within=definition) for name in names)

    def _defined_here(self, func: ast.expr) -> Definition | None:
        """The function of this name inside a function that is not running yet."""
        assert self.tree is not None
        name = func.id if isinstance(func, ast.Name) else ""
        for node in ast.walk(self.tree.scope(func)) if name else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return node
        return None

    def _awaiting(self, func: ast.expr) -> Any:
        """Which argument of a function it awaits (None: all of them); `_UNKNOWN` if it is not known to await any."""
        function = self._value(func)
        if function is _UNKNOWN:
            # ``tg`` of ``async with TaskGroup() as tg``, which is not there yet.
            name = func.attr if isinstance(func, ast.Attribute) else ""
            return 0 if name == "create_task" else _UNKNOWN
        holder = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None) or type(holder).__module__
        if isinstance(holder, asyncio.TaskGroup | asyncio.AbstractEventLoop | asyncio.Runner):
            module = "asyncio"
        if not isinstance(module, str) or module.partition(".")[0] not in _LOOPS:
            return _UNKNOWN
        return _AWAITING.get(getattr(function, "__name__", ""), _UNKNOWN)

    def _value(self, node: ast.expr) -> Any:
        """What a name, or an attribute of a module or an object, is now; calls nothing of the user's."""
        if isinstance(node, ast.Name):
            return self._variable(node.id)
        if isinstance(node, ast.Call):
            made = self._value(node.func)
            if made in (asyncio.get_running_loop, asyncio.get_event_loop):
                return asyncio.get_running_loop()
            return _UNKNOWN
        if not isinstance(node, ast.Attribute):
            return _UNKNOWN
        holder = self._value(node.value)
        if holder is _UNKNOWN and isinstance(node.value, ast.Call):
            made = self._value(node.value.func)  # Box().take: of the class that is called
            method = getattr(made, node.attr, None) if isinstance(made, type) else None
            return types.MethodType(method, made) if isinstance(method, types.FunctionType) else _UNKNOWN
        if holder is _UNKNOWN:
            return _UNKNOWN
        if isinstance(holder, types.ModuleType | type | asyncio.TaskGroup | asyncio.AbstractEventLoop | asyncio.Runner):
            return getattr(holder, node.attr, None)
        own = getattr(holder, "__dict__", {}).get(node.attr)
        if own is not None:
            return own
        method = getattr(type(holder), node.attr, None)
        return types.MethodType(method, holder) if isinstance(method, types.FunctionType) else None

    def _variable(self, name: str) -> Any:
        if self._frame is not None:
            code = self._frame.f_code
            if name in code.co_varnames or name in code.co_cellvars or name in code.co_freevars:
                self.dynamic = True
                return self._frame.f_locals.get(name, _UNKNOWN)
        if name in self._globals:
            return self._globals[name]
        builtins = self._globals.get("__builtins__", {})
        found = builtins if isinstance(builtins, dict) else vars(builtins)
        if name in found:
            return found[name]
        return self._outer(name)

    def _outer(self, name: str) -> Any:
        """A variable of the function that a comprehension, which is a frame of its own, stands in."""
        frame = self._frame
        while frame is not None and frame.f_code.co_name in ("<genexpr>", "<listcomp>", "<setcomp>", "<lambda>"):
            frame = frame.f_back
            if frame is not None and name in frame.f_code.co_varnames:
                self.dynamic = True
                return frame.f_locals.get(name, _UNKNOWN)
        self.dynamic = True
        return _UNKNOWN
