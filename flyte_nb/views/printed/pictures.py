"""Pictures in a saved page: heat strips, histograms, points of a comparison, as PNG in data URIs. Runs in: engine thread.

JupyterLab and Notebook take ``<svg>`` out of notebooks that are not trusted, and leave images with a data URI. SVG as such an
image survives there, too, and is larger than a PNG of so few colours.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from flyte_nb.core.history.facts import PHASES, Phase
from flyte_nb.views.words import LOOKS

#: Bars of a histogram, and their size in pixels.
BARS, BAR, GAP, TALL = 40, 5, 1, 28
#: Side of a picture of points, in pixels.
SIDE = 120
#: Times as long as the shortest from which on steps grow with the value.
SPREAD = 50

_PALETTE = b"".join(bytes.fromhex(LOOKS[phase].colour[1:]) for phase in PHASES)
_ALPHA = bytes(90 if phase is Phase.QUEUED else 255 for phase in PHASES) + b"\0"


def heat_png(phases: bytes | bytearray, width: int = 640) -> str:
    """A heat strip, one cell per action, as a data URI: a PNG of a few kB even for 100,000 actions."""
    n = len(phases)
    cell = next((c for c in (12, 10, 8, 6, 5, 4, 3, 2) if -(-n // (width // c)) * c <= 96), 1)
    cols = min(n, width // cell)
    lines = -(-n // cols)
    blank = len(PHASES)
    padded = bytes(phases) + bytes([blank]) * (cols * lines - n)
    raw = bytearray()
    gap = 1 if cell >= 4 else 0
    for at in range(lines):
        cells = padded[at * cols : (at + 1) * cols]
        if cell > 1:
            cells = b"".join(bytes([c]) * (cell - gap) + bytes([blank]) * gap for c in cells)
        raw += (b"\0" + cells) * (cell - gap)
        if gap:
            raw += b"\0" + bytes([blank]) * (cols * cell)
    return _png(cols * cell, lines * cell, bytes(raw))


def histogram_png(values: Sequence[float]) -> str:
    """How values (two or more, sorted, positive) are distributed, as a data URI; in equal factors where they spread far."""
    low, high = max(values[0], 1e-6), values[-1]
    scale = math.log if high / low >= SPREAD else float
    first, last = scale(low), scale(high)

    def bar_of(value: float) -> int:
        return min(BARS - 1, int((scale(max(value, low)) - first) / ((last - first) or 1) * BARS))

    begins = [bisect_left(values, at, key=bar_of) for at in range(BARS + 1)]
    counts = [end - begin for begin, end in pairwise(begins)]
    heights = [math.ceil(n / max(counts) * TALL) for n in counts]
    ink, blank = bytes([Phase.RUNNING.code]) * BAR, bytes([len(PHASES)])
    raw = bytearray()
    for line in range(TALL, 0, -1):
        raw += b"\0" + b"".join((ink if tall >= line else blank * BAR) + blank * GAP for tall in heights)
    return _png(BARS * (BAR + GAP), TALL, bytes(raw))


def points_png(pairs: Sequence[tuple[float, float]]) -> str:
    """Seconds before (to the right) and after (upwards), in equal factors, as a data URI; on the line is what took as long."""
    values = [max(each, 1e-3) for pair in pairs for each in pair]
    low, high = math.log(min(values)), math.log(max(values))
    pixels = [bytearray([len(PHASES)]) * SIDE for _ in range(SIDE)]
    for at in range(SIDE):
        pixels[SIDE - 1 - at][at] = Phase.QUEUED.code
    for pair in pairs:
        right, up = (int((math.log(max(each, 1e-3)) - low) / ((high - low) or 1) * (SIDE - 3)) for each in pair)
        for line in range(SIDE - 3 - up, SIDE - up):
            pixels[line][right : right + 3] = bytes([Phase.RUNNING.code]) * 3
    return _png(SIDE, SIDE, b"".join(b"\0" + bytes(line) for line in pixels))


def _png(width: int, height: int, raw: bytes) -> str:
    """Lines of phases' codes, each behind a zero byte, as a data URI."""
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    data = zlib.compress(raw, 6)
    chunks = {b"IHDR": head, b"PLTE": _PALETTE + b"\0\0\0", b"tRNS": _ALPHA, b"IDAT": data, b"IEND": b""}
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks.items())
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
