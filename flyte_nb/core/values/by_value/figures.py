"""Figures of matplotlib's, without their place among pyplot's open ones. Runs in: everywhere.

A figure that was made with pyplot opens itself again where it is unpickled, and a notebook shows all open figures under the
cell that runs, whatever the cell does with them. One that comes from a task is a value: shown where it is shown.
"""

from __future__ import annotations

from typing import Any

#: In a figure's state: that it is one of pyplot's.
_OPEN = "_restore_to_pylab"


def is_figure(kind: type) -> bool:
    """Whether a class is matplotlib's."""
    return kind.__name__ == "Figure" and kind.__module__ == "matplotlib.figure"


def reduce(figure: Any) -> Any:
    """As matplotlib does; not open."""
    made, args, state, *rest = figure.__reduce_ex__(5)
    return made, args, {name: value for name, value in state.items() if name != _OPEN}, *rest
