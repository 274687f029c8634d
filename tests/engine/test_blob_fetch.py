"""Large buffers of other machines: those that answer are not kept back by those that do not. No cluster."""

from __future__ import annotations

import asyncio

from flyte_nb.core.transport import blob_files
from flyte_nb.core.transport.blobs import Blobs, Received
from flyte_nb.core.transport.payload import Packed
from flyte_nb.engine.links.blob_fetch import ON_THEIR_WAY, PIECE_BYTES, Fetcher
from tests.engine.test_peers import Loop


async def test_silent_workers_keep_back_nothing_that_others_have() -> None:
    """However many do not answer; once one is lost, what was asked of it is lost, too, and it can be asked again."""
    peers = Loop("me")
    fetcher = Fetcher(peers.questions, Blobs("me"))
    come = asyncio.Event()

    def fetch(holder: str, path: str, nbytes: int) -> Received:
        blob = Received(path, nbytes, holder, None, None, path)
        fetcher.item(Packed(b"", (blob,), nbytes), come.set)
        return blob

    silent = [fetch(f"tcp://silent{n}", f"/gone{n}", ON_THEIR_WAY * PIECE_BYTES) for n in range(6)]
    content = bytes(range(256)) * 2048
    peers.link("tcp://b")
    wanted = fetch("tcp://b", blob_files.write(memoryview(content)), len(content))
    async with asyncio.timeout(10):
        await come.wait()
    assert bytes(wanted.get()) == content
    assert not any(blob.here for blob in silent)

    for n in range(6):
        peers.questions.lost(f"tcp://silent{n}")
    assert all(blob.here for blob in silent)
    come.clear()
    peers.link("tcp://silent0")
    again = fetch("tcp://silent0", blob_files.write(memoryview(content)), len(content))
    async with asyncio.timeout(10):
        await come.wait()
    assert bytes(again.get()) == content
