"""Defaults that ``flyte.init`` sets for runs (project, domain), and checks of its options. Runs in: the user's process."""

from __future__ import annotations

import configparser
import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyte_nb.core.attempts import logging, surroundings
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.interface import missing_annotations
from flyte_nb.core.runs.engine import Engine
from flyte_nb.core.settings.options import FLYTES_INIT_OPTIONS, INIT_OPTIONS, say_without_effect
from flyte_nb.core.settings.validate import check_options
from flyte_nb.core.steps import on_failure
from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.errors import InitializationError

DEFAULT_PROJECT = "flyte_nb"
DEFAULT_DOMAIN = "development"

#: What runs take that are not given an option.
_given: dict[str, str] = {}


def set_defaults(**options: Any) -> None:
    """Set defaults from the keywords of an ``init``; those that are None change nothing.

    Args:
        **options: ``project domain org version strict log_level user_log_level``; others have no effect here.
    """
    for name in ("project", "domain", "org", "version"):
        if options.get(name):
            _given[name] = str(options[name])
    if options.get("strict") is not None:
        missing_annotations.configure(strict=bool(options["strict"]))
    if options.get("log_level") is not None or options.get("user_log_level") is not None:
        logging.set_levels(options.get("log_level"), options.get("user_log_level"))


def current_project() -> str:
    """The project that `init` was given; "flyte_nb" without one, where Flyte raises an error."""
    return _given.get("project", DEFAULT_PROJECT)


def current_domain() -> str:
    """The domain that `init` was given; "development" without one, where Flyte raises an error."""
    return _given.get("domain", DEFAULT_DOMAIN)


def read_config(path: object) -> dict[str, str]:
    """Project, domain and organisation of a Flyte configuration file (YAML, or the older INI form).

    Args:
        path: Its path; a `flyte.config.Config`, whose values are taken; or None, for no file.

    Raises:
        InitializationError: There is no such file (code "ConfigFileNotFoundError").
    """
    if hasattr(path, "task"):  # a `flyte.config.Config`, which has been read
        return {key: value for key in _KEYS if (value := getattr(path.task, key))}
    if path is None:
        return {}
    file = Path(os.fspath(path)).expanduser()  # type: ignore[call-overload]
    if not file.is_file():
        raise InitializationError(
            "ConfigFileNotFoundError",
            "user",
            f"There is no configuration file {str(file)!r}. Call init() without one: nothing here needs it.",
        )
    text = file.read_text()
    if file.suffix in {".yaml", ".yml"}:
        # Three plain values under "task:" are all that matters here: not worth a YAML parser.
        return {key: value.strip("'\"") for key, value in _PLAIN_VALUE.findall(text)}
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return {key: value for part in parser.sections() for key, value in parser[part].items() if key in _KEYS}


_KEYS = frozenset({"project", "domain", "org"})
_PLAIN_VALUE = re.compile(r"^[ \t]+(project|domain|org):[ \t]*([^\s#]+)", re.MULTILINE)


def info_for(engine: Engine, mode: str, options: dict[str, Any]) -> RunInfo:
    """Facts of a new run: what its options say, else the defaults."""
    limit = options.get("max_action_concurrency") or 0
    interactive = options.get("interactive_mode")
    if interactive is None:
        interactive = mode != "local" and engine.is_attended()
    interactive = bool(interactive)
    started = options.get("run_start_time") or dt.datetime.now(dt.UTC)
    return RunInfo(
        name=options.get("name") or engine.new_run_name(),
        home=engine.home,
        started_at=started,
        mode="local" if mode == "local" else "remote",
        project=options.get("project") or current_project(),
        domain=options.get("domain") or current_domain(),
        version=options.get("version") or "",
        raw_data_path=_raw_data_path(options.get("raw_data_path")),
        run_base_dir=options.get("run_base_dir") or "",
        interactive_mode=interactive,
        disable_run_cache=bool(options.get("disable_run_cache")),
        overwrite_cache=bool(options.get("overwrite_cache")),
        env_vars=tuple((options.get("env_vars") or {}).items()),
        labels=tuple((options.get("labels") or {}).items()),
        annotations=tuple((options.get("annotations") or {}).items()),
        max_action_concurrency=limit,
        on_failure=on_failure.way_of(options.get("on_failure"), interactive),
        breakpoint_wait=on_failure.wait_of(options.get("breakpoint_wait"), interactive),
        strict_sync=bool(options.get("strict_sync")),
        surroundings=surroundings.capture(),
    )


def _raw_data_path(path: Any) -> str:
    """Where a run's large data goes: a path, or Flyte's `RawDataPath`."""
    path = getattr(path, "path", path)
    return os.fspath(path) if path else session_folder()


# -- the embedded cluster ----------------------------------------------------------------------------------------------

#: Options of `init` that say what the cluster is like.
CLUSTER_OPTIONS = (
    "n_workers",
    "threads_per_worker",
    "memory_limit",
    "dashboard",
    "security",
    "links",
    "placement_timeout",
)
#: Ways to the workers of an existing cluster.
LINKS = ("auto", "direct", "relay")
_MEMORY = re.compile(r"\s*+(auto|[0-9.]++\s*+[kmgtp]?i?b?)\s*+", re.IGNORECASE)


def check_cluster_options(options: Mapping[str, Any]) -> None:
    """Refuse at once what would otherwise fail in the first task, or be overlooked.

    Raises:
        ValueError: A number of workers or threads that is none, or a memory limit that is no size.
        TypeError: There is no such option.
    """
    check_options("init", options, INIT_OPTIONS, FLYTES_INIT_OPTIONS)
    say_without_effect("init", options, FLYTES_INIT_OPTIONS)
    for name in ("n_workers", "threads_per_worker"):
        value = options.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r}: give a whole number, at least 1.")
    if (options.get("links") or "auto") not in LINKS:
        raise ValueError(f"links={options['links']!r}: give one of {', '.join(map(repr, LINKS))}.")
    wait = options.get("placement_timeout")
    if wait is not None and not (isinstance(wait, (int, float)) and wait >= 0):
        raise ValueError(f"placement_timeout={wait!r}: give seconds, or float('inf') to wait for ever.")
    limit = options.get("memory_limit")
    if isinstance(limit, str) and not _MEMORY.fullmatch(limit):
        raise ValueError(f'memory_limit={limit!r}: give a size, such as "2 GiB", a number of bytes, "auto" or None.')
