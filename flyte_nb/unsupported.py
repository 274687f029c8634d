"""Unsupported parts of Flyte, which need its server: they construct, and refuse when they are used. Runs in: everywhere."""

# Whatever arguments Flyte takes are accepted and dropped: the refusal does not depend on them.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from flyte_nb.core.settings.image import Image
from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.settings.validate import check_options
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.core.values.aio import Dual
from flyte_nb.errors import OutOfScopeError


class Refusal:
    """A function of Flyte's that cannot work here: calling it, or its ``.aio``, raises one clear sentence.

    Args:
        name: Its name, as users write it.
        sentence: What it does not do, and what to do instead.
    """

    def __init__(self, name: str, sentence: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = f"Out of scope. {sentence}"
        self.sentence = sentence

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            OutOfScopeError: Always.
        """
        raise OutOfScopeError(f"{self.__name__}: {self.sentence}")

    async def aio(self, *args: Any, **kwargs: Any) -> NoReturn:
        """The same, awaited."""
        self(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<out of scope: {self.__name__}>"


# -- Deploying and building: a program that deploys itself at the end still runs to its end ----------------------------


@dataclass(frozen=True)
class Deployment:
    """What ``deploy`` returns: the names of what was not deployed."""

    #: Environments by name.
    envs: dict[str, Environment] = field(default_factory=dict)

    def summary_repr(self) -> str:
        """One line."""
        return f"Not deployed (flyte_nb has no server): {', '.join(self.envs) or 'nothing'}"

    def table_repr(self) -> list[list[tuple[str, str]]]:
        """One row per environment: (column, text) pairs."""
        return [[("environment", name), ("deployed", "no")] for name in self.envs]

    env_repr = table_repr


@Dual
def deploy(*envs: Environment, **options: Any) -> list[Deployment]:
    """Deploy nothing: there is no server. Logs one sentence and returns a description of what was asked for.

    Args:
        envs: The environments.
        options: Flyte's ``copy_style dry_run dryrun interactive_mode version``.

    Returns:
        One `Deployment` per environment.

    Raises:
        TypeError: One is no environment, or there is no such option.
    """
    check_options("deploy", options, ("copy_style", "dry_run", "interactive_mode", "version"), ("dryrun",))
    for env in envs:
        if not isinstance(env, Environment):
            raise TypeError(f"deploy() takes environments, not {env!r}.")
    notice_once(
        "deploy",
        "deploy() does nothing here: tasks are sent to the cluster when they are called, and nothing stays behind.",
    )
    return [Deployment({env.name: env}) for env in envs]


@dataclass(frozen=True)
class ImageBuild:
    """What ``build`` returns: no image."""

    #: Name that the image would have.
    uri: str | None
    #: Always None: nothing runs remotely.
    remote_run: Any = None


@dataclass(frozen=True)
class ImageCache:
    """What ``build_images`` returns: names that the images would have, by environment."""

    image_lookup: dict[str, str] = field(default_factory=dict)

    @property
    def repr(self) -> list[list[tuple[str, str]]]:
        """One row per environment: (column, text) pairs."""
        return [[("environment", name), ("image", uri)] for name, uri in self.image_lookup.items()]


_NO_BUILD = "No image is built here: tasks run with the packages that the workers have."


@Dual
def build(
    image: Image | str, dry_run: bool = False, force: bool = False, wait: bool = True  # noqa: ARG001 - Flyte's
) -> ImageBuild:  # fmt: skip
    """Build nothing. Logs one sentence.

    Args:
        image: The description.
        dry_run: No effect here.
        force: No effect here.
        wait: No effect here.
    """
    notice_once("build", _NO_BUILD)
    return ImageBuild(uri=_name_of(image))


@Dual
def build_images(*envs: Environment, copy_style: Any = None, seed_cache: Any = None) -> ImageCache:  # noqa: ARG001 - Flyte's
    """Build nothing. Logs one sentence.

    Args:
        envs: The environments.
        copy_style: No effect here.
        seed_cache: No effect here.
    """
    notice_once("build", _NO_BUILD)
    return ImageCache({env.name: _name_of(env.image) for env in envs})


def _name_of(image: Image | str | None) -> str:
    return image.uri if isinstance(image, Image) else str(image)


serve: Refusal = Refusal("flyte.serve", "apps are not served here. Start the server yourself, in a terminal say.")
with_servecontext: Refusal = Refusal("flyte.with_servecontext", "apps are not served here. Start the server yourself.")
run_python_script: Refusal = Refusal("flyte.run_python_script", "scripts are not shipped. Define a task and call it.")
load_interactive_ctx: Refusal = Refusal(
    "flyte.load_interactive_ctx", "there are no pods to attach to. Use %flyte debug."
)
load_plugin_config: Refusal = Refusal("flyte.load_plugin_config", "plugins run on Flyte's own clusters only.")


# -- Tasks that are not functions --------------------------------------------------------------------------------------


class ContainerTask:
    """A task that is a container. It constructs; calling it raises one clear sentence.

    Args:
        name: Its name.
        image: Image to run.
        command: Command to run.
        settings: Whatever else Flyte takes.
    """

    def __init__(self, name: str, image: Any = None, command: list[str] | None = None, **settings: Any) -> None:
        self.name = name
        self.image = image
        self.command: list[str] = list(command or ())
        self.settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            OutOfScopeError: Always.
        """
        raise OutOfScopeError(
            f"Container task {self.name!r} cannot run here: no containers are started. Call the program from a task with "
            "subprocess.run(), if the workers have it."
        )

    async def aio(self, *args: Any, **kwargs: Any) -> NoReturn:
        """The same, awaited."""
        self(*args, **kwargs)

    def override(self, **changes: Any) -> ContainerTask:
        """Another, with settings replaced."""
        return ContainerTask(self.name, self.image, self.command, **{**self.settings, **changes})

    def __repr__(self) -> str:
        return f"<ContainerTask {self.name}>"


class RemoteArtifact:
    """``flyte.remote.Artifact``: kept artifacts, of which there are none."""

    get: Refusal = Refusal(
        "flyte.remote.Artifact.get", "nothing keeps artifacts. Use flyte.io.File.from_existing_remote."
    )
    listall: Refusal = Refusal("flyte.remote.Artifact.listall", "there are no artifacts to list.")
    create: Refusal = Refusal("flyte.remote.Artifact.create", "nothing keeps artifacts.")


class RemoteTask:
    """``flyte.remote.Task``: deployed tasks, of which there are none."""

    get: Refusal = Refusal(
        "flyte.remote.Task.get", "there are no deployed tasks. Import the task from its module and call it."
    )
    listall: Refusal = Refusal("flyte.remote.Task.listall", "there are no deployed tasks to list.")


class RemoteApp:
    """``flyte.remote.App``: deployed apps, of which there are none."""

    get: Refusal = Refusal("flyte.remote.App.get", "there are no deployed apps.")
    listall: Refusal = Refusal("flyte.remote.App.listall", "there are no deployed apps to list.")


class RemoteTrigger:
    """``flyte.remote.Trigger``: deployed triggers, of which there are none."""

    create: Refusal = Refusal("flyte.remote.Trigger.create", "nothing runs on a schedule here. Call the task.")
    get: Refusal = Refusal("flyte.remote.Trigger.get", "there are no deployed triggers.")
    listall: Refusal = Refusal("flyte.remote.Trigger.listall", "there are no deployed triggers to list.")
    update: Refusal = Refusal("flyte.remote.Trigger.update", "there are no deployed triggers.")
    delete: Refusal = Refusal("flyte.remote.Trigger.delete", "there are no deployed triggers.")


class RemoteSecret:
    """``flyte.remote.Secret``: a secret store, which there is not."""

    create: Refusal = Refusal(
        "flyte.remote.Secret.create", "there is no secret store. Set an environment variable, or give env_vars."
    )
    get: Refusal = Refusal("flyte.remote.Secret.get", "there is no secret store.")
    listall: Refusal = Refusal("flyte.remote.Secret.listall", "there is no secret store.")
    delete: Refusal = Refusal("flyte.remote.Secret.delete", "there is no secret store.")


class RemoteProject:
    """``flyte.remote.Project``: projects of a server, which there is not."""

    get: Refusal = Refusal("flyte.remote.Project.get", "there is no server, and there are no projects.")
    listall: Refusal = Refusal("flyte.remote.Project.listall", "there is no server, and there are no projects.")


class RemoteUser:
    """``flyte.remote.User``: users of a server, which there is not."""

    get: Refusal = Refusal("flyte.remote.User.get", "there is no server, and nobody is logged in.")


upload_file: Refusal = Refusal(
    "flyte.remote.upload_file", "there is no server to upload to. Use flyte.io.File.from_local."
)
upload_dir: Refusal = Refusal(
    "flyte.remote.upload_dir", "there is no server to upload to. Use flyte.io.Dir.from_local."
)
