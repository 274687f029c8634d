"""The pytest plugin, as a project of somebody else's uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

TESTS = """
import os
import flyte_nb as flyte

env = flyte.TaskEnvironment("project")


@env.task(cache="auto")
def process(n: int) -> int:
    return os.getpid()


def test_tasks_run_on_workers(flyte_cluster):
    found = flyte_cluster.run(process, n=1).outputs()[0]
    assert found != os.getpid()
    assert flyte_cluster.run(process, n=1).outputs()[0] == found


def test_the_cluster_is_that_of_all_tests(flyte_cluster):
    assert flyte_cluster is flyte
    assert flyte.run(process, n=1).outputs()[0] != os.getpid()


def test_a_task_is_a_function():
    assert process(1) == os.getpid()
"""


def run(project: Path, ini: str) -> subprocess.CompletedProcess[str]:
    (project / "conftest.py").write_text('pytest_plugins = ["flyte_nb.pytest_plugin"]\n')
    (project / "test_it.py").write_text(TESTS)
    (project / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project, capture_output=True, text=True,
        timeout=100, check=False, env={**os.environ, "FLYTE_NB_CACHE_DIR": str(project / "own")},
    )  # fmt: skip


def test_tests_of_a_project_share_a_cluster(tmp_path: Path) -> None:
    done = run(tmp_path, "flyte_workers = 1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert not (tmp_path / "own").exists()


def test_a_wrong_number_of_workers_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "flyte_workers = two")
    assert "flyte_workers is a number of processes from 1 on, not 'two'" in done.stdout
    assert "1 passed" in done.stdout
