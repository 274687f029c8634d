"""Versions of tasks that runs note as of their calls: computed once for each code that was sent."""

from __future__ import annotations

import pytest

import flyte_nb as flyte
from flyte_nb.core.tasks import registry
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.core.values.code_hash import code_version

env = flyte.TaskEnvironment("version-sent")
LIMIT = 1


@env.task
def limited(x: int) -> int:
    """Reads a global."""
    return min(x, LIMIT)


def test_a_version_is_computed_once_for_the_code_that_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew for other code; where nothing was sent it is that of now."""
    computed: list[str] = []

    def counting(func: object) -> str:
        computed.append(code_version(func))  # type: ignore[arg-type]
        return computed[-1]

    monkeypatch.setattr(registry, "code_version", counting)
    versions = CodeVersions(Blobs())
    assert registry.version_sent("no such task") == ""
    assert registry.version_sent(limited.name) == registry.version_of(limited.name) == computed[0]
    found = []
    for limit in (1, 1, 2, 2, 1):
        monkeypatch.setitem(globals(), "LIMIT", limit)
        versions.of(limited)
        computed.clear()
        found.append((registry.version_sent(limited.name), len(computed)))
    (one, _), (_, _), (two, _), (_, _), (_, _) = found
    assert one != two
    assert found == [(one, 1), (one, 0), (two, 1), (two, 0), (one, 1)]
