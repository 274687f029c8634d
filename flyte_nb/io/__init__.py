"""``flyte.io``: files, folders and tables that tasks pass by reference, on anything fsspec reaches. Runs in: everywhere."""

from __future__ import annotations

from flyte_nb.io import extend
from flyte_nb.io.dataframe import PARQUET, DataFrame
from flyte_nb.io.dir import Dir, EmptyDir
from flyte_nb.io.file import File
from flyte_nb.io.hashing import HashFunction, HashMethod

__all__ = ["PARQUET", "DataFrame", "Dir", "EmptyDir", "File", "HashFunction", "HashMethod", "extend"]
