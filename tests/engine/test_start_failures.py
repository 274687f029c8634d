"""A cluster that cannot start says its cause, not that "Nanny failed to start"."""

from __future__ import annotations

import itertools
import pickle
import resource
import subprocess
import sys

import pytest

from flyte_nb.engine.clusters.credentials import SessionSecurity
from flyte_nb.engine.clusters.embedded import cause_of, tight_limits

pytestmark = pytest.mark.cluster


def _chained(*errors: Exception) -> Exception:
    """Errors, each raised while the one before was handled."""
    for inner, outer in itertools.pairwise(errors):
        outer.__context__ = inner
    return errors[-1]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(24, "Too many open files"), "OSError: [Errno 24] Too many open files"),
        (_chained(OSError(28, "No space left"), RuntimeError("Nanny failed to start")), "OSError: [Errno 28] No space left"),
        (_chained(ValueError("cause"), AssertionError("Status.starting"), RuntimeError("Nanny failed")), "ValueError: cause"),
        (_chained(AssertionError("Status.starting"), RuntimeError("Nanny failed.")), "RuntimeError: Nanny failed"),
        (_chained(ValueError("a"), KeyError("b"), RuntimeError("c")), "ValueError: a"),
        (RuntimeError(), "RuntimeError"),
    ],
)  # fmt: skip
def test_the_cause_is_the_first_of_the_errors(error: Exception, text: str) -> None:
    assert text == cause_of(error)


def test_an_error_that_is_its_own_cause_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert cause_of(one) == "ValueError: other"


SCRIPT = """
import flyte_nb as flyte
from multiprocessing import spawn
def refuse(name):
    raise PermissionError("processes are not allowed here")
spawn.get_preparation_data = refuse
env = flyte.TaskEnvironment("never")
@env.task
async def one() -> int:
    return 1
if __name__ == "__main__":
    for _ in range(2):
        try:
            flyte.run(one).outputs()
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_the_first_call_and_later_ones_say_it(tmp_path) -> None:
    script = tmp_path / "never.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    said = [line for line in done.stdout.splitlines() if "Error" in line]
    assert len(said) == 2, done.stderr
    assert all(
        "NoClusterError the embedded cluster could not start: PermissionError: processes are not" in line
        for line in said
    )


KILLED = """
import os, signal, sys
import flyte_nb as flyte
from flyte_nb.engine.clusters import embedded
env = flyte.TaskEnvironment("killed")
@env.task
async def one() -> int:
    return 1
left, plain = int(sys.argv[1]), embedded.ForkedProcess.start
async def start(self):
    global left
    await plain(self)
    if left:
        left -= 1
        os.kill(self.pid, signal.SIGKILL)
embedded.ForkedProcess.start = start
try:
    print("got", flyte.run(one).outputs())
except Exception as error:
    print("got", type(error).__name__, error)
"""


@pytest.mark.parametrize(("kills", "said"), [(2, "got ActionOutputs(o0=1)"), (99, "the last was killed by SIGKILL")])
def test_workers_that_die_as_they_start(tmp_path, kills: int, said: str) -> None:
    """They have successors; if these die, too, it is said how."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(kills)], capture_output=True, text=True, timeout=120, check=False
    )
    assert said in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_limits_of_the_user_that_are_too_tight_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nanny that cannot start a thread says nothing of it."""
    limits = {resource.RLIMIT_NPROC: (30, 30), resource.RLIMIT_NOFILE: (1024, 1024)}
    monkeypatch.setattr(resource, "getrlimit", lambda number: limits[number])

    assert "; this user may have 30 processes and threads (ulimit -u) only" == tight_limits(2)
    limits[resource.RLIMIT_NPROC] = (-1, -1)
    assert "" == tight_limits(2)


def test_a_connection_needs_no_file() -> None:
    """TLS contexts are made once a process: a disk that is full later refuses none."""
    security = SessionSecurity.temporary()
    first = security.get_connection_args("client")["ssl_context"]
    again = pickle.loads(pickle.dumps(security))

    assert first is again.get_connection_args("client")["ssl_context"]
    assert first is not security.get_listen_args("scheduler")["ssl_context"]
