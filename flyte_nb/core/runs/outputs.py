"""Outputs of a run: a tuple whose values have names. Runs in: everywhere."""

from __future__ import annotations

from typing import Any


class ActionOutputs(tuple[Any, ...]):  # noqa: SLOT001 - as Flyte's
    """Outputs of a run: a tuple, one value for each output; `o0`, `o1`, ... (the fields of a NamedTuple) name them."""

    _names: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: tuple[Any, ...], names: tuple[str, ...]) -> ActionOutputs:
        """Values under their names."""
        made = cls(values)
        made._names = names
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple) and len(self) == 1:
            return bool(self[0] == other)
        return tuple.__eq__(self, other) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if name in self._names:
                return self[self._names.index(name)]
            if name[:1] == "o" and name[1:].isdigit() and int(name[1:]) < len(self):
                return self[int(name[1:])]
        raise AttributeError(f"these outputs have no {name!r}: {self!r}")

    @property
    def named_outputs(self) -> dict[str, Any]:
        """Values by name."""
        names = self._names or tuple(f"o{i}" for i in range(len(self)))
        return dict(zip(names, self, strict=False))

    def __repr__(self) -> str:
        return "ActionOutputs(" + ", ".join(f"{name}={value!r}" for name, value in self.named_outputs.items()) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActionOutputs.of, (tuple(self), self._names)
