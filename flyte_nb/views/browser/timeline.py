"""Time axis of a run: the spans of its attempts by worker and slot, merged until they fit. Runs in: engine thread."""

from __future__ import annotations

import array
import asyncio

from flyte_nb.core.history.facts import Action, Attempt, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.views.browser.query import SLICE
from flyte_nb.views.browser.rows import Json

#: Spans sent for a time axis; shorter ones that touch are merged.
MAX_SPANS = 12_000
#: Lanes sent for a time axis.
MAX_LANES = 256
#: Spans that are packed into lanes by time (sorting more would stall the engine): beyond, lanes are those that workers report.
MAX_PACKED = 20_000
#: Seconds by which two spans of one lane may overlap: clocks of two processes.
OVERLAP = 0.0005
#: Added to the phase code of an action that has children: it is suspended for most of its time and holds no slot.
PARENT = 16

#: (attempt, phase code, action number, end in seconds since the epoch)
_Span = tuple[Attempt, float, int, float]


def _start(span: _Span) -> float:
    return span[0].started_at or 0.0


class _Lanes:
    """Spans by lane, merged where they are too short to be seen."""

    def __init__(self, start: float, grain: float) -> None:
        self._start = start
        self._grain = grain
        self.keys: dict[tuple[str, str], int] = {}
        self.left_out = 0
        #: Per lane: [start, end, code, action number, how many were merged, busy seconds].
        self._spans: list[list[list[float]]] = []

    def pack(self, spans: list[_Span]) -> None:
        """Give each span the first lane of its worker that is free, so that a lane is a slot, whatever the worker calls it."""
        free: dict[str, list[float]] = {}
        for span in sorted(spans, key=_start):
            attempt, code, number, stop = span
            assert attempt.started_at is not None
            ends = free.setdefault(attempt.worker, [0.0])
            # An action that awaits its children holds no slot: it is a line below whatever runs in the first.
            free_from = attempt.started_at + OVERLAP
            at = 0 if code >= PARENT else next((i for i, end in enumerate(ends) if end <= free_from), len(ends))
            if at == len(ends):
                ends.append(stop)
            elif code < PARENT:
                ends[at] = stop
            self.add(attempt, code, number, stop, str(at))

    def add(self, attempt: Attempt, code: float, number: int, stop: float, slot: str) -> None:
        key = (attempt.worker, slot)
        lane = self.keys.get(key)
        if lane is None:
            if len(self.keys) >= MAX_LANES:
                self.left_out += 1
                return
            lane = self.keys[key] = len(self.keys)
            self._spans.append([])
        assert attempt.started_at is not None
        a, b = attempt.started_at - self._start, stop - self._start
        busy = attempt.busy or (0.0 if code >= PARENT else b - a)
        _put(self._spans[lane], [a, b, code, float(number), 1.0, busy], self._grain)

    def fit(self) -> list[tuple[int, list[float]]]:
        """At most `MAX_SPANS` spans with their lanes: merged more coarsely until they fit."""
        grain = self._grain
        while sum(map(len, self._spans)) > MAX_SPANS and grain < 1e6:
            grain = max(grain * 2, 1e-4)
            before = sum(map(len, self._spans))
            self._spans = [_coarser(spans, grain) for spans in self._spans]
            if grain > 1e3 and sum(map(len, self._spans)) == before:
                break
        room = MAX_SPANS // max(1, len(self._spans)) if sum(map(len, self._spans)) > MAX_SPANS else MAX_SPANS
        self.left_out += sum(max(0, len(spans) - room) for spans in self._spans)
        return [(lane, span) for lane, spans in enumerate(self._spans) for span in spans[:room]]


def _put(spans: list[list[float]], span: list[float], grain: float) -> None:
    """Append a span, or merge it into the last one: only what a pixel can't tell apart, never a failure into a success."""
    if spans:
        last = spans[-1]
        if last[2] == span[2] and span[1] - last[0] < grain and span[0] >= last[0]:
            last[1] = max(last[1], span[1])
            last[4] += span[4]
            last[5] += span[5]
            return
    spans.append(span)


def _coarser(spans: list[list[float]], grain: float) -> list[list[float]]:
    out: list[list[float]] = []
    for span in spans:
        _put(out, span, grain)
    return out


async def timeline(
    record: RunRecord, now: float, window: tuple[float, float] | None = None
) -> tuple[Json, list[bytes]]:
    """Spans of all attempts by lane (worker and slot), for a time axis.

    Args:
        record: The run.
        now: Seconds since the epoch.
        window: First and last second, counted from the run's start; None for all.

    Returns:
        ``{"lanes": [[worker, slot], ...], "n", "left_out", "end"}`` and one buffer of float32, seven per span: lane, start,
        end, phase code (`PARENT` added for an action with children), action number, how many were merged, busy seconds.
    """
    start = record.state.started_at
    end = (record.state.ended_at or now) - start
    low, high = window or (0.0, max(end, 0.001))
    lanes = _Lanes(start, (high - low) / 3_000 if len(record.numbered) > MAX_SPANS else 0.0)
    spans: list[_Span] = []
    many = False
    for at in range(0, len(record.numbered), SLICE):
        for name in record.numbered[at : at + SLICE]:
            action = record.actions[name]
            extra = PARENT if name in record.children else 0
            for attempt in action.all_attempts:
                if attempt.started_at is None:
                    continue
                stop = attempt.ended_at or action.ended_at or now
                if stop - start >= low and attempt.started_at - start <= high:
                    spans.append((attempt, float(_attempt_phase(action, attempt).code + extra), action.number, stop))
        await asyncio.sleep(0)
        many = many or len(spans) > MAX_PACKED
        while many and spans:
            for span in spans[:SLICE]:
                lanes.add(*span, span[0].slot)
            del spans[:SLICE]
            await asyncio.sleep(0)
    lanes.pack(spans)
    fitted = lanes.fit()
    workers = {worker: at for at, worker in enumerate(dict.fromkeys(worker for worker, _ in lanes.keys))}
    ordered = sorted(lanes.keys, key=lambda key: (workers[key[0]], len(key[1]), key[1]))
    rank = {lanes.keys[key]: at for at, key in enumerate(ordered)}
    floats = array.array("f")
    for lane, values in fitted:
        floats.append(float(rank[lane]))
        floats.extend(values)
    content = {
        "lanes": [[worker, slot] for worker, slot in ordered], "n": len(fitted), "left_out": lanes.left_out,
        "end": round(end, 3),
    }  # fmt: skip
    return content, [floats.tobytes()]


def _attempt_phase(action: Action, attempt: Attempt) -> Phase:
    if attempt is action.attempt and (attempt.ok is None or action.phase.is_terminal):
        return action.phase
    return Phase.SUCCEEDED if attempt.ok else Phase.RUNNING if attempt.ok is None else Phase.FAILED
