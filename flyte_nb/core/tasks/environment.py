"""Environments: settings under a name, which their tasks share. Runs in: everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Self

from flyte_nb.core.settings import validate
from flyte_nb.core.settings.image import Image, PodTemplate
from flyte_nb.core.settings.resources import Resources
from flyte_nb.core.settings.secret import Secret, SecretRequest
from flyte_nb.core.settings.validate import MAX_DESCRIPTION

#: snake_case or kebab-case.
_NAME = re.compile(r"^[a-z0-9]+([_-][a-z0-9]+)*$")


@validate.names_options
@dataclass
class Environment:
    """Settings under a name. `TaskEnvironment` is the one with tasks.

    Args:
        name: In snake_case or kebab-case.
        depends_on: Environments to be deployed with it. No effect here: any task may call any other.
        pod_template: No effect here.
        description: Text for people, cut at 255 characters.
        secrets: Names of secrets; here they are environment variables that the workers have.
        env_vars: Environment variables of the tasks.
        resources: What an attempt needs.
        interruptible: No effect here.
        image: No effect here: tasks run with the packages of the workers.
        include: Files to be deployed with it. No effect here.
        service_account: No effect here.

    Raises:
        ValueError: The name is not of that form.
        TypeError: A setting is of a wrong type.
    """

    name: str
    depends_on: list[Environment] = field(default_factory=list)
    pod_template: str | PodTemplate | None = None
    description: str | None = None
    secrets: SecretRequest | None = None
    env_vars: dict[str, str] | None = None
    resources: Resources | None = None
    interruptible: bool = False
    image: str | Image | None = "auto"
    include: tuple[str, ...] = field(default_factory=tuple)
    service_account: str | None = None

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.match(validate.name("The name of an environment", name)):
            raise ValueError(f"Environment name '{self.name}' must be in snake_case or kebab-case format.")
        self._expect("image", self.image, (str, Image))
        self._expect("resources", self.resources, Resources)
        self._expect("env_vars", self.env_vars, dict)
        self._expect("pod_template", self.pod_template, (str, PodTemplate))
        self._expect("secrets", self.secrets, (str, Secret, list))
        self._expect("depends_on", self.depends_on, list)
        for secret in self.secrets if isinstance(self.secrets, list) else ():
            self._expect("each of secrets", secret, (str, Secret))
        for environment in self.depends_on:
            self._expect("each of depends_on", environment, Environment)
        include: object = self.include
        if isinstance(include, str):
            raise TypeError(
                f"Environment '{self.name}': include must be a list of paths, not a text: write include=[{include!r}]."
            )
        self.include = tuple(self.include)
        for path in self.include:
            self._expect("each of include", path, str)
        if self.description and len(self.description) > MAX_DESCRIPTION:
            self.description = self.description[: MAX_DESCRIPTION - 3] + "..."

    def _expect(self, setting: str, value: object, types: type | tuple[type, ...]) -> None:
        if value is None or isinstance(value, types):
            return
        wanted = " or ".join(t.__name__ for t in (types if isinstance(types, tuple) else (types,)))
        raise TypeError(
            f"Environment '{self.name}': {setting} must be a {wanted}, not {value!r} ({type(value).__name__})."
        )

    def add_dependency(self, *env: Environment) -> None:
        """Name environments to be deployed with this one. No effect on calls.

        Args:
            env: The environments.

        Raises:
            TypeError: One is no environment.
            ValueError: One is this one.
        """
        for each in env:
            if not isinstance(each, Environment):
                raise TypeError(f"Environment '{self.name}' can depend on an Environment only, not on {each!r}.")
            if each.name == self.name:
                raise ValueError(f"Environment '{self.name}' cannot depend on itself.")
            if all(each is not known for known in self.depends_on):
                self.depends_on.append(each)

    def clone_with(self, name: str, **changes: Any) -> Self:
        """Another environment with these settings, except those given.

        Args:
            name: Its name.
            changes: Settings; None means "as here", except for ``reusable``, where it means none.

        Raises:
            TypeError: There is no such setting.
        """
        known = {f.name for f in fields(self) if f.init and f.name != "name"}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise TypeError(
                f"clone_with() got unexpected keyword arguments: {', '.join(unknown)}. It takes: {', '.join(sorted(known))}."
            )
        settings = {key: getattr(self, key) for key in known}
        # A list of one must not be the list of the other: add_dependency() changes it.
        settings["depends_on"] = list(self.depends_on)
        settings.update({key: value for key, value in changes.items() if value is not None or key == "reusable"})
        return type(self)(name=name, **settings)

    def __getstate__(self) -> dict[str, Any]:
        # Environments travel with each task: without their other tasks, and without what has no effect on a call.
        return {**self.__dict__, "depends_on": [], "pod_template": None}

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other
