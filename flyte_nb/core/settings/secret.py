"""Secrets a task asks for: `Secret`. Runs in: everywhere."""

from __future__ import annotations

import hashlib
import pathlib
import re
from dataclasses import dataclass
from typing import TypeAlias, Union

from flyte_nb.core.settings.validate import names_options

#: What ``secrets=`` takes.
SecretRequest: TypeAlias = Union[str, "Secret", list[Union[str, "Secret"]]]

_VARIABLE = re.compile(r"^[A-Z_][A-Z0-9_]*$")

#: The one directory in which Flyte mounts secrets.
MOUNT = "/etc/flyte/secrets"


@names_options
@dataclass
class Secret:
    """A secret by name. Here a secret is an environment variable that the workers already have.

    Args:
        key: Its name in the secret store.
        group: Namespace of the name.
        mount: Directory in which it is to appear, "/etc/flyte/secrets" only. Without effect here.
        as_env_var: Environment variable in which it is to appear; the key in upper case by default.

    Raises:
        ValueError: ``as_env_var`` is not in upper case with underscores, or ``mount`` is another directory.
        TypeError: ``key`` or ``group`` is no text.
    """

    key: str
    group: str | None = None
    mount: pathlib.Path | None = None
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        for name in ("key", "group", "as_env_var"):
            value: object = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "key"):
                raise TypeError(f"Secret({name}=...) must be a text, not {value!r}.")
        if self.mount and str(self.mount) != MOUNT:
            raise ValueError(f'Secret(mount=...) can be "{MOUNT}" only, as in Flyte, not {str(self.mount)!r}.')
        if self.as_env_var is not None and not _VARIABLE.match(self.as_env_var):
            raise ValueError(
                f"as_env_var must be in upper case with underscores, like MY_TOKEN, not {self.as_env_var!r}."
            )
        if self.mount is None and self.as_env_var is None:
            name = "_".join(part for part in (self.group, self.key) if part)
            self.as_env_var = re.sub(r"[^A-Z0-9_]", "_", name.upper())

    def stable_hash(self) -> str:
        """Hash of what is asked for, the same in every process."""
        text = repr((self.key, self.group, str(self.mount) if self.mount else None, self.as_env_var))
        return hashlib.sha256(text.encode()).hexdigest()
