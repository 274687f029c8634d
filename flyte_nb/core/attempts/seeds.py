"""Seeds of the process's random generators: what an attempt seeds is its own. Runs in: worker process.

On Flyte each action is a process that the system seeds. So an attempt that calls ``random.seed(0)`` or ``np.random.seed(0)``
has its own sequence, also beside others, and what comes after it is seeded by the system again: neither the rest of that
sequence nor the same numbers twice.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flyte_nb.core.attempts.replaced import Replaced

#: States of the generators, by module.
States = dict[str, Any]


class _Generator(NamedTuple):
    module: str
    #: Functions that make its numbers foreseeable.
    seeding: tuple[str, ...]
    get: Callable[[Any], Any]
    put: Callable[[Any, Any], object]
    fresh: Callable[[Any], object]


_GENERATORS = (
    _Generator("random", ("seed", "setstate"), lambda m: m.getstate(), lambda m, s: m.setstate(s), lambda m: m.seed()),
    _Generator(
        "numpy.random", ("seed", "set_state"), lambda m: m.get_state(), lambda m, s: m.set_state(s), lambda m: m.seed()
    ),
    _Generator(
        "torch.random", ("manual_seed", "set_rng_state"), lambda m: m.get_rng_state(), lambda m, s: m.set_rng_state(s),
        lambda m: m.seed(),
    ),
)  # fmt: skip

_replaced = Replaced()
#: Modules whose seeding functions are watched.
_watched: set[str] = set()
#: Number of modules when they were looked for last.
_modules = 0
#: Modules whose generator was seeded since the last `take` or `drop`.
SEEDED: set[str] = set()


def watch() -> None:
    """Notice that a generator is seeded. Called again for modules that were imported meanwhile."""
    global _modules
    if len(sys.modules) == _modules:
        return
    _modules = len(sys.modules)
    for one in _GENERATORS:
        module = sys.modules.get(one.module)
        if module is None or one.module in _watched:
            continue
        _watched.add(one.module)
        if module is not random:
            SEEDED.add(one.module)  # it may have been, between its import and now
        for name in one.seeding:
            if (function := getattr(module, name, None)) is not None:
                _replaced.put(module, name, _noting(one.module, function))
        package = sys.modules.get(one.module.partition(".")[0])
        if package is not None and package is not module and hasattr(package, "manual_seed"):
            _replaced.put(package, "manual_seed", module.manual_seed)  # torch offers it in both places


def unwatch() -> None:
    """Leave the generators alone."""
    global _modules
    _replaced.restore()
    _watched.clear()
    SEEDED.clear()
    _modules = 0


def _noting(module: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        SEEDED.add(module)
        return function(*args, **options)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def take() -> States | None:
    """The states of what was seeded, which is then seeded by the system; None if nothing was."""
    watch()
    if not SEEDED:
        return None
    states = {one.module: one.get(sys.modules[one.module]) for one in _GENERATORS if one.module in SEEDED}
    drop()
    return states


def put(states: States) -> None:
    """Put states back."""
    for one in _GENERATORS:
        if one.module in states:
            one.put(sys.modules[one.module], states[one.module])  # which notes it as seeded again


def drop() -> None:
    """Have what was seeded seeded by the system."""
    watch()
    if SEEDED:
        for one in _GENERATORS:
            if one.module in SEEDED:
                one.fresh(sys.modules[one.module])
        SEEDED.clear()


# -- generators of the user's own --------------------------------------------------------------------------------------

#: Bytes of the smallest generator's pickle.
SMALLEST = 150
_KINDS = frozenset({"Generator", "RandomState", "Random"})


def generators(values: Iterable[Any]) -> list[tuple[Any, bytes]]:
    """Generators of random numbers among values, each with its state as bytes."""
    return [
        (value, pickle.dumps(value, 5)) for value in values if type(value).__name__ in _KINDS and is_generator(value)
    ]


def is_generator(value: Any) -> bool:
    """Whether a value is a generator of random numbers, of Python's or NumPy's."""
    return type(value).__module__.partition(".")[0] in {"random", "numpy"}


def drawn(before: Iterable[tuple[Any, bytes]]) -> Iterator[bytes]:
    """What identifies the states that generators had before they were drawn from, of those that were."""
    for value, state in before:
        if pickle.dumps(value, 5) != state:
            yield hashlib.blake2b(state, digest_size=8).digest()
