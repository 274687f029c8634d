"""One class, one identity: instances are of the class that the task's code names, wherever they have been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flyte_nb as flyte
from tests.contract import identities

HERE = Path(__file__).parent


def find_bad(mode, check, *args):
    """What a check of `identities` finds in a run."""
    return flyte.testing.run_cell(lambda: check(*args), mode=mode)


@pytest.mark.parametrize("name", identities.MAKERS)
def test_an_instance_is_one_of_its_class_everywhere(name, mode):
    """As an argument, a result, a global and through a child; it is equal, and behaves."""
    assert find_bad(mode, identities.check, name) == []


def test_lone_objects_are_the_same_everywhere(mode):
    """Sentinels, by default, as an argument, in containers and back: compared with ``is``."""
    assert find_bad(mode, identities.check_lone_objects) == []
    assert find_bad(mode, identities.check_lone_objects) == []  # when the workers have all versions of the code


def test_classes_keep_their_state_and_methods_their_globals(mode):
    """What has been away brings nothing back that is written over the program's own class."""
    assert find_bad(mode, identities.check_state, mode) == []


PROGRAMS = {
    "main": "identities.py",
    "module": "import sys, flyte_nb, identities as m\nprint(flyte_nb.testing.run_cell(lambda: m.check_all(sys.argv[1]), mode=sys.argv[1]))",
    "first call": "import flyte_nb, identities as m\nprint([not flyte_nb.run(m.looks, 'Slotted', m.Slotted()).outputs()[0][0]])",
    "as flyte": "import flyte_nb; flyte_nb.install_as_flyte(); import flyte, identities as m\n"
    "print(flyte.run(m.passes_on, 'Slotted', m.Slotted()).outputs()[0][:2])",
}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("program", "where"),
    [
        ("main", "beside"),
        ("module", "beside"),
        ("first call", "beside"),
        ("first call", "on the path"),
        ("as flyte", "on the path"),
    ],
)
def test_programs(program, where, tmp_path):
    """A script's own classes, and those of a module that the workers can, or cannot, import."""
    text = (HERE / "identities.py").read_text()
    if program == "main":
        (tmp_path / "program.py").write_text(text)
    else:
        (tmp_path / "program.py").write_text(PROGRAMS[program])
        (tmp_path / "identities.py").write_text(text)
    path = os.pathsep.join(
        [str(Path(flyte.__file__).parent.parent), *([str(tmp_path)] if where == "on the path" else [])]
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), "remote"], cwd=tmp_path if where == "beside" else "/",
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    expected = {"first call": "[True]", "as flyte": "[[], []]"}.get(program, "[]")
    assert done.stdout.strip().splitlines()[-1:] == [expected], done.stderr[-2000:]
