"""The main job in a real kernel on the embedded cluster: load, await, fail, stop, unload, die."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import WORKERS, Kernel, wait_gone

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import asyncio, os, time, logging, warnings
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def square(x: int) -> int:
    print("squaring", x)
    return x * x

@env.task
async def nap(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()

@env.task
def block(seconds: float) -> int:
    end = time.time() + seconds
    while time.time() < end:
        time.sleep(0.01)
    return os.getpid()

@env.task
async def fail(x: int) -> int:
    doubled = x * 2
    raise ValueError(f"no {doubled}")
"""


#: Where the kernel itself listens, before the extension is loaded.
OWN_PORTS: set = set()


@pytest.fixture(scope="module")
def nb() -> Iterator[Kernel]:
    """A kernel with the extension loaded and the tasks defined."""
    with Kernel.start() as kernel:
        OWN_PORTS.update(c.laddr for c in kernel.listeners())
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(DEFINE).ok()
        kernel.run("await square(1)").ok()
        yield kernel


def test_awaiting_in_a_cell_runs_in_other_processes(nb):
    """The work is done by worker processes, and the view tells of it."""
    cell = nb.run(
        "pids = set(await asyncio.gather(*(nap(0.05) for _ in range(8)))); (os.getpid() in pids, len(pids) >= 1)"
    )

    assert "(False, True)" == cell.ok().result
    cell.wait_for(lambda: "succeeded" in cell.views)


def test_calls_are_called_what_their_task_says(nb):
    """`label=`: of one call, of many that travel as rows, and in what is said of an error."""
    nb.run(
        "@env.task(label='{config[depth]}/{fold}')\nasync def fit(config: dict, fold: int = 3) -> int:\n"
        "    return config['depth'] // fold\n"
        "run = flyte.run(fit, {'depth': 6})\n"
        "found = await asyncio.gather(*(fit({'depth': 8}, fold) for fold in range(1, 301)))\n"
        "labels = {action.label for action in flyte.last_run().actions}"
    ).ok()
    labels = nb.run("await run, len(labels & {f'8/{fold}' for fold in range(1, 301)}), [a.label for a in run.actions]")
    assert "(2, 300, ['6/3'])" == labels.ok().result
    assert "8/0 on" in nb.run("await fit({'depth': 8}, 0)").error.traceback


def test_what_a_task_prints_shows_under_its_cell(nb):
    """print, logging and warnings are lines of the action."""
    nb.run(
        "@env.task\nasync def chatty() -> None:\n    print('printed')\n    logging.getLogger('mine').error('logged')\n"
        "    warnings.warn('warned')\n"
    ).ok()
    cell = nb.run("await chatty()").ok()
    cell.wait_for(lambda: "succeeded" in cell.views)

    shown = cell.views
    assert all(word in shown for word in ("printed", "logged", "warned"))


def test_a_failure_shows_the_users_frames_and_names_the_action(nb):
    """The traceback holds the remote line, the action and its inputs, and no frames of ours."""
    cell = nb.run("await fail(4)").wait()
    text = cell.error.traceback

    assert "no 8" in text
    assert "fail(4)" in text
    assert "doubled = x * 2" in text
    assert "gateway.py" not in text
    assert "ValueError" in text


def test_both_types_catch_it(nb):
    """except ValueError and except RuntimeUserError both work in a cell."""
    cell = nb.run(
        "seen = []\n"
        "for kind in (ValueError, flyte.errors.RuntimeUserError):\n"
        "    try:\n        await fail(1)\n    except kind as exc:\n        seen.append(str(exc))\n"
        "seen"
    )

    assert "['no 2', 'no 2']" == cell.ok().result


def test_stop_ends_the_cell_and_cancels_its_actions(nb):
    """One press ends an awaiting cell; its actions are cancelled; no worker dies; the next cell works."""
    before = nb.run(WORKERS).ok().result
    cell = nb.begin("await asyncio.gather(*(nap(60.0) for _ in range(4)))")
    cell.wait_for(lambda: "not ended at" in cell.views)
    nb.interrupt()
    cell.wait()

    assert "error" == cell.status
    cell.wait_for(lambda: "cancelled in" in cell.views)
    assert "4" == nb.run("await square(2)").ok().result
    assert before == nb.run(WORKERS).ok().result


def test_stop_interrupts_a_sync_body(nb):
    """A plain def that loops in Python is interrupted too."""
    cell = nb.begin("await block.aio(60.0)")
    cell.wait_for(lambda: "not ended at" in cell.views)
    nb.interrupt()
    cell.wait()

    cell.wait_for(lambda: "cancelled in" in cell.views)
    assert "9" == nb.run("await square(3)").ok().result


def test_stop_ends_a_blocking_map(nb):
    """Stop works in a cell that blocks in flyte.map."""
    cell = nb.begin("list(flyte.map(nap, [60.0] * 3))")
    cell.wait_for(lambda: "not ended at" in cell.views)
    nb.interrupt()
    cell.wait()

    assert "KeyboardInterrupt" == cell.error.name
    cell.wait_for(lambda: "cancelled in" in cell.views)


@pytest.mark.parametrize(
    "code",
    [
        "list(flyte.map(nap, [0.0] * 300 + [60.0] * 2000))",
        "[n async for n in flyte.map.aio(nap, [60.0] * 2000)]",
        "await asyncio.gather(*(nap(60.0 + n) for n in range(2000)))",
    ],
)
def test_stop_ends_thousands_of_calls_alike(nb, code):
    """A large map or gather is the first thing that its cell does; all of it ends, and the next cell works."""
    cell = nb.begin(code)
    cell.wait_for(lambda: "not ended at" in cell.views)
    nb.interrupt()
    cell.wait()

    assert "error" == cell.status
    cell.wait_for(lambda: "cancelled in" in cell.views)
    cell = nb.run("found = flyte.last_run().actions; (len(found) > 1, [a for a in found if not a.done()][:5])")
    assert "(True, [])" == cell.ok().result
    assert "9" == nb.run("await square(3)").ok().result


def test_a_redefined_global_is_seen_by_the_next_cell(nb):
    """Tasks are serialized anew when a cell begins."""
    nb.run("factor = 2\n@env.task\nasync def scaled(x: int) -> int:\n    return x * factor\n").ok()
    assert "6" == nb.run("await scaled(3)").ok().result
    nb.run("factor = 10").ok()

    assert "30" == nb.run("await scaled(3)").ok().result


def test_all_sockets_listen_on_loopback_and_demand_a_certificate(nb):
    """Nothing listens beyond loopback, and a connection without our certificate is refused."""
    ports = {listener.laddr for listener in nb.listeners()} - OWN_PORTS
    # The scheduler, and per core a nanny and its worker: no dashboard, no other HTTP server.
    assert 1 + 2 * (os.cpu_count() or 1) == len(ports)
    assert {"127.0.0.1"} == {address.ip for address in ports}

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for address in ports:
        assert refuses(tuple(address), context)


def test_magics_tell_of_runs_and_cluster(nb):
    """%flyte runs, show, logs and cluster answer."""
    nb.run("await square(7)").ok()

    assert "await square(7)" in nb.run("%flyte runs").ok().stdout
    assert "squaring 7" in nb.run("%flyte logs a1").ok().stdout
    assert "1 slot busy" in nb.run("%flyte cluster").ok().views
    assert "1 slot busy" in nb.run("%flyte status").ok().stdout
    assert "no such subcommand" in nb.run("%flyte nonsense").ok().stdout


def refuses(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """Whether a server ends a connection that shows no certificate."""
    with socket.create_connection(address, timeout=5) as plain:
        try:
            with context.wrap_socket(plain) as wrapped:
                wrapped.sendall(b"x" * 64)
                return wrapped.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("help retry", "%flyte retry [r3 | a17]"),
        ("retry --help", "%flyte retry [r3 | a17]"),
        ("cluster foo", "%flyte cluster foo: the only word here is restart"),
        ('logs "a', '%flyte logs "a: No closing quotation'),
        ("cancel r1", "r1 has ended already: succeeded."),
        ("cancel r1/a1", "r1/a1 square(1) has ended already: succeeded."),
        ("debug r1/a1", "square(1) has no failure record: it is succeeded."),
        ("resume r1/a1 3", "r1/a1 square(1) is succeeded and waits for no decision"),
    ],
)
def test_a_magic_used_wrongly_says_what_is_wrong(nb, line, answer):
    """One or two sentences, never a traceback of ours, nor a success that was none."""
    said = nb.run(f"%flyte {line}").ok().stdout
    assert said.startswith(answer)
    assert said.count("\n") == 1


def test_unloading_leaves_nothing_behind():
    """%unload_ext ends the workers and closes their ports, and loading again works."""
    with Kernel.start() as kernel:
        before = kernel.listeners()
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(DEFINE).ok()
        kernel.run("await square(1)").ok()
        workers = [p for p in kernel.processes() if p.pid != kernel.pid]
        kernel.run("%unload_ext flyte_nb").ok()

        assert not wait_gone([p for p in workers if "spawn_main" in " ".join(p.cmdline() if p.is_running() else [])], 5)
        assert {c.laddr for c in before} == {c.laddr for c in kernel.listeners()}
        kernel.run("%load_ext flyte_nb").ok()
        assert "4" == kernel.run("await square(2)").ok().result


@pytest.mark.parametrize("end", ["kill", "restart", "stop"])
def test_no_process_outlives_its_kernel(end):
    """kill -9, restart and exit leave no worker within five seconds."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(DEFINE).ok()
        kernel.run("await square(1)").ok()
        processes = kernel.processes()
        assert len(processes) > 2

        getattr(kernel, end)()

        assert not wait_gone([p for p in processes if p.pid != kernel.pid or end == "stop"], 5)


def test_the_kernelspec_loads_the_extension():
    """With --ext flyte_nb the first cell can await."""
    with Kernel.start("--ext", "flyte_nb") as kernel:
        kernel.run(DEFINE).ok()
        cell = kernel.run("await square(5)").ok()

        assert "25" == cell.result
        cell.wait_for(lambda: "succeeded" in cell.views)
        session = kernel.run("from flyte_nb.kernel.session import Session; Session.current").ok()
        assert "<Session [1 run, 1 view, cluster running]>" == session.result


def test_load_ext_returns_at_once():
    """Loading does not wait for the cluster."""
    with Kernel.start() as kernel:
        cell = kernel.run(
            "%load_ext flyte_nb\nfrom flyte_nb.kernel.session import Session\nSession.current.starting.done(), Session.current"
        ).ok()

        assert "(False, <Session [0 runs, 0 views, cluster starting]>)" == cell.result


def test_after_shutdown_the_next_call_starts_a_cluster_anew():
    """The notebook goes on as if it had just been opened: no noise, workers, a view."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(DEFINE).ok()
        kernel.run("await square(1)").ok()
        kernel.run("import flyte_nb\nflyte_nb.shutdown()").ok()
        quiet = kernel.run("1 + 1").ok()
        assert (quiet.stdout, quiet.stderr, quiet.error.name, quiet.result) == ("", "", "", "2")
        assert "shutdown()" in kernel.run("%flyte cluster").ok().stdout
        kernel.run("import os\n@env.task\ndef where() -> int:\n    return os.getpid()").ok()
        cell = kernel.run("where() != os.getpid()").ok()
        assert cell.result == "True"
        assert [m.content["data"]["text/plain"][:4] for m in cell.of("display_data")] == ["▷ r1"]
        kernel.run("flyte_nb.shutdown()").ok()
        kernel.run("flyte_nb.init(n_workers=1)").ok()
        assert "1 workers" in kernel.run("where()\n%flyte status").ok().stdout
