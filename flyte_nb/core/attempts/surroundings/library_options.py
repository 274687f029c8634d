"""Library options: limits of Python, and settings of libraries, that hold for a whole process. Runs in: everywhere.

``sys.setrecursionlimit``, ``pd.set_option``, ``plt.style.use``, ``sklearn.set_config`` and the like in a cell hold in the tasks
that it calls (`flyte_nb.core.attempts.surroundings`); in a task they end with it (`flyte_nb.core.attempts.isolation`). Only
what was changed travels, and a library is imported there only for that.
"""

from __future__ import annotations

import contextlib
import csv
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
    #: What is kept of a look, where that is changed in place.
    keep: Callable[[Any], Any] = lambda seen: seen
    #: The function that sets it, where there is one alone: a worker has it note its calls, and need not look.
    setter: str = ""
    #: `changed` for the calling thread, where each has its own (`flyte_nb.core.attempts.surroundings.thread_options`).
    of_thread: Callable[[Any], Any] | None = None


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


_sklearns_own: dict[str, Any] = {}


def _sklearn(module: Any, now: Mapping[str, Any] | None = None) -> dict[str, Any]:
    found = module._global_config if now is None else now  # noqa: SLF001 - here and below: there is no other way
    if not _sklearns_own:
        _sklearns_own.update(module._global_config)  # noqa: SLF001
    return {name: value for name, value in found.items() if value != _sklearns_own.get(name, value)}


def _set_sklearn(module: Any, changed: Mapping[str, Any]) -> None:
    module._global_config.update({**_sklearns_own, **changed})  # noqa: SLF001
    module._threadlocal = threading.local()  # noqa: SLF001 - each thread takes a copy when it looks first


def _copy(options: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if type(value) is dict else value for name, value in options.items()}


def _pandas(module: Any) -> dict[str, Any]:
    found, options = {}, module._global_config  # noqa: SLF001 - here and below: its own functions take a thousand times as long
    for name, option in module._registered_options.items():  # noqa: SLF001
        value: Any = options
        for part in name.split("."):
            value = value[part]
        default = option.defval
        plain = value == default and type(value) is type(default)
        if not plain and isinstance(value, (str, int, float, bool, type(None))):
            found[name] = value
    return found


def _set_pandas(module: Any, changed: Mapping[str, Any]) -> None:
    for name in _pandas(module).keys() - changed.keys():
        module.reset_option(name)
    for name, value in changed.items():
        with contextlib.suppress(Exception):  # another version's
            module.set_option(name, value)


def _set_level_names(module: Any, names: Mapping[int, str]) -> None:
    for number in set(module._levelToName) - set(names):  # noqa: SLF001
        module._nameToLevel.pop(module._levelToName.pop(number), None)  # noqa: SLF001
    for number, name in names.items():
        module.addLevelName(number, name)


def _torch(module: Any) -> dict[str, Any]:
    found = {"dtype": str(module.get_default_dtype()), "deterministic": module.are_deterministic_algorithms_enabled()}
    return {name: value for name, value in found.items() if value != _TORCHS_OWN[name]}


_TORCHS_OWN = {"dtype": "torch.float32", "deterministic": False}


def _set_torch(module: Any, changed: Mapping[str, Any]) -> None:
    wanted = {**_TORCHS_OWN, **changed}
    module.set_default_dtype(getattr(module, wanted["dtype"].removeprefix("torch.")))
    module.use_deterministic_algorithms(wanted["deterministic"])


#: Python's own, which sets it as well: a worker has calls noted.
_field_size = csv.field_size_limit

_OPTIONS = {
    "recursion limit": _Option(
        "sys", lambda _: sys.getrecursionlimit(), lambda m, value: m.setrecursionlimit(value), setter="setrecursionlimit"
    ),
    "digits of integers": _Option(
        "sys", lambda m: m.get_int_max_str_digits(), lambda m, value: m.set_int_max_str_digits(value),
        setter="set_int_max_str_digits",
    ),
    "csv": _Option(
        "csv", lambda _: _field_size(), lambda m, value: m.field_size_limit(value), plain=131_072,
        setter="field_size_limit",
    ),
    "sockets": _Option(
        "socket", lambda m: m.getdefaulttimeout(), lambda m, value: m.setdefaulttimeout(value), setter="setdefaulttimeout"
    ),
    "names of levels": _Option(
        "logging", lambda m: m._levelToName.copy(), _set_level_names, setter="addLevelName",  # noqa: SLF001
    ),
    "matplotlib": _Option("matplotlib", lambda m: list(dict.values(m.rcParams)), _set_matplotlib, _matplotlib, {}),
    "sklearn": _Option(
        "sklearn._config", lambda m: m._global_config, _set_sklearn, _sklearn, {}, dict,  # noqa: SLF001
        of_thread=lambda m: _sklearn(m, m.get_config()),
    ),
    "pandas": _Option("pandas._config.config", lambda m: m._global_config, _set_pandas, _pandas, {}, _copy),  # noqa: SLF001
    "torch": _Option("torch", _torch, _set_torch, _torch, {}),
}  # fmt: skip
#: As they were when this process looked first.
_first: dict[str, Any] = {}


def setters() -> list[tuple[Any, str]]:
    """The functions by which options are set that need not be looked at: module and name."""
    return [(importlib.import_module(option.module), option.setter) for option in _OPTIONS.values() if option.setter]


#: Options of what is imported, as one tuple as long as that does not change.
_loaded: tuple[_Option, ...] = ()


def loaded() -> tuple[_Option, ...]:
    """Look which libraries with options are imported; the same object as before, if they are the same."""
    global _loaded
    found = tuple(option for option in _OPTIONS.values() if option.module in sys.modules)
    if found != _loaded:
        _loaded = found
    return _loaded


class Options:
    """Options as they are now, or are to be. Equal to others if the same ones were changed.

    Args:
        changed: Which ones, by name; by default those that are in this process.
    """

    __slots__ = ("_all", "_looks", "changed", "loaded")

    def __init__(self, changed: Mapping[str, Any] | None = None) -> None:
        self.changed: dict[str, Any] = dict(changes() if changed is None else changed)
        #: Of `loaded`, when it looked; None until they are those of this process.
        self.loaded: tuple[_Option, ...] | None = None
        #: How to look again, at what, and what it was: without those that are set by functions which note their calls.
        self._looks: list[tuple[Callable[[Any], Any], Any, Any]] = []
        self._all: list[Any] = []
        if changed is None:
            self.loaded = loaded()
            for option in self.loaded:
                if not option.setter:
                    self._looks.append(
                        (option.look, sys.modules.get(option.module), option.keep(_read(option, option.look)))
                    )
            self._all = self._all_here(self.loaded)

    @staticmethod
    def _all_here(options: tuple[_Option, ...]) -> list[Any]:
        """What is not among the looks: set by functions, or for the calling thread alone."""
        return [
            _read(option, option.of_thread or option.look) for option in options if option.setter or option.of_thread
        ]

    def hold(self) -> bool:
        """Whether they are what they were, apart from those that are set by functions which note their calls.

        Quick, since it is asked for each attempt; libraries that were imported since are not looked at (`loaded`).
        """
        try:
            for look, module, seen in self._looks:
                if look(module) != seen:
                    return False
        except Exception:  # one is half imported, or gone
            return False
        return True

    def hold_here(self) -> bool:
        """Whether all of them are what they were, for the calling thread."""
        return self.loaded is loaded() and self.hold() and self._all_here(self.loaded) == self._all

    def renewed(self) -> Options:
        """Those of this process now; these, if the same ones are changed."""
        now = Options()
        if now != self:
            return now
        self.loaded, self._looks, self._all = now.loaded, now._looks, now._all
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self.changed == other.changed

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Options [{', '.join(self.changed) or 'none'} changed]>"


def _read(option: _Option, how: Callable[[Any], Any]) -> Any:
    module = sys.modules.get(option.module)
    with contextlib.suppress(Exception):  # half imported, or of another version
        return how(module) if module is not None else option.plain
    return option.plain


def changes(*, of_thread: bool = False) -> tuple[tuple[str, Any], ...]:
    """Those that were changed in this process since it called this first: name and value.

    Args:
        of_thread: Also for the calling thread alone, where each has its own.
    """
    found = {}
    for name, option in _OPTIONS.items():
        how = (option.of_thread if of_thread else None) or option.changed or option.look
        found[name] = _read(option, how)
        _first.setdefault(name, found[name] if option.plain is None else option.plain)
    return tuple((name, value) for name, value in found.items() if value != _first[name])


def enter(wanted: Mapping[str, Any]) -> None:
    """Set them in this process; those that were changed, and are not wanted, are what they were."""
    now = dict(changes())
    for name in {**now, **wanted}:
        if name in _OPTIONS and now.get(name, _first[name]) != (value := wanted.get(name, _first[name])):
            with contextlib.suppress(Exception):  # not installed here, or a value that it does not take
                _OPTIONS[name].put(importlib.import_module(_OPTIONS[name].module), value)
