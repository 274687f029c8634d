"""Pod templates, without effect. Runs in: everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


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
        cls,
        pod_spec: Any,
        *,
        primary_container_name: str | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> PodTemplate:
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
