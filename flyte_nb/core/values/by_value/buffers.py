"""Arrays that are no single block of memory, and memoryviews: with a buffer that can leave the pickle. Runs in: everywhere.

numpy hands a contiguous array to the pickler as a buffer, which crosses apart and is mapped. Any other it copies into the
pickle. Here such an array is made contiguous first: the copy is the same one, and the rest as cheap as for any array.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

#: Below this many bytes an array stays as numpy pickles it.
MIN_BYTES = 64 * 1024


def reducer_of(kind: type) -> Any:
    """The function that pickles the instances of a class; None for the usual way.

    Args:
        kind: Exactly the class.
    """
    if kind is memoryview:
        return _reduce_view
    if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
        return _reduce_array
    if kind.__name__ == "MaskedArray" and kind.__module__ in ("numpy.ma", "numpy.ma.core"):
        return _reduce_masked
    return None


def _reduce_array(array: Any) -> Any:
    if array.nbytes < MIN_BYTES or array.dtype.hasobject or array.flags.c_contiguous or array.flags.f_contiguous:
        return NotImplemented
    return array.copy(order="C").__reduce_ex__(5)


def _reduce_masked(array: Any) -> Any:
    if array.nbytes < MIN_BYTES or array.dtype.hasobject or array.baseclass.__name__ != "ndarray":
        return NotImplemented
    masked = sys.modules["numpy"].ma
    mask = masked.getmask(array)
    # As it is stored: asking for the fill value would set it.
    fill_value = vars(array).get("_fill_value")
    return make_masked, (array.data, None if mask is masked.nomask else mask, fill_value, array.hardmask)


def make_masked(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    """A masked array of its parts; called by pickle."""
    import numpy as np

    return np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, fill_value=fill_value, hard_mask=hard)


def _reduce_view(view: memoryview) -> Any:
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    return make_view, (pickle.PickleBuffer(flat), view.format, view.shape, view.readonly)


def make_view(buffer: Any, form: str, shape: tuple[int, ...], readonly: bool) -> Any:
    """A memoryview of its content; called by pickle. Bytes where its format is none that Python can cast to."""
    flat = memoryview(buffer).cast("B")
    try:
        made = flat.cast(form, shape) if form != "B" or len(shape) != 1 else flat  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return bytes(flat)
    return made.toreadonly() if readonly else made
