"""Container images and pods, described and never made: `Image`, `PodTemplate`. Runs in: everywhere."""

# Arguments that only a build would use are accepted and dropped.
# ruff: noqa: ARG003

from __future__ import annotations

import hashlib
import pathlib
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from flyte_nb.core.settings.validate import check_options, names_options

#: Where a checkout of Flyte's SDK keeps its wheels, which some programs ask for; nothing is built here.
SOURCE_ROOT = pathlib.Path(__file__).parents[3]
DIST_FOLDER = SOURCE_ROOT / "dist"
RS_CONTROLLER_DIST_FOLDER = SOURCE_ROOT / "rs_controller" / "dist"

#: What a plain image is called; no such image exists here.
_DEFAULT_BASE = "python"


@dataclass(frozen=True)
class Layer:
    """One step of an image's description."""

    #: What it does: "pip_packages", "commands", ...
    kind: str
    #: With what, as (name, value) pairs.
    details: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Image:
    """What Flyte would install for a task. Nothing is built here: tasks run with the packages of the workers.

    Make one with a ``from_...`` method and add to it with ``with_...`` methods; each returns a new image.
    """

    #: Image that it starts from.
    base_image: str | None = None
    #: File that describes it.
    dockerfile: pathlib.Path | None = None
    #: Where it would be pushed.
    registry: str | None = None
    #: Its name.
    name: str | None = None
    #: Machines it is for.
    platform: tuple[str, ...] = ("linux/amd64",)
    #: (major, minor) of its Python.
    python_version: tuple[int, int] = field(default_factory=lambda: (sys.version_info.major, sys.version_info.minor))
    #: Whether others may build on it.
    extendable: bool = False
    #: The steps.
    layers: tuple[Layer, ...] = ()

    # -- Where it starts ---------------------------------------------------------------------------------------------

    @classmethod
    def from_debian_base(
        cls, python_version: tuple[int, int] | None = None, flyte_version: str | None = None,
        install_flyte: bool = True, registry: str | None = None, registry_secret: Any = None, name: str | None = None,
        platform: tuple[str, ...] | None = None,
    ) -> Image:  # fmt: skip
        """An image with Debian and Python."""
        version = python_version or (sys.version_info.major, sys.version_info.minor)
        base = f"{_DEFAULT_BASE}:{version[0]}.{version[1]}-slim-bookworm"
        return cls(
            base_image=base, registry=registry, name=name or "flyte", platform=platform or ("linux/amd64",),
            python_version=version, extendable=True,
        )  # fmt: skip

    @classmethod
    def from_base(cls, image_uri: str) -> Image:
        """An image that exists."""
        return cls(base_image=image_uri)

    @classmethod
    def from_ref_name(cls, name: str = "default") -> Image:
        """An image named in Flyte's configuration."""
        return cls(name=name)

    @classmethod
    def from_dockerfile(cls, file: pathlib.Path | str, registry: str, name: str, platform: Any = None) -> Image:
        """An image described by a Dockerfile."""
        return cls(dockerfile=pathlib.Path(file), registry=registry, name=name, platform=_platforms(platform))

    @classmethod
    def from_uv_script(
        cls, script: pathlib.Path | str, *, name: str, registry: str | None = None, registry_secret: Any = None,
        python_version: tuple[int, int] | None = None, **options: Any,
    ) -> Image:  # fmt: skip
        """An image with the packages that a script's header names."""
        base = cls.from_debian_base(python_version=python_version, registry=registry, name=name)
        return _add(base, "uv_script", script=str(script), **options)

    @classmethod
    def from_pixi_script(
        cls, script: pathlib.Path | str, *, name: str, registry: str | None = None, **options: Any
    ) -> Image:
        """An image with the packages that a script's Pixi header names."""
        return _add(cls.from_debian_base(registry=registry, name=name), "pixi_script", script=str(script), **options)

    # -- What is added -----------------------------------------------------------------------------------------------

    def clone(
        self, registry: str | None = None, registry_secret: Any = None, name: str | None = None,
        base_image: str | None = None, python_version: tuple[int, int] | None = None, addl_layer: Any = None,
        extendable: bool | None = None, platform: Any = None,
    ) -> Image:  # fmt: skip
        """The same under another name, or for another registry."""
        return replace(
            self,
            registry=registry or self.registry,
            name=name or self.name,
            base_image=base_image or self.base_image,
            python_version=python_version or self.python_version,
            extendable=self.extendable if extendable is None else extendable,
            platform=_platforms(platform) if platform else self.platform,
            layers=(*self.layers, addl_layer) if addl_layer is not None else self.layers,
        )

    def with_pip_packages(self, *packages: str, **options: Any) -> Image:
        """Python packages."""
        return _add(self, "pip_packages", packages=packages, **options)

    def with_apt_packages(self, *packages: str, **options: Any) -> Image:
        """Debian packages."""
        return _add(self, "apt_packages", packages=packages, **options)

    def with_requirements(self, file: str | pathlib.Path, **options: Any) -> Image:
        """The packages of a requirements file."""
        return _add(self, "requirements", file=str(file), **options)

    def with_uv_project(self, pyproject_file: str | pathlib.Path, uvlock: Any = None, **options: Any) -> Image:
        """The packages of a uv project."""
        return _add(self, "uv_project", file=str(pyproject_file), **options)

    def with_poetry_project(self, pyproject_file: str | pathlib.Path, poetry_lock: Any = None, **options: Any) -> Image:
        """The packages of a Poetry project."""
        return _add(self, "poetry_project", file=str(pyproject_file), **options)

    def with_pixi_project(self, manifest_file: str | pathlib.Path, pixi_lock: Any = None, **options: Any) -> Image:
        """The packages of a Pixi project."""
        return _add(self, "pixi_project", file=str(manifest_file), **options)

    def with_env_vars(self, env_vars: dict[str, str]) -> Image:
        """Environment variables of the image. A task's own are given to its environment, and do take effect."""
        return _add(self, "env_vars", env_vars=tuple(env_vars.items()))

    def with_commands(self, commands: list[str], secret_mounts: Any = None) -> Image:
        """Commands to run while building."""
        return _add(self, "commands", commands=commands)

    def with_source_folder(self, src: pathlib.Path, dst: str = ".", copy_contents_only: bool = False) -> Image:
        """A folder to copy."""
        return _add(self, "source_folder", src=str(src), dst=dst)

    def with_source_file(self, src: Any, dst: str = ".") -> Image:
        """A file, or files, to copy."""
        return _add(self, "source_file", src=str(src), dst=dst)

    def with_code_bundle(self, copy_style: str = "loaded_modules", dst: str = ".") -> Image:
        """The code itself."""
        return _add(self, "code_bundle", copy_style=copy_style, dst=dst)

    def with_workdir(self, workdir: str) -> Image:
        """Directory in which tasks start."""
        return _add(self, "workdir", workdir=workdir)

    def with_dockerignore(self, path: pathlib.Path) -> Image:
        """What is not copied."""
        return _add(self, "dockerignore", path=str(path))

    def with_local_v2(self) -> Image:
        """The Flyte of this checkout."""
        return self

    def with_local_v2_plugins(self, plugins: Any = None) -> Image:
        """The Flyte plugins of this checkout."""
        return self

    def with_local_rs_controller(self) -> Image:
        """The controller of this checkout."""
        return self

    def validate(self) -> None:
        """Check nothing: nothing is built."""

    @property
    def uri(self) -> str:
        """The name that it would have: the base itself if nothing is added, else a name with a hash of its description."""
        if self.base_image and not self.layers and self.name is None:
            return self.base_image
        text = repr((self.base_image, str(self.dockerfile), self.python_version, self.layers))
        tag = hashlib.sha256(text.encode()).hexdigest()[:16]
        return "/".join(part for part in (self.registry, f"{self.name or 'flyte'}:{tag}") if part)


#: What layers are described by, and Flyte's options of them.
_LAYER_OPTIONS = (
    "commands", "copy_style", "dst", "env_vars", "environment", "extra_args", "extra_index_urls", "file", "index_url",
    "packages", "path", "platform", "pre", "project_install_mode", "python_version", "registry_secret", "script",
    "secret_mounts", "src", "workdir",
)  # fmt: skip


def _add(image: Image, kind: str, **details: Any) -> Image:
    """The image with one more layer.

    Raises:
        TypeError: There is no such option.
    """
    check_options(f"Image, {kind.replace('_', ' ')}", details, _LAYER_OPTIONS)
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in details.items() if v not in (None, (), [], False)}
    return replace(image, layers=(*image.layers, Layer(kind, tuple(frozen.items()))))


def _platforms(platform: Any) -> tuple[str, ...]:
    if platform is None:
        return ("linux/amd64",)
    return (platform,) if isinstance(platform, str) else tuple(platform)


@names_options
@dataclass(frozen=True)
class PodTemplate:
    """How Flyte's pods look. No effect here: there are no pods.

    Args:
        pod_spec: A Kubernetes ``V1PodSpec``.
        primary_container_name: The container that runs the task.
        labels: Labels of the pod.
        annotations: Annotations of the pod.
    """

    pod_spec: Any = None
    primary_container_name: str = "primary"
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @classmethod
    def from_spec(
        cls, pod_spec: Any, *, primary_container_name: str | None = None, labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> PodTemplate:  # fmt: skip
        """A template from a specification."""
        return cls(pod_spec, primary_container_name or "primary", labels, annotations)

    def allow_fuse(self, privileged: bool = False) -> PodTemplate:
        """The same, with FUSE allowed. No effect here."""
        return replace(self)

    def allow_nested_sandboxing(self) -> PodTemplate:
        """The same, with sandboxes allowed. No effect here."""
        return replace(self)

    def with_termination_grace_period(self, termination_grace_period: Any) -> PodTemplate:
        """The same, with a grace period. No effect here."""
        return replace(self)
