"""``flyte.io.extend``: how tables of other types are written and read, registered by the program. Runs in: everywhere.

An encoder writes a table of its type to an address, a decoder reads one from there. What is registered goes to the workers
with the code of the tasks. Values of a type with both cross between tasks through them; those of pandas, polars and pyarrow
cross pickled, and only `flyte_nb.io.DataFrame` uses handlers for these. The messages that handlers get and give are those
of the package ``flyteidl2`` where that is installed, else plain objects with the same fields; an encoder may also return the
address alone.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from abc import ABC, abstractmethod
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, TypeVar

from flyte_nb.core.interface.columns import is_table
from flyte_nb.core.tasks.from_sync import run_coroutine
from flyte_nb.core.transport.companions import COMPANIONS
from flyte_nb.core.values import pickler
from flyte_nb.core.values.by_value.classes import is_made

T = TypeVar("T")

#: Stands for any protocol that fsspec knows.
ANY = "fsspec"
#: Types that came with code whose handlers are kept.
MAX_CAME = 500
#: Those, by their latest use.
_latest: OrderedDict[type, None] = OrderedDict()


class DuplicateHandlerError(ValueError):
    """There is a handler for this type, protocol and format."""


class _Handler(ABC, Generic[T]):
    def __init__(
        self, python_type: type[T], protocol: str | None = None, supported_format: str | None = None, **_more: Any
    ) -> None:
        self._python_type = python_type
        self._protocol = protocol.replace("://", "") if protocol else None
        self._supported_format = supported_format or ""

    @property
    def python_type(self) -> type[T]:
        """Class of the tables."""
        return self._python_type

    @property
    def protocol(self) -> str | None:
        """Kind of address ("s3"); None for all."""
        return self._protocol

    @property
    def supported_format(self) -> str:
        """Format of what is written or read; "" for any."""
        return self._supported_format


class DataFrameEncoder(_Handler[T]):
    """Writes tables of a type. Derive from it, and register an instance with `DataFrameTransformerEngine`."""

    @abstractmethod
    async def encode(self, dataframe: Any, structured_dataset_type: Any) -> Any:
        """Write a table.

        Args:
            dataframe: The `flyte_nb.io.DataFrame` with the table in ``val``, and in ``uri`` where to put it.
            structured_dataset_type: Its ``format`` and ``columns``.

        Returns:
            A ``StructuredDataset`` (its ``uri``, and its format in ``metadata``), or the address.
        """


class DataFrameDecoder(_Handler[T]):
    """Reads tables of a type. Derive from it, and register an instance with `DataFrameTransformerEngine`."""

    @abstractmethod
    async def decode(self, flyte_value: Any, current_task_metadata: Any) -> Any:
        """Read a table.

        Args:
            flyte_value: Its ``uri`` and ``metadata``.
            current_task_metadata: In ``structured_dataset_type.columns`` those that are wanted; none for all.
        """


class DataFrameTransformerEngine:
    """The handlers of this process."""

    ENCODERS: ClassVar[dict[type, dict[str, dict[str, Any]]]] = {}
    DECODERS: ClassVar[dict[type, dict[str, dict[str, Any]]]] = {}
    DEFAULT_PROTOCOLS: ClassVar[dict[type, str]] = {}
    DEFAULT_FORMATS: ClassVar[dict[type, str]] = {}
    Renderers: ClassVar[dict[type, Any]] = {}

    @classmethod
    def register(
        cls, h: Any, default_for_type: bool = False, override: bool = False, default_format_for_type: bool = False,
        default_storage_for_type: bool = False,
    ) -> None:  # fmt: skip
        """Have an encoder or decoder used, here and on workers.

        Args:
            h: The handler. One without a protocol is for all, and stays out where there is one already.
            default_for_type: Whether its format and protocol are the type's own.
            override: Whether it replaces an earlier one. (One of the same class does: its cell was run again.)
            default_format_for_type: As `default_for_type`, for the format.
            default_storage_for_type: As `default_for_type`, for the protocol.

        Raises:
            DuplicateHandlerError: There is another one for its type, protocol and format.
            TypeError: It is no handler.
            ValueError: It is for all protocols, and meant to be the default.
        """
        table = cls._table_of(h)
        if h.protocol is None and default_for_type:
            raise ValueError(f"{h!r} handles all protocols: none of them can be the default. Give it one.")
        protocol = {None: ANY, "/": "file"}.get(h.protocol, h.protocol)
        handlers = table.setdefault(h.python_type, {}).setdefault(protocol, {})
        present = handlers.get(h.supported_format)
        if present is not None and not (override or type(present).__qualname__ == type(h).__qualname__):
            if h.protocol is None:
                return
            raise DuplicateHandlerError(
                f"There is a handler of {(h.python_type, protocol, h.supported_format)} already."
            )
        handlers[h.supported_format] = h
        if (default_for_type or default_format_for_type) and h.supported_format:
            cls._default(cls.DEFAULT_FORMATS, h.python_type, h.supported_format, override)
        if default_for_type or default_storage_for_type:
            cls._default(cls.DEFAULT_PROTOCOLS, h.python_type, protocol, override)
        if not is_table(h.python_type):
            pickler.Pickler.dispatch_table[h.python_type] = reducer
        key = (table is cls.ENCODERS, h.python_type, protocol, h.supported_format)
        options = (default_for_type, True, default_format_for_type, default_storage_for_type)
        if not COMPANIONS.add(key, functools.partial(_register_there, h, options)) and is_made(h.python_type):
            _came(h.python_type)

    @classmethod
    def _table_of(cls, handler: Any) -> dict[type, dict[str, dict[str, Any]]]:
        if isinstance(handler, DataFrameEncoder):
            return cls.ENCODERS
        if isinstance(handler, DataFrameDecoder):
            return cls.DECODERS
        raise TypeError(f"A DataFrameEncoder or a DataFrameDecoder can be registered, not {handler!r}.")

    @staticmethod
    def _default(defaults: dict[type, str], python_type: type, value: str, override: bool) -> None:
        if override or python_type not in defaults:
            defaults[python_type] = value

    @classmethod
    def register_renderer(cls, python_type: type, renderer: Any) -> None:
        """Keep what shows tables of a type in a report. Nothing here asks for it."""
        cls.Renderers[python_type] = renderer

    @classmethod
    def get_encoder(cls, df_type: type, protocol: str, format: str) -> Any:  # noqa: A002 - Flyte's name
        """The encoder for tables of a type at such addresses in a format.

        Raises:
            ValueError: There is none.
        """
        return cls._find(cls.ENCODERS, df_type, protocol, format)

    @classmethod
    def get_decoder(cls, df_type: type, protocol: str, format: str) -> Any:  # noqa: A002 - Flyte's name
        """As `get_encoder`, for decoders."""
        return cls._find(cls.DECODERS, df_type, protocol, format)

    @classmethod
    def _find(cls, table: dict[type, Any], df_type: type, protocol: str, wanted: str) -> Any:
        if df_type in _latest:
            _came(df_type)
        by_protocol = table.get(df_type, {})
        for name in (protocol, ANY):
            handlers = by_protocol.get(name, {})
            for each in (wanted, "", *([] if wanted else [cls.DEFAULT_FORMATS.get(df_type)])):
                if each in handlers:
                    return handlers[each]
            if len(handlers) == 1 and (name != ANY or not wanted):
                return next(iter(handlers.values()))
        raise ValueError(f"No handler of {df_type.__qualname__} is registered for {protocol}:// and format {wanted!r}.")


def _came(kind: type) -> None:
    """A type has come with code, of which each copy has another: those that were not used for the longest time go."""
    _latest[kind] = None
    _latest.move_to_end(kind)
    engine = DataFrameTransformerEngine
    while len(_latest) > MAX_CAME:
        oldest, _ = _latest.popitem(last=False)
        for table in (engine.ENCODERS, engine.DECODERS, engine.DEFAULT_FORMATS, engine.DEFAULT_PROTOCOLS):
            table.pop(oldest, None)
        pickler.Pickler.dispatch_table.pop(oldest, None)


def _register_there(handler: Any, options: tuple[bool, ...]) -> None:
    DataFrameTransformerEngine.register(handler, *options)


def encode(table: Any, reference: Any, protocol: str, wanted: str) -> tuple[str, str] | None:
    """Write a table with a registered encoder; its address and format, or None if there is no encoder for it.

    Args:
        table: The table.
        reference: The `flyte_nb.io.DataFrame` that holds it, with the address in its ``uri``.
        protocol: That of the address.
        wanted: The format; "" for the type's own.
    """
    wanted = wanted or DataFrameTransformerEngine.DEFAULT_FORMATS.get(type(table), "")
    encoder = _handler(DataFrameTransformerEngine.ENCODERS, type(table), protocol, wanted)
    if encoder is None:
        return None
    message = _message("types_pb2", "StructuredDatasetType", format=encoder.supported_format, columns=[])
    made = _done(encoder.encode(reference, message))
    uri = made if isinstance(made, str) else getattr(made, "uri", None) or reference.uri
    told = getattr(getattr(getattr(made, "metadata", None), "structured_dataset_type", None), "format", "")
    return uri, encoder.supported_format or told or wanted


def _handler(table: dict[type, Any], kind: type, protocol: str, wanted: str) -> Any:
    if kind not in table:
        return None
    if is_table(kind) and not any(wanted in handlers for handlers in table[kind].values()):
        return None  # pandas' and the like have ways of their own
    return DataFrameTransformerEngine._find(table, kind, protocol, wanted)  # noqa: SLF001 - of this module


def can_decode(wanted: Any, protocol: str, kind: str) -> bool:
    """Whether a registered decoder is to make a table of a type of what is in a format."""
    return _handler(DataFrameTransformerEngine.DECODERS, wanted, protocol, kind) is not None


def makes(wanted: Any) -> bool:
    """Whether tables of a type are made by registered decoders alone."""
    return wanted in DataFrameTransformerEngine.DECODERS and not is_table(wanted)


def decode(uri: str, protocol: str, kind: str, wanted: Any, columns: tuple[str, ...]) -> Any:
    """Read a table of a type with its registered decoder.

    Args:
        uri: Its address.
        protocol: That of the address.
        kind: The format it is in.
        wanted: The type.
        columns: Names of the columns wanted; empty for all.

    Raises:
        ValueError: There is no decoder for it.
    """
    decoder = DataFrameTransformerEngine.get_decoder(wanted, protocol, kind)

    def metadata(names: tuple[str, ...]) -> Any:
        each = [_message("types_pb2", "StructuredDatasetType.DatasetColumn", name=name) for name in names]
        return _message(
            "literals_pb2", "StructuredDatasetMetadata",
            structured_dataset_type=_message("types_pb2", "StructuredDatasetType", format=kind, columns=each),
        )  # fmt: skip

    value = _message("literals_pb2", "StructuredDataset", uri=uri, metadata=metadata(()))
    return _done(decoder.decode(value, metadata(columns)))


def _done(made: Any) -> Any:
    if not inspect.isawaitable(made):
        return made

    async def wait() -> Any:
        return await made

    return run_coroutine(wait())


def _message(module: str, kind: str, /, **fields: Any) -> Any:
    try:
        found: Any = importlib.import_module(f"flyteidl2.core.{module}")
    except ImportError:
        return SimpleNamespace(**fields)
    for part in kind.split("."):
        found = getattr(found, part)
    return found(**fields)


#: How tables of types with handlers are pickled: set by `flyte_nb.io.dataframe`.
reducer: Any = None


__all__ = ["DataFrameDecoder", "DataFrameEncoder", "DataFrameTransformerEngine"]
