"""``asyncio.run()`` in cells: ``%flyte nest``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.kernel.nest import apply
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.session import Session


@subcommand("nest", "", "allow asyncio.run() in cells (applies nest-asyncio2)")
def nest(_session: Session, *_words: str) -> str:
    """Apply nest-asyncio2."""
    return apply()
