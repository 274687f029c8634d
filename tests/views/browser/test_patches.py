"""Messages about a run: complete, bounded, and only what changed."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
from array import array

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser.interest import SCREEN_ROWS, parse_interest
from flyte_nb.views.browser.patches import LOG_LINES, PHASE_BYTES, PatchStream
from flyte_nb.views.run_model import TAIL_LINES, RunModel
from tests.views.browser.recording import record as record_stream

STREAM = pathlib.Path(__file__).parents[2] / "data" / "stream.json"


def test_recorded_stream_is_what_python_sends() -> None:
    """The file that the browser's tests read is what this code sends today."""
    now = json.loads(json.dumps(record_stream()))
    if os.environ.get("FLYTE_NB_RECORD"):
        STREAM.write_text(json.dumps(now, indent=1) + "\n")

    assert json.loads(STREAM.read_text()) == now


def test_replayed_messages_add_up_to_the_run(store: RunStore) -> None:
    """Upserting every row of every message gives the phases that the store holds."""
    stream = record_stream()
    rows = {}
    for message in stream["messages"]:
        rows.update({row["name"]: row["phase"] for row in message["content"]["rows"]})

    assert stream["expected"]["phases"] == rows
    assert stream["expected"]["counts"] == stream["messages"][-1]["content"]["run"]["counts"]


def start(store: RunStore, events: list[ev.Event]) -> PatchStream:
    store.append(events[0])
    return PatchStream(RunModel(store.runs[events[0].run], lambda: syn.T0 + 3))


def test_sequence_numbers_have_no_gap(store: RunStore) -> None:
    """Every message carries the next number, snapshots included."""
    events = list(syn.mapped(30, 0))
    patches = start(store, events)
    seqs = [patches.snapshot().content["seq"]]
    for event in events[1:40]:
        store.append(event)
        message = patches.patch()
        assert message is not None
        seqs.append(message.content["seq"])
    seqs.append(patches.snapshot().content["seq"])

    assert list(range(1, len(seqs) + 1)) == seqs


def test_nothing_changed_is_no_message(store: RunStore) -> None:
    """A quiet run costs no traffic; asked to, the header alone is sent."""
    patches = start(store, list(syn.one_action()))
    patches.snapshot()

    assert patches.patch() is None
    forced = patches.patch(force=True)
    assert forced is not None
    assert [] == forced.content["rows"]


def test_large_run_sends_only_rows_on_screen(store: RunStore) -> None:
    """Of 5,000 actions a view hears of those it shows."""
    events = list(syn.mapped(5_000, 0))
    patches = start(store, events)
    store.extend(events[1:5_002])
    patches.snapshot()
    patches.show("v", parse_interest({"ranges": [["a0/g:score", 10, 30]], "open": ["a0"]}))
    fresh = patches.patch()
    assert fresh is not None
    store.extend(events[5_002:])
    message = patches.patch()
    assert message is not None

    assert "<PatchStream r1 [3 messages, 0 heat strips behind]>" == repr(patches)
    assert "<RunModel r1 [5000 actions, 0 errors, up to date]>" == repr(patches.model)
    assert set(range(10, 30)) == {row["index"] for row in fresh.content["rows"]}
    assert set(range(10, 30)) == {row["index"] for row in message.content["rows"]}
    assert {Phase.SUCCEEDED.code} == {row["phase"] for row in message.content["rows"]}


def test_phase_array_arrives_whole_in_bounded_pieces(store: RunStore) -> None:
    """The stretches of all patches put together are the group's phases, and no patch holds more than its share."""
    n = 100_000
    events = list(syn.mapped(n, 5, bundle=100))
    patches = start(store, events)
    store.extend(events[1 : n + 2])
    got = bytearray(n)
    for content, buffers in [patches.snapshot()]:
        for part, data in zip(content["phases"], buffers, strict=True):
            got[part["at"] : part["at"] + len(data)] = data
    sizes = []
    for at in range(n + 2, len(events), 60_000):
        store.extend(events[at : at + 60_000])
        while (message := patches.patch()) is not None:
            sizes.append(sum(map(len, message.buffers)))
            for part, data in zip(message.content.get("phases", []), message.buffers, strict=True):
                got[part["at"] : part["at"] + len(data)] = data

    assert bytes(store.runs["r1"].groups["a0/g:score"].phases) == bytes(got)
    assert max(sizes) <= PHASE_BYTES + 1_024


def test_log_flood_is_cut_and_counted(store: RunStore) -> None:
    """Of a million lines a patch holds a few hundred, and says how many it left out."""
    events = list(syn.one_action())
    patches = start(store, events)
    store.extend(events[1:3])
    actor = syn.Actor("r1", "x1", "a0", "square(3)")
    for _ in range(100):
        store.append(actor.logged(syn.T0, *["x" * 300] * 1_000, hidden=9_000))
    few = patches.patch()
    assert few is not None
    patches.show("v", parse_interest({"logs": True}))
    store.append(actor.logged(syn.T0, *["y"] * 1_000))
    many = patches.patch()
    assert many is not None

    assert len(few.content["logs"]["lines"]) <= TAIL_LINES
    assert 1_000_000 == few.content["logs"]["skipped"] + len(few.content["logs"]["lines"])
    assert LOG_LINES == len(many.content["logs"]["lines"])
    assert few.size < 100_000


def test_view_made_late_shows_what_happened_before(store: RunStore) -> None:
    """`%flyte show` of an old run has its rows, errors and last lines."""
    store.extend(syn.nested())
    message = PatchStream(RunModel(store.runs["r1"])).snapshot()

    assert 13 == len(message.content["rows"])
    assert ["KeyError: 'discount'"] == [fold["text"] for fold in message.content["errors"]]
    assert 4 == len(message.content["logs"]["lines"])


def test_failure_passed_on_by_parents_is_one_error(store: RunStore) -> None:
    """The action that failed is named, not each parent that its error passed through, whatever the order."""
    events = list(syn.nested())
    patches = start(store, events)
    for event in events[1:]:
        store.append(event)
        patches.patch()

    assert [(1, "render_report(['emea', 'apac', 'amer'])")] == [
        (len(f.names), f.first.label) for f in patches.model.errors.most()
    ]


def test_root_is_no_error_of_its_own(store: RunStore) -> None:
    """What a cell raised is shown by the cell; the errors name the actions."""
    events = list(syn.nested())
    patches = start(store, events)
    store.extend(events[1:])
    store.append(
        ev.ActionEnded("r1", "a0", 1, Phase.FAILED, syn.T0 + 3, ErrorNote("user", "RuntimeUserError", "'discount'"))
    )
    patches.patch()

    assert ["KeyError: 'discount'"] == [fold.text for fold in patches.model.errors.most()]


def test_last_patch_puts_nothing_off(store: RunStore) -> None:
    """Thousands of failures at once are folded over several patches, but the last one tells all."""
    events = list(syn.mapped(20_000, 15_000, bundle=100))
    patches = start(store, events)
    store.extend(events[1:])
    first = patches.patch()
    last = patches.patch(last=True)
    assert first is not None
    assert last is not None

    assert first.content["errors"][0]["n"] < 15_000
    assert 15_000 == last.content["errors"][0]["n"]


def test_retried_failure_leaves_the_errors(store: RunStore) -> None:
    """An action that is retried after it failed is no error any more."""
    events = list(syn.mapped(10, 1))
    patches = start(store, events)
    store.extend(events[1:])
    patches.patch()
    assert 1 == len(patches.model.errors)
    name = next(iter(patches.model.errors.most()[0].names))
    store.append(ev.ActionNoted("r1", name, 99, Phase.QUEUED, syn.T0 + 5, "retried", 1))
    message = patches.patch()
    assert message is not None

    assert [] == message.content["errors"]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"ranges": "x", "open": 3, "numbers": {"a": 1}, "logs": "yes"},
        {"ranges": [[1, 2, 3], ["g", -1, 5], ["g", 5, 2], ["g", True, 2], None, []]},
        {"numbers": [-1, "3", None, True, 10**12], "open": [None, 3]},
    ],
)
def test_nonsense_from_the_browser_is_left_out(store: RunStore, args: dict[str, object]) -> None:
    """A malformed message neither raises nor asks for rows."""
    patches = start(store, list(syn.one_action()))

    patches.show("v", parse_interest(args))
    assert set() == patches.interests.names(patches.record)


def test_a_view_cannot_ask_for_everything(store: RunStore) -> None:
    """However much a browser asks for, it gets a screen or so."""
    events = list(syn.mapped(3_000, 0))
    patches = start(store, events)
    store.extend(events[1:])
    wanted = parse_interest({"ranges": [["a0/g:score", 0, 3_000]] * 5, "numbers": list(range(3_000))})

    assert SCREEN_ROWS * 2 >= len(wanted.names(patches.record))


def test_throughput_is_shown_when_it_means_something(store: RunStore) -> None:
    """Rate and time left appear while a large run moves, and are gone when it has ended."""
    events = list(syn.mapped(1_000, 0))
    store.append(events[0])
    now = [syn.T0]
    patches = PatchStream(RunModel(store.runs["r1"], lambda: now[0]))
    store.extend(events[1:1_002])
    patches.patch()
    ends = [e for e in events if isinstance(e, ev.ActionEnded)]
    for second in range(1, 6):
        now[0] = syn.T0 + second
        store.extend(ends[(second - 1) * 100 : second * 100])
        patches.patch()
    running = patches.header()
    store.append(ev.RunClosed("r1", Phase.ABORTED, syn.T0 + 6))

    assert 100 == running["rate"]
    assert 5 == running["eta"]
    assert "rate" not in patches.header()


def test_of_rows_those_on_screen_are_sent_when_they_change(store: RunStore) -> None:
    """Columns show as actions do: tallies, phases, and rows where a view looks; a second message has nothing of them."""
    names = b"".join(row.to_bytes(8, "big") for row in range(1_000))
    inputs = [pickle.dumps(((row,), {}), 5) for row in range(1_000)]
    opened = ev.RunOpened("r1", "cell", "cell", syn.T0)
    patches = start(store, [opened])
    store.append(ev.CallsQueued("r1", 1, "a0", "e.t", "t_map", syn.T0, 1, names, "c0de", inputs, ("t", ("x",), 1)))
    (group,) = store.runs["r1"].groups
    patches.show("v", parse_interest({"ranges": [[group, 100, 110]], "open": ["a0"]}))
    first = patches.patch()
    assert first is not None
    assert [(row["label"], row["phase"]) for row in first.content["rows"]] == [(f"t({n})", 0) for n in range(100, 110)]

    rows = array("I", range(90, 105))
    times, busy = array("d", [syn.T0 + 1] * 15).tobytes(), array("f", [0.1] * 15).tobytes()
    outputs: list[bytes | None] = [pickle.dumps(row, 5) for row in rows]
    store.append(
        ev.CallsEnded(
            "r1", 1, Phase.SUCCEEDED, syn.T0 + 2, rows.tobytes(), times, times, busy, outputs, {}, ("w", 1, "s")
        )
    )
    second = patches.patch()
    assert second is not None
    assert [(row["id"], row["preview"]) for row in second.content["rows"]] == [(n, str(n)) for n in range(100, 105)]
    assert second.content["run"]["counts"][Phase.SUCCEEDED.code] == 15
    assert second.buffers
    assert patches.patch() is None
