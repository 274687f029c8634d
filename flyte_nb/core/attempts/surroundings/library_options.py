"""Library options: limits of Python, and settings of libraries, that hold for a whole process. Runs in: everywhere.

``sys.setrecursionlimit``, ``plt.style.use``, ``sklearn.set_config`` and the like in a cell hold in the tasks that it calls
(`flyte_nb.core.attempts.surroundings`). Only what was changed travels, and a library is imported there only for that.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class _Option(NamedTuple):
    """Something that is set for a process."""

    #: Which has to be loaded for it to have been changed.
    module: str
    #: All of it, to be compared.
    look: Callable[[Any], Any]
    put: Callable[[Any, Any], object]
    #: What of it differs from the library's own settings; by default all.
    changed: Callable[[Any], Any] | None = None
    #: What it is where nothing was changed; None: what it was first.
    plain: Any = None


#: Settings of matplotlib that are the front end's.
_OF_BACKENDS = ("backend", "interactive", "toolbar", "webagg")


def _matplotlib(module: Any) -> dict[str, Any]:
    found, plain = module.rcParams, module.rcParamsOrig
    return {
        name: value
        for name, value in dict.items(found)
        if not name.startswith(_OF_BACKENDS) and value != plain.get(name, value)
    }


def _set_matplotlib(module: Any, changed: Mapping[str, Any]) -> None:
    for name, value in {**module.rcParamsOrig, **changed}.items():
        if not name.startswith(_OF_BACKENDS):
            with contextlib.suppress(Exception):  # another version's
                module.rcParams[name] = value


def _sklearn(module: Any) -> dict[str, Any]:
    plain = module._global_config  # noqa: SLF001 - here and below: there is no other way to set it for all threads
    return {name: value for name, value in module.get_config().items() if value != plain.get(name, value)}


_sklearns_own: dict[str, Any] = {}


def _set_sklearn(module: Any, changed: Mapping[str, Any]) -> None:
    if not _sklearns_own:
        _sklearns_own.update(module._global_config)  # noqa: SLF001
    module._global_config.update({**_sklearns_own, **changed})  # noqa: SLF001
    module._threadlocal = threading.local()  # noqa: SLF001 - each thread takes a copy when it looks first


def _set_level_names(module: Any, names: Mapping[int, str]) -> None:
    for number in set(module._levelToName) - set(names):  # noqa: SLF001 - they cannot be taken away otherwise
        module._nameToLevel.pop(module._levelToName.pop(number), None)  # noqa: SLF001
    for number, name in names.items():
        module.addLevelName(number, name)


_OPTIONS = {
    "recursion limit": _Option("sys", lambda _: sys.getrecursionlimit(), lambda m, value: m.setrecursionlimit(value)),
    "digits of integers": _Option(
        "sys", lambda m: m.get_int_max_str_digits(), lambda m, value: m.set_int_max_str_digits(value)
    ),
    "csv": _Option("_csv", lambda m: m.field_size_limit(), lambda m, value: m.field_size_limit(value), plain=131_072),
    "sockets": _Option("_socket", lambda m: m.getdefaulttimeout(), lambda m, value: m.setdefaulttimeout(value)),
    "names of levels": _Option("logging", lambda m: m._levelToName.copy(), _set_level_names),  # noqa: SLF001
    "matplotlib": _Option("matplotlib", lambda m: list(dict.values(m.rcParams)), _set_matplotlib, _matplotlib, {}),
    "sklearn": _Option("sklearn._config", lambda m: m.get_config(), _set_sklearn, _sklearn, {}),
}
_QUICK = tuple(_OPTIONS.values())
#: As they were when this process looked first.
_first: dict[str, Any] = {}


def look() -> list[Any]:
    """All of them, to be compared with a later look. Quick: it is done before each call of a cell."""
    modules = sys.modules
    try:
        return [option.look(modules[option.module]) for option in _QUICK if option.module in modules]
    except Exception:  # one is half imported
        return [_read(option, option.look) for option in _QUICK]


def _read(option: _Option, how: Callable[[Any], Any]) -> Any:
    module = sys.modules.get(option.module)
    with contextlib.suppress(Exception):  # half imported, or of another version
        return how(module) if module is not None else option.plain
    return option.plain


def changed() -> tuple[tuple[str, Any], ...]:
    """Those that were changed in this process since it called this first: name and value."""
    found = {name: _read(option, option.changed or option.look) for name, option in _OPTIONS.items()}
    for name, option in _OPTIONS.items():
        plain = found[name] if option.plain is None else option.plain
        _first.setdefault(name, plain)
    return tuple((name, value) for name, value in found.items() if value != _first[name])


#: Those that are set in this process, by name.
_set: dict[str, Any] = {}


def enter(wanted: Mapping[str, Any]) -> None:
    """Set them in this process; those that were set before, and are not wanted, are what they were."""
    if wanted == _set:
        return
    changed()
    for name in {**_set, **wanted}:
        if _set.get(name, _first[name]) != (value := wanted.get(name, _first[name])):
            with contextlib.suppress(Exception):  # not installed here, or a value that it does not take
                _OPTIONS[name].put(importlib.import_module(_OPTIONS[name].module), value)
    _set.clear()
    _set.update(wanted)
