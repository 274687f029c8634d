"""``%flyte report`` and ``%flyte doctor``: a bug's report without secrets, and what is amiss with its remedy. A real kernel."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

FAILS = """
%load_ext flyte_nb
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def login(user: str, password: str) -> str:
    raise ValueError(f"{user} was refused by https://{user}:hunter22@example.org, with {password}")

await asyncio.gather(*(login(f"user{i}", "correct-horse") for i in range(7)), return_exceptions=True)
"""


def test_a_report_has_what_a_maintainer_asks_for_and_no_secret() -> None:
    """Versions, machine, cluster, times and errors with their frames, bounded; passwords are masked wherever they stand."""
    with Kernel.start(env={"FLYTE_NB_API_KEY": "sesame-0815-open", "FLYTE_NB_HISTORY": "off"}) as kernel:
        kernel.run(FAILS).ok()
        text = kernel.run("%flyte report").ok().stdout

        for part in ("[versions]", "[machine]", "[front end]", "[cluster]", "[doctor]", "[run r1]"):
            assert part in text
        assert "distributed " in text
        assert "ipykernel " in text
        assert "Embedded cluster tcp" in text or "Embedded cluster tls" in text
        assert "7 failed" in text
        assert "waited for a slot: median" in text
        assert "ValueError" in text
        assert "raise ValueError(f" in text
        assert "and 2 more errors" in text
        assert "FLYTE_NB_HISTORY=off" in text
        for secret in ("hunter22", "correct-horse", "sesame-0815-open"):
            assert secret not in text
        assert "there is no run" in kernel.run("%flyte report r99").ok().stdout.lower()


def test_the_doctor_names_what_is_amiss_and_the_remedy() -> None:
    """An applied nest_asyncio, a proxy in the way, a limit of open files, a package of a version that will not do."""
    with Kernel.start(env={"https_proxy": "http://proxy:3128", "no_proxy": "", "NO_PROXY": ""}) as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        before = kernel.run("%flyte doctor").ok().stdout
        assert "https_proxy is set" in before
        assert "%env no_proxy=localhost,127.0.0.1" in before
        assert "nest_asyncio" not in before

        kernel.run(AMISS).ok()
        said = kernel.run("%flyte doctor").ok().stdout
        assert "nest_asyncio 1.x is applied" in said
        assert "ulimit -n 4096" in said
        assert "ipykernel is 5.0, and 'ipykernel>=" in said
        assert "https_proxy" not in said
        assert "The check of disk failed: OSError" in said


#: As other programs leave a process: nest_asyncio's mark on asyncio, a low limit, old metadata, a disk that does not answer.
AMISS = """
import asyncio, importlib.metadata, os, resource, shutil
asyncio._nest_patched = True
resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
%env no_proxy=localhost
_version = importlib.metadata.version
importlib.metadata.version = lambda name: "5.0" if name == "ipykernel" else _version(name)
def away(path):
    if str(path) == "/dev/shm":
        return os.statvfs and type("Usage", (), {"free": 10**12, "total": 10**12})
    raise OSError("no answer")
shutil.disk_usage = away
"""
