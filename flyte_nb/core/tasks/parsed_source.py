"""Parsed source: what stands in a file at the place of an instruction, and around it. Runs in: the calling code."""

from __future__ import annotations

import ast
import dis
import itertools
import linecache
from collections import OrderedDict
from types import CodeType
from typing import Any, TypeAlias

#: Parsed files that are remembered.
MAX_TREES = 16
#: Longest source that is parsed, in characters.
MAX_SOURCE = 1_000_000

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Tree:
    """A parsed file: who is whose parent, and what stands at a place."""

    def __init__(self, source: str) -> None:
        self.root: ast.Module = ast.parse(source)
        self.parent: dict[ast.AST, ast.AST] = {}
        self._uses: dict[tuple[ast.AST, str], list[ast.Name]] = {}
        self._by_end: dict[tuple[int, int], list[ast.expr | ast.For]] = {}
        for node in ast.walk(self.root):
            for child in ast.iter_child_nodes(node):
                self.parent[child] = node
            if isinstance(node, ast.expr | ast.For):
                self._by_end.setdefault((node.end_lineno or 0, node.end_col_offset or 0), []).append(node)

    def at(self, code: CodeType, offset: int) -> ast.expr | None:
        """The expression that an instruction executes; that which a loop goes through where it takes the next item."""
        place = next(itertools.islice(code.co_positions(), offset // 2, None), (None,) * 4)
        line, end_line, column, end_column = place
        ending = self._by_end.get((end_line or 0, end_column or 0), ())
        exact: list[Any] = [node for node in ending if (node.lineno, node.col_offset) == (line, column)]
        # The place of a method's call over several lines begins at the method's name.
        calls = [node for node in ending if isinstance(node, ast.Call)]
        found = exact[0] if exact else (calls[-1] if calls else None)
        if isinstance(found, ast.For):
            return found.iter
        if isinstance(found, _COMPREHENSIONS) and dis.opname[code.co_code[offset]] == "FOR_ITER":
            return found.generators[0].iter if len(found.generators) == 1 else None
        return found

    def tells(self, node: ast.expr, code: CodeType) -> bool:
        """Whether this is the source that the code was made of, by names and lines: a file may have been edited since."""
        if isinstance(node, ast.Call) and code.co_name != "<listcomp>":  # whose first iterable is not called in it
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in ("", *code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars):
                return False
        scope = self.scope(node)
        if not isinstance(scope, Definition) or code.co_name.startswith("<"):
            return code.co_name.startswith("<")
        return scope.name == code.co_name and code.co_firstlineno in (
            scope.lineno, *(each.lineno for each in scope.decorator_list)
        )  # fmt: skip

    def function(self, code: CodeType) -> Definition | None:
        """The definition that a function's code was compiled from."""
        for node in ast.walk(self.root):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if first == code.co_firstlineno:
                    return node
        return None

    def uses(self, scope: ast.AST, name: str) -> list[ast.Name]:
        """Where a variable is read, within a function or a file."""
        found = self._uses.get((scope, name))
        if found is None:
            names = (node for node in ast.walk(scope) if isinstance(node, ast.Name) and node.id == name)
            found = self._uses[scope, name] = [node for node in names if isinstance(node.ctx, ast.Load)]
        return found

    def scope(self, node: ast.AST) -> ast.AST:
        """The function, or file, that a node stands in."""
        while node in self.parent:
            node = self.parent[node]
            if isinstance(node, _FUNCTIONS):
                return node
        return node


_trees: OrderedDict[str, tuple[list[str], Tree | None]] = OrderedDict()


def tree_of(filename: str) -> Tree | None:
    """A file, parsed; None if its source is unknown, or none of Python's."""
    lines = linecache.getlines(filename)
    known = _trees.get(filename)
    if known is not None and known[0] is lines:
        return known[1]
    tree = None
    if lines and sum(map(len, lines)) <= MAX_SOURCE:
        try:
            tree = Tree("".join(lines))
        except (SyntaxError, ValueError, RecursionError):
            tree = None
    _trees[filename] = lines, tree
    while len(_trees) > MAX_TREES:
        _trees.popitem(last=False)
    return tree
