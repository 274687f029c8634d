"""Options of ``init`` and ``with_runcontext``: those that there are, and checks of what is given. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.settings.validate import check_options, check_texts, whole_number
from flyte_nb.core.settings.validate import name as valid_name

#: Of ``with_runcontext``: those with an effect, and Flyte's others.
RUN_OPTIONS = frozenset(
    {
        "annotations", "breakpoint_wait", "custom_context", "detach", "disable_run_cache", "domain", "env_vars",
        "interactive_mode", "labels", "max_action_concurrency", "mode", "name", "on_failure", "overwrite_cache", "project",
        "raw_data_path", "run_base_dir", "run_start_time", "strict_sync", "version",
    }
)  # fmt: skip
FLYTES_RUN_OPTIONS = frozenset(
    {
        "_tracker", "cache_lookup_scope", "copy_bundle_to", "copy_style", "debug", "dry_run", "interruptible", "log_format",
        "log_level", "notifications", "preserve_original_types", "queue", "reset_root_logger", "service_account", "tracked",
        "tracked_strict", "user_log_level",
    }
)  # fmt: skip
#: Of ``init``.
INIT_OPTIONS = frozenset(
    {
        "breakpoint_wait", "cache_dir", "dashboard", "domain", "history", "links", "log_level", "memory_limit", "n_workers",
        "on_failure", "org", "placement_timeout", "project", "security", "strict", "threads_per_worker", "user_log_level",
        "version",
    }
)  # fmt: skip
FLYTES_INIT_OPTIONS = frozenset(
    {
        "api_key", "auth_client_config", "auth_type", "batch_size", "ca_cert_file_path", "client_credentials_secret",
        "client_id", "command", "disable_keyring", "endpoint", "headless", "http_proxy_url", "image_builder",
        "image_registry", "images", "insecure", "insecure_skip_verify", "load_plugin_type_transformers", "local_persistence",
        "local_tracked", "local_tracked_strict", "log_format", "proxy_command", "reset_root_logger", "root_dir",
        "rpc_retries", "scopes", "source_config_path", "storage", "sync_local_sys_paths",
    }
)  # fmt: skip


def check_run_options(options: Mapping[str, Any]) -> None:
    """Refuse what ``with_runcontext`` cannot use, at once, and say once what it takes without effect.

    Raises:
        TypeError: There is no such option, or it is of a wrong type.
        ValueError: An option is out of range.
    """
    check_options("with_runcontext", options, RUN_OPTIONS, FLYTES_RUN_OPTIONS)
    for name in ("env_vars", "labels", "annotations", "custom_context"):
        check_texts(f"with_runcontext({name}=...)", options.get(name))
    if options.get("name") is not None:
        valid_name("The name of a run", options["name"])
    if not isinstance(options.get("detach") or False, bool):
        raise TypeError(f"detach must be True or False, not {options['detach']!r}.")
    limit = options.get("max_action_concurrency")
    if limit is not None:
        whole_number("max_action_concurrency", limit, 0, "0 or None is no limit.")
    notifications = options.get("notifications")
    if notifications is not None:
        from flyte_nb.notify import check_notifications  # notifications have no effect: seldom loaded

        check_notifications("with_runcontext(notifications=...)", notifications)
    say_without_effect("with_runcontext", options, FLYTES_RUN_OPTIONS)


def say_without_effect(call: str, given: Mapping[str, Any], without: Iterable[str]) -> None:
    """Log, once each, that options of Flyte's were accepted without effect; those that say nothing are passed over."""
    for name in sorted(set(given) & set(without)):
        if given[name] not in (None, False, (), "", "local", "console", "loaded_modules", "global"):
            notice_once(f"{call} {name}", f"Accepted without effect: {call}({name}=...).")
