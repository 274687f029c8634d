"""A table that tasks pass by reference: `DataFrame`. Runs in: everywhere.

It holds a frame, an address, or both. A frame that has no address yet is written below the run's ``raw_data_path`` when the
reference crosses to another process (when it is pickled): as Parquet where pyarrow can, else as a pickle, which keeps any
frame exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from flyte_nb.core.interface.columns import select
from flyte_nb.core.transport import trust
from flyte_nb.core.values.value_hash import content_hash
from flyte_nb.io import extend, places
from flyte_nb.io.hashing import HashMethod

PARQUET = "parquet"
PICKLE = "pickle"
CSV = "csv"


class DataFrame:
    """A reference to a table.

    Args:
        uri: Its address; None while it is only in memory.
        format: "parquet", "pickle" or "csv"; "" = by the address's ending.
        hash: Hash of the content, for cache keys.

    Example:
        >>> table = DataFrame.from_df(pd.DataFrame({"x": [1, 2]}))
        >>> frame = await table.open(pd.DataFrame).all()
    """

    def __init__(self, uri: str | None = None, format: str = "", hash: str | None = None) -> None:  # noqa: A002
        self.uri = uri
        self.format: str = format
        self.hash = hash
        #: Names of the columns that it stands for; empty for all.
        self.selected: tuple[str, ...] = ()
        self._frame: Any = None
        self._wanted: Any = None

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def from_df(cls, val: Any = None, uri: str | None = None) -> DataFrame:
        """A reference to a frame.

        Args:
            val: A pandas, polars or pyarrow table, or anything that can be pickled.
            uri: Address to write it to; one below the run's ``raw_data_path`` by default.
        """
        made = cls()
        made._frame = val
        if uri is not None:
            made._write(uri)
        return made

    wrap_df = from_df

    @classmethod
    def from_local_sync(
        cls,
        df: Any,
        columns: Any = None,  # noqa: ARG003 - Flyte's
        remote_destination: str | None = None,
        hash_method: Any = None,
    ) -> DataFrame:
        """A reference to a frame.

        Args:
            df: A pandas, polars or pyarrow table.
            columns: Names and types, for people; not checked.
            remote_destination: Address to write it to; one below the run's ``raw_data_path`` by default.
            hash_method: A known hash (text), or a `HashMethod`.
        """
        made = cls.from_df(df, remote_destination)
        if isinstance(hash_method, str):
            made.hash = hash_method
        elif isinstance(hash_method, HashMethod):
            hash_method.update(df)
            made.hash = hash_method.result()
        return made

    @classmethod
    async def from_local(
        cls, df: Any, columns: Any = None, remote_destination: str | None = None, hash_method: Any = None
    ) -> DataFrame:
        """As `from_local_sync`, awaited."""
        return await asyncio.to_thread(cls.from_local_sync, df, columns, remote_destination, hash_method)

    @classmethod
    def from_existing_remote(cls, remote_path: str, format: str | None = None, **_facts: Any) -> DataFrame:  # noqa: A002
        """A reference to a table that exists.

        Args:
            remote_path: Its address.
            format: "parquet", "pickle" or "csv"; None = by the address's ending.
        """
        return cls(uri=remote_path, format=format or "")

    @classmethod
    def columns(cls) -> dict[str, type]:
        """Columns that the class itself declares: none."""
        return {}

    @classmethod
    def column_names(cls) -> list[str]:
        """Names of `columns`."""
        return list(cls.columns())

    # -- reading it -----------------------------------------------------------------------------------------------

    @property
    def val(self) -> Any:
        """The frame, where it is in memory; None otherwise."""
        return self._frame

    def open(self, dataframe_type: Any) -> DataFrame:
        """Say as what it is to be read: ``await table.open(pd.DataFrame).all()``.

        Args:
            dataframe_type: ``pandas.DataFrame``, ``polars.DataFrame``, ``polars.LazyFrame`` or ``pyarrow.Table``.
        """
        self._wanted = dataframe_type
        return self

    def all_sync(self) -> Any:
        """The whole frame.

        Raises:
            ValueError: `open` was not called, so its type is unknown.
            FileNotFoundError: It is not there.
        """
        if self._wanted is None:
            raise ValueError("No dataframe type set: write table.open(pd.DataFrame).all().")
        return self.__flyte_as__(self._wanted)

    async def all(self) -> Any:
        """The whole frame, awaited."""
        return await asyncio.to_thread(self.all_sync)

    async def iter(self) -> AsyncIterator[Any]:
        """The frame in one piece: for programs that iterate."""
        yield await self.all()

    def _read(self, wanted: Any) -> Any:
        assert self.uri is not None, "a DataFrame without a frame and an address holds nothing"
        kind = self.format or _format_of(self.uri)
        if extend.can_decode(wanted, places.scheme_of(self.uri), self.format):
            return extend.decode(self.uri, places.scheme_of(self.uri), self.format, wanted, self.selected)
        if kind == PARQUET:
            import pandas as pd

            place = self.uri if places.is_remote(self.uri) else places.on_disk(self.uri)
            if str(getattr(wanted, "__module__", "")).partition(".")[0] == "polars":
                import polars as pl

                return pl.read_parquet(place)
            return pd.read_parquet(place)
        with places.open_at(self.uri, "rb") as file:
            if kind == CSV:
                import pandas as pd

                return pd.read_csv(file)
            if not places.is_remote(self.uri):
                trust.check(Path(places.on_disk(self.uri)))
            return pickle.load(file)

    def _write(self, uri: str | None = None) -> None:
        given = self.uri
        self.uri = uri or given or places.random_place()
        written = extend.encode(self._frame, self, places.scheme_of(self.uri), self.format)
        if written is not None:
            self.uri, self.format = written
            return
        self.uri = given
        data, kind = _encoded(self._frame)
        place = uri or places.random_place(f"data.{'parquet' if kind == PARQUET else 'pkl'}")
        with places.open_at(place, "wb") as file:
            file.write(data)
        if kind != PARQUET and not places.is_remote(place):
            Path(places.on_disk(place)).chmod(0o600)  # or `_read` may refuse it
        self.uri, self.format = place, kind

    @classmethod
    def __flyte_of__(cls, frame: Any) -> Any:
        """A frame where a reference is wanted: wrapped. Anything else is left as it is."""
        package = type(frame).__module__.partition(".")[0]
        known = package in {"pandas", "polars", "pyarrow"} or type(frame) in extend.DataFrameTransformerEngine.ENCODERS
        return cls.from_df(frame) if known else frame

    def __flyte_as__(self, wanted: Any) -> Any:
        """This reference where a frame is wanted: read."""
        if extend.makes(wanted) and (self.selected or not isinstance(self._frame, wanted)):
            if self.uri is None:
                self._write()
            return self._read(wanted)
        frame = convert(self._frame if self._frame is not None else self._read(wanted), wanted)
        return select(frame, self.selected) if self.selected else frame

    def __flyte_select__(self, columns: tuple[str, ...]) -> DataFrame:
        """A reference to these columns of it."""
        made = type(self)()
        made.__dict__.update(self.__dict__, selected=columns)
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """How pydantic takes it as a field of a model: as it is, or as the dict that it is written as."""
        from pydantic_core import core_schema

        def read(value: Any) -> DataFrame:
            if isinstance(value, dict):
                return cls(value.get("uri"), value.get("format") or "", value.get("hash"))
            made = cls.__flyte_of__(value)
            if not isinstance(made, cls):
                raise ValueError(f"a DataFrame was expected, not {type(value).__name__}")  # noqa: TRY004 - pydantic's
            return made

        def written(table: DataFrame) -> dict[str, Any]:
            state = table.__getstate__()
            return {key: state[key] for key in ("uri", "format", "hash")}

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(written)
        )

    # -- pickling -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        if self.uri is None and self._frame is not None:
            with contextlib.suppress(Exception):  # a table that only its encoder can write
                self.hash = self.hash or content_hash(self._frame).hex()
            self._write()
        return {
            "uri": self.uri, "format": self.format, "hash": self.hash, "selected": self.selected, "_frame": None,
            "_wanted": None,
        }  # fmt: skip

    def _flyte_content_hash_(self) -> str:
        """What a cache key takes for it: its content where that is at hand, else its address."""
        if self.hash is None and self._frame is not None:
            self.hash = content_hash(self._frame).hex()
        return self.hash or str(self.uri)

    def __repr__(self) -> str:
        return f"DataFrame(uri={self.uri!r}, format={self.format!r})"


def _reduce(table: Any) -> Any:
    """How to pickle a table of a type that the program has registered handlers for: written by its encoder, and read there."""
    engine = extend.DataFrameTransformerEngine
    if type(table) not in engine.ENCODERS or type(table) not in engine.DECODERS:
        return table.__reduce_ex__(5)
    return _rebuilt, (DataFrame.from_df(table), type(table), engine.DECODERS[type(table)])


def _rebuilt(reference: DataFrame, kind: type, decoders: dict[str, dict[str, Any]]) -> Any:
    extend.DataFrameTransformerEngine.DECODERS.setdefault(
        kind, decoders
    )  # a global arrives ahead of its task's companions
    return reference.open(kind).all_sync()


extend.reducer = _reduce


def _format_of(uri: str) -> str:
    ending = uri.rpartition(".")[2].lower()
    return {"parquet": PARQUET, "pq": PARQUET, "csv": CSV, "pkl": PICKLE, "pickle": PICKLE}.get(ending, PARQUET)


def _encoded(frame: Any) -> tuple[bytes, str]:
    """A frame's bytes, and their format."""
    buffer = io.BytesIO()
    package = type(frame).__module__.partition(".")[0]
    with contextlib.suppress(Exception):  # no pyarrow; or columns that Parquet cannot hold
        if package == "pandas":
            frame.to_parquet(buffer)
            return buffer.getvalue(), PARQUET
        if package == "polars":
            (frame.collect() if hasattr(frame, "collect") else frame).write_parquet(buffer)
            return buffer.getvalue(), PARQUET
        if package == "pyarrow":
            import pyarrow.parquet as pq

            pq.write_table(frame, buffer)
            return buffer.getvalue(), PARQUET
    return pickle.dumps(frame, 5), PICKLE


def convert(frame: Any, wanted: Any) -> Any:
    """A frame as another package's, or as it is where it is of the wanted type already.

    Args:
        frame: A pandas, polars or pyarrow table.
        wanted: The type.

    Raises:
        TypeError: There is no way from the one to the other.
    """
    if not isinstance(wanted, type) or isinstance(frame, wanted):
        return frame
    package = wanted.__module__.partition(".")[0]
    if package == "pandas" and hasattr(frame, "to_pandas"):
        return frame.to_pandas()
    if package == "polars":
        import polars as pl

        if wanted is pl.LazyFrame:
            return convert(frame, pl.DataFrame).lazy()
        if hasattr(frame, "collect"):
            return frame.collect()
        return pl.from_arrow(frame) if hasattr(frame, "schema") else pl.from_pandas(frame)
    if package == "pyarrow":
        import pyarrow as pa

        return frame.to_arrow() if hasattr(frame, "to_arrow") else pa.Table.from_pandas(frame)
    raise TypeError(
        f"A {type(frame).__module__}.{type(frame).__name__} cannot be opened as {wanted.__module__}.{wanted.__name__}. "
        "Open it as its own type, or as pandas.DataFrame."
    )
