"""A failure record becomes an exception with a real traceback: remote frames, lines, source and locals."""

from __future__ import annotations

import asyncio
import inspect
import io
import linecache
import pdb  # noqa: T100 - it is under test
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from flyte_nb import errors
from flyte_nb.core.failures import capture, traceback_text, wording
from flyte_nb.core.failures import rebuild as remote_traceback
from flyte_nb.core.failures.rebuild import rebuild, to_exception
from flyte_nb.core.failures.record import FailureRecord, record_of
from flyte_nb.core.values import source_lines
from tests.core.failures import failing


@pytest.fixture(autouse=True)
def plain_texts() -> Iterator[None]:
    """Texts without a kernel's names and colours."""
    wording.configure(wording.Presentation())
    yield
    wording.configure(wording.Presentation())


def recorded(
    function: Callable[..., object], *args: object, action: str = "x1", label: str = "work(1)", attempt: int = 0
) -> FailureRecord:
    """The record of a function that fails, from the function's own frame on, after a trip through pickle."""
    try:
        result = function(*args)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        tb = exc.__traceback__
        while tb is not None and (
            tb.tb_frame.f_code is recorded.__code__
            or source_lines.kind_of(tb.tb_frame.f_code.co_filename, "") != "user"
        ):
            tb = tb.tb_next
        made = capture.capture(
            exc.with_traceback(tb), task="demo.work", action=action, label=label, attempt=attempt, worker="tcp://w:1"
        )
        return FailureRecord.loads(made.dumps())
    raise AssertionError("it did not fail")


def chain(tb: TracebackType | None) -> list[TracebackType]:
    """A traceback as a list, outermost first."""
    found = []
    while tb is not None:
        found.append(tb)
        tb = tb.tb_next
    return found


def printed(error: BaseException) -> str:
    """What Python prints."""
    return "".join(traceback.format_exception(error))


def test_frames_have_the_remote_names_lines_and_locals() -> None:
    """As if the function had failed here."""
    original, tb = rebuild(recorded(failing.square, 7))

    outer, inner = chain(tb)
    assert type(original) is IndexError
    assert (outer.tb_frame.f_code.co_name, inner.tb_frame.f_code.co_name) == ("square", "inner")
    assert inner.tb_frame.f_code.co_filename == failing.__file__
    assert linecache.getline(failing.__file__, inner.tb_lineno).strip() == "return both[y + LIMIT]"
    assert inner.tb_frame.f_lineno == inner.tb_lineno
    assert dict(inner.tb_frame.f_locals) == {"y": 14, "both": [14, 15]}
    assert eval("both[0] + LIMIT", inner.tb_frame.f_globals, inner.tb_frame.f_locals) == 24


def test_python_prints_it_like_a_local_failure() -> None:
    """The same lines, with the same marks under the failing expression."""
    record = recorded(failing.square, 7)
    with pytest.raises(IndexError) as caught:
        failing.square(7)
    local = traceback.format_list(traceback.extract_tb(chain(caught.tb)[1]))

    assert traceback.format_list(traceback.extract_tb(rebuild(record)[1])) == local


def test_locals_are_unpickled_when_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: a thousand failures are rarely all looked at."""
    _, tb = rebuild(recorded(failing.fails_holding, failing.Unloadable()))
    seen = chain(tb)[-1].tb_frame.f_locals

    assert list(seen) == ["value"]
    monkeypatch.setattr(failing, "loadable", False)
    assert "does not unpickle here" in repr(seen["value"])


def test_the_raised_error_ends_in_the_remote_frames() -> None:
    """Local frames first, then the remote ones: a debugger opens at the remote end."""

    def cell() -> None:
        raise to_exception(recorded(failing.square, 7))

    with pytest.raises(IndexError) as caught:
        cell()

    names = [item.tb_frame.f_code.co_name for item in chain(caught.value.__traceback__)]
    assert names[-3:] == ["cell", "square", "inner"]


def test_the_error_is_flytes_and_the_originals() -> None:
    """Both ``except`` clauses catch it; code and text are Flyte's; the original is its cause."""
    error = to_exception(recorded(failing.square, 7))

    assert isinstance(error, errors.RuntimeUserError)
    assert isinstance(error, IndexError)
    assert (error.code, error.kind, error.worker, str(error)) == (
        "IndexError",
        "user",
        "tcp://w:1",
        "list index out of range",
    )
    assert type(error.__cause__) is IndexError
    assert record_of(error) is not None


def test_another_class_of_flyte_can_be_asked_for() -> None:
    """`RetriesExhaustedError`, say, with the code of the last failure."""
    error = to_exception(recorded(failing.square, 7), error_class=errors.RetriesExhaustedError)

    assert isinstance(error, errors.RetriesExhaustedError)
    assert isinstance(error, IndexError)
    assert error.code == "IndexError"


def test_notes_name_the_action_and_those_the_error_came_through() -> None:
    """Once, however many levels; short names where they are known."""
    child = recorded(failing.square, 7, label="square(7)", attempt=1)

    def parent() -> None:
        raise to_exception(child)

    def grandparent() -> None:
        raise to_exception(recorded(parent, action="x2", label="parent()"))

    record = recorded(grandparent, action="x3", label="grandparent()")
    error = to_exception(
        record, name_of=lambda action: {"x1": "a17", "x2": "a2"}.get(action, ""), notes=["3 of 500 failed"]
    )

    assert error.__notes__ == [
        "in action a17 square(7) on tcp://w:1, attempt 2",
        "awaited by a2 parent() < grandparent()",
        "3 of 500 failed",
    ]
    assert error.code == "IndexError"


def test_notes_of_the_users_survive_and_come_first() -> None:
    """Those added by the task, and those added on the way."""

    def annotated() -> None:
        error = ValueError("x")
        error.add_note("from the task")
        raise error

    def parent() -> None:
        try:
            raise to_exception(recorded(annotated))
        except ValueError as exc:
            exc.add_note("from the parent")
            raise

    error = to_exception(recorded(parent, action="x2", label="parent()"))

    assert error.__notes__[:2] == ["from the task", "from the parent"]
    assert len(error.__notes__) == 4


def test_causes_are_part_of_it() -> None:
    """The original's own cause, with its frames."""
    error = to_exception(recorded(failing.chained))

    assert isinstance(error.__cause__, ValueError)
    assert isinstance(error.__cause__.__cause__, KeyError)
    assert 'raise ValueError("no rows") from exc' in printed(error)
    assert '{}["a"]' in printed(error)


def test_a_group_comes_back_as_a_group() -> None:
    """``except*`` works, and each exception has its remote frames, once."""

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing.waits(1))
            group.create_task(failing.waits(2))

    error = to_exception(recorded(grouped))
    caught = []
    try:
        raise error
    except* IndexError as part:
        caught = list(part.exceptions)

    assert isinstance(error, errors.RuntimeUserError)
    assert len(caught) == 2
    assert [chain(child.__traceback__)[-1].tb_frame.f_locals["y"] for child in caught] == [1, 2]
    assert printed(error).count("return both[y + LIMIT]") == 2


def test_equal_failures_share_their_compiled_code() -> None:
    """A thousand of them compile it once."""
    first, second = (chain(rebuild(recorded(failing.square, 7))[1])[-1].tb_frame for _ in range(2))

    assert first is not second
    assert first.f_code is second.f_code


def test_source_that_exists_nowhere_here_is_shown() -> None:
    """A cell of a kernel that is gone, a file of another machine."""
    text = "def far_away(x):\n    y = x + 1\n    return y / 0\n"
    source_lines.register_source("/tmp/ipykernel_9/77.py", text)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "/tmp/ipykernel_9/77.py", "exec"), namespace)
    record = recorded(namespace["far_away"], 3)
    del linecache.cache["/tmp/ipykernel_9/77.py"]

    _, tb = rebuild(record)

    assert "return y / 0" in "".join(traceback.format_tb(tb))
    linecache.checkcache()
    frame = chain(tb)[-1].tb_frame
    assert inspect.getsource(frame.f_code) == text
    assert inspect.getsourcelines(frame)[0] == text.splitlines(keepends=True)


def test_a_file_that_was_edited_since_shows_what_ran() -> None:
    """Under another name, so that local tracebacks go on showing the present text."""
    record = recorded(failing.square, 7)
    old = tuple(
        s._replace(text=s.text.replace("both", "pair")) if s.filename == failing.__file__ else s for s in record.sources
    )

    _, tb = rebuild(record._replace(sources=old))

    assert chain(tb)[-1].tb_frame.f_code.co_filename == failing.__file__ + remote_traceback.AS_IT_RAN
    assert "return pair[y + LIMIT]" in "".join(traceback.format_tb(tb))
    assert "return both[y + LIMIT]" in linecache.getlines(failing.__file__)[chain(tb)[-1].tb_lineno - 1]


def test_parts_of_a_large_file_stand_at_their_own_lines() -> None:
    """Only the lines around each failure are shipped."""
    body = "".join(f"def f{n}(x):\n    return x / 0  # {n}\n\n" for n in range(400))
    source_lines.register_source("/far/large.py", body)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(body, "/far/large.py", "exec"), namespace)
    records = [recorded(namespace[f"f{n}"], 3) for n in (10, 390)]
    del linecache.cache["/far/large.py"]

    texts = ["".join(traceback.format_tb(rebuild(record)[1])) for record in records]

    assert all(len(source.text) < len(body) / 2 for record in records for source in record.sources)
    assert "return x / 0  # 10" in texts[0]
    assert "return x / 0  # 390" in texts[1]
    assert linecache.getline("/far/large.py", 32).strip() == "return x / 0  # 10"


def test_registered_sources_are_bounded() -> None:
    """A long session sees many cells."""
    for number in range(remote_traceback.MAX_SOURCES + 20):
        source = source_lines.Source(f"/far/{number}.py", 1, "x = 1\n", whole=True)
        rebuild(recorded(failing.square, 7)._replace(sources=(source,)))

    assert "/far/0.py" not in linecache.cache
    assert f"/far/{remote_traceback.MAX_SOURCES + 19}.py" in linecache.cache


def test_pdb_works_at_the_remote_frames() -> None:
    """up, down, p, pp, where, list, longlist, an assignment, a comprehension."""
    _, tb = rebuild(recorded(failing.square, 7))
    commands = "p both\nwhere\nlist\nup\np x, y\ndown\n!both = [5]\npp both\np [n + 1 for n in both]\nlonglist\nq\n"
    out = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO(commands), stdout=out, nosigint=True, readrc=False)
    debugger.use_rawinput = False

    debugger.reset()
    debugger.interaction(None, tb)

    text = out.getvalue()
    assert "[14, 15]" in text
    assert "(7, 14)" in text
    assert "[5]" in text
    assert "[6]" in text
    assert "16  ->\t    return both[y + LIMIT]" in text
    assert text.count("def inner(y: int) -> int:") == 2  # list, longlist
    assert "failing.py" in text


def test_all_frames_can_be_asked_for() -> None:
    """Those of asyncio too, without locals."""
    record = recorded(failing.waits, 3)

    short, full = rebuild(record)[1], rebuild(record, all_frames=True)[1]

    assert {item.tb_frame.f_code.co_name for item in chain(short)} == {"waits", "inner"}
    assert len(chain(full)) == len(record.frames)


def test_a_failure_outside_the_users_code_shows_what_there_is() -> None:
    """No frame of the user's: the library's."""
    record = recorded(failing.square, 7)
    library = tuple(frame._replace(kind="library") for frame in record.frames)

    assert len(chain(rebuild(record._replace(frames=library))[1])) == 2
    assert rebuild(record._replace(frames=()))[1] is None


def test_a_module_that_is_not_here_does_not_matter() -> None:
    """Its frames then see Python's own names only."""
    record = recorded(failing.square, 7)
    gone = tuple(frame._replace(module="not.here") for frame in record.frames)

    frame = chain(rebuild(record._replace(frames=gone))[1])[-1].tb_frame

    assert eval("len(both) + LIMIT", frame.f_globals, frame.f_locals) == 12


def test_the_machinerys_frames_can_be_taken_out() -> None:
    """So that Python's own printing is short too; the remote frames stay."""

    async def cell() -> None:
        await asyncio.sleep(0)
        raise to_exception(record)

    record = recorded(failing.square, 7)
    with pytest.raises(IndexError) as caught:
        asyncio.run(cell())

    tb = remote_traceback.without_machinery(caught.value.__traceback__)

    names = [item.tb_frame.f_code.co_name for item in chain(tb)]
    assert names[1:] == ["cell", "square", "inner"]
    assert chain(tb)[-1].tb_frame.f_locals["y"] == 14
    assert remote_traceback.without_machinery(None) is None


def test_ipython_is_given_a_short_traceback() -> None:
    """Frames of the user's, local then remote, what failed, which action, and nothing of the machinery."""

    async def cell() -> None:
        await asyncio.sleep(0)
        raise to_exception(recorded_child)

    recorded_child = recorded(failing.square, 7, label="square(7)")
    with pytest.raises(IndexError) as caught:
        asyncio.run(cell())

    lines = caught.value._render_traceback_()  # type: ignore[attr-defined]

    text = "\n".join(lines)
    assert lines[1].startswith("IndexError")
    assert "asyncio/" not in text
    assert (
        text.index("in cell")
        < text.index("--> in action square(7) on tcp://w:1")
        < text.index("in square")
        < text.index("in inner")
    )
    assert "return both[y + LIMIT]" in text
    assert "frames of flyte_nb, asyncio and libraries hidden]" in text
    assert lines[-2:] == ["IndexError: list index out of range", "in action square(7) on tcp://w:1"]


def test_where_commands_can_be_typed_they_are_named() -> None:
    """With the action's short name."""
    wording.configure(wording.Presentation(name_of=lambda action: "a17", commands=True))

    last = traceback_text.render(to_exception(recorded(failing.square, 7)))[-1]

    assert "%debug" in last
    assert "%flyte debug a17" in last
    assert "%flyte replay a17" in last


def test_locals_are_not_shown_in_the_text() -> None:
    """It is saved into the notebook."""
    text = "\n".join(traceback_text.render(to_exception(recorded(failing.square, 70_001))))

    assert "140002" not in text


def test_equal_errors_of_a_group_are_folded() -> None:
    """With their number, the first action, and its place."""
    made = [to_exception(recorded(failing.square, n, action=f"x{n}", label=f"square({n})")) for n in (7, 8, 9)]
    made.append(to_exception(recorded(failing.chained, label="chained()")))
    group = ExceptionGroup("several", [*made, KeyError("local")])

    text = "\n".join(traceback_text.render_group(group))

    assert "3 x IndexError: list index out of range - first: square(7)" in text
    assert "ValueError: no rows - chained()" in text
    assert "KeyError: 'local'" in text
    assert text.count("return both[y + LIMIT]") == 1
    assert traceback_text.fold(made) == [
        "3 x IndexError: list index out of range - first: square(7)",
        "ValueError: no rows - chained()",
    ]


def test_the_full_text_has_every_frame() -> None:
    """In Python's own form, with the cause, and with the actions marked."""
    text = traceback_text.full_text(recorded(failing.chained, label="chained()"))

    assert text.index("KeyError: 'a'") < text.index("direct cause") < text.index("ValueError: no rows")
    assert "[in action chained() on tcp://w:1]" in text
    assert f'File "{failing.__file__}", line' in text


def test_an_error_that_lost_its_traceback_shows_the_remote_frames_all_the_same() -> None:
    """Pickling loses tracebacks: an error returned by ``gather(return_exceptions=True)`` of a task, say."""
    error = to_exception(recorded(failing.square, 7))
    error.__traceback__ = None

    assert "return both[y + LIMIT]" in "\n".join(traceback_text.render(error))


def test_an_error_of_ours_without_a_record_is_shown_by_its_local_frames() -> None:
    """No cluster, a wrong argument: the user's line, and not ours."""

    def cell() -> None:
        raise errors.NoClusterError("no cluster")

    with pytest.raises(errors.NoClusterError) as caught:
        cell()

    lines = caught.value._render_traceback_()
    assert lines[-1] == "NoClusterError: no cluster"
    assert 'raise errors.NoClusterError("no cluster")' in "\n".join(lines)


def test_a_recursion_is_shown_in_a_few_frames() -> None:
    """And the number of the others."""
    lines = traceback_text.render(to_exception(recorded(failing.recursive, 0)))

    assert len(lines) < 60
    assert any("more frames]" in line for line in lines)
