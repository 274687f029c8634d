"""Static page of a run in a notebook's outputs, HTML and text, replaced as a whole. Runs in: engine thread."""

from __future__ import annotations

import linecache
import time
from typing import Any

from flyte_nb.core.failures import wording
from flyte_nb.core.failures.rebuild import shown_frames
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.views.printed import html, text
from flyte_nb.views.run_model import RunModel
from flyte_nb.views.surface import Display, Mode, Output, Surface

#: Seconds between two updates at least: each replaces the whole output.
HTML_EVERY = 0.5
#: Seconds without news after which the page is replaced all the same while a run is open (its duration).
REFRESH_EVERY = 2.0
#: Outputs that show one run at once; the oldest beyond it keeps what it shows.
MAX_OUTPUTS = 20
#: Frames of a failure in a page.
PAGE_FRAMES = 20


class HtmlPage(Surface):
    """HTML updated in place. `display` is where the first output goes; None: nowhere yet."""

    mode = Mode.HTML

    def __init__(self, model: RunModel, display: Display | None) -> None:
        super().__init__(model)
        self.outputs: list[Output] = [Output(display)] if display is not None else []
        #: When an update is sent even without news, on the monotonic clock.
        self.refresh_at: float = 0.0

    def interval(self) -> float:
        """Seconds to the next update at least."""
        return HTML_EVERY

    def open(self) -> None:
        """Show the page as it is now."""
        self.model.take()
        self.show_page()

    def update(self) -> int:
        """Replace the page if anything changed."""
        now = time.monotonic()
        if self.model.changed or now > self.refresh_at:
            self.refresh_at = now + REFRESH_EVERY
            self.model.take()
            self.show_page()
        return 0

    def close(self) -> None:
        """Leave the page of the ended run."""
        if self.outputs:
            self.model.take(last=True)
            self._read_failures()
            self.show_page()

    def also(self, display: Display) -> None:
        """Show the page in one more output."""
        self.model.take()
        self.add_output(display).show(self.page())

    def add_output(self, display: Display) -> Output:
        """One more output, empty yet."""
        output = Output(display)
        self.outputs = [*self.outputs[1 - MAX_OUTPUTS :], output]
        return output

    def page(self) -> dict[str, Any]:
        """The mime bundle of the page."""
        return {"text/plain": text.screen(self.model), "text/html": html.render(self.model, self.uid)}

    def show_page(self, *, only_live: bool = False) -> None:
        """Put the page into the outputs; with `only_live` into those that hold a widget."""
        page = self.page()
        for output in self.outputs:
            # Replacing a page by itself would make browsers that have a live view over it flicker.
            if output.live or not only_live:
                output.show(page)

    def _read_failures(self) -> None:
        """Read what the page shows of failures: of the first of each kind."""
        texts = self.model.failure_texts
        for fold in self.model.errors.most(html.MAX_FOLDS):
            error = fold.first.error
            if error is not None and error.record is not None and fold.first.name not in texts:
                text = failure_text(error.record)
                if text:
                    texts[fold.first.name] = text


def failure_text(data: bytes) -> str:
    """The user's frames of a pickled failure record and its message, as a traceback; "" if it cannot be read."""
    try:
        record = FailureRecord.loads(data)
        out = []
        for frame in shown_frames(record)[-PAGE_FRAMES:]:
            file = wording.current().file(frame.filename)
            out.append(f"{file}, line {frame.lineno}, in {frame.name}")
            line = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
            if line:
                out.append(f"    {line}")
        return "\n".join([*out, f"{record.type_name}: {record.message}".rstrip(": "), *record.notes])
    except Exception:  # A snapshot without a traceback is better than none.
        return ""
