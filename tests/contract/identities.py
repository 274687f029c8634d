"""Classes and lone objects of many kinds, with the tasks that look at them: a program, and a module of one."""

# Programs as users write them.
# ruff: noqa: PIE796, UP042
# mypy: ignore-errors

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import enum
import functools
import sys
import types
import typing
from collections import OrderedDict, UserDict, defaultdict
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import attrs
import pydantic

import flyte_nb as flyte

env = flyte.TaskEnvironment("identities")
T = TypeVar("T")
MISSING = object()


class _Unset:
    """A sentinel of the careful."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET = _Unset()


class _Auto:
    pass


AUTO = _Auto()


@dataclasses.dataclass
class Plain:
    x: int = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int = 1
    many: list[int] = dataclasses.field(default_factory=lambda: [1])


@dataclasses.dataclass(kw_only=True, order=True)
class KwOnly:
    x: int = 1
    y: int = dataclasses.field(default=2, repr=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int = 1
    inner: Plain = dataclasses.field(default_factory=Plain)

    def double(self) -> int:
        return self.x * 2


@dataclasses.dataclass(slots=True, frozen=True)
class SlottedFrozen:
    x: int = 1


@dataclasses.dataclass(slots=True, weakref_slot=True)
class SlottedWeak:
    x: int = 1


@dataclasses.dataclass(slots=True)
class SlottedSub(Slotted):
    y: int = 5

    def double(self) -> int:
        return super(SlottedSub, self).double() + self.y


class Same:
    """Equal by its attributes, wherever they are."""

    __slots__ = ()

    def parts(self) -> Any:
        given = [vars(c).get("__slots__", ()) for c in type(self).__mro__]
        names = [name for each in given for name in ([each] if isinstance(each, str) else each) if name[:2] != "__"]
        return {name: getattr(self, name) for name in [*names, *getattr(self, "__dict__", ())] if hasattr(self, name)}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.parts() == other.parts()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]


class Slots(Same):
    __slots__ = ("__weakref__", "unset", "x")

    def __init__(self, x: int = 1) -> None:
        self.x = x


class SubSlots(Slots):
    __slots__ = ("y",)

    def __init__(self) -> None:
        super().__init__(2)
        self.y = 3


class OpenSubSlots(Slots):
    def __init__(self) -> None:
        super().__init__(2)
        self.z = 4


class TextSlot(Same):
    __slots__ = "x"  # noqa: PLC0205 - just so

    def __init__(self) -> None:
        self.x = [1]


class DictSlot(Same):
    __slots__ = ("__dict__", "x")

    def __init__(self) -> None:
        self.x, self.other = 1, 2


class HiddenSlot(Same):
    __slots__ = ("__x",)

    def __init__(self) -> None:
        self.__x = 7

    def parts(self) -> Any:
        return self.__x


class DocumentedSlots(Same):
    __slots__ = {"x": "what it is", "y": "the other"}

    def __init__(self) -> None:
        self.x, self.y = 1, 2


class Shape(abc.ABC):
    __slots__ = ("side",)

    @abc.abstractmethod
    def area(self) -> int: ...


class Square(Shape, Same, Generic[T]):
    __slots__ = ("tag",)

    def __init__(self) -> None:
        self.side, self.tag = 3, "t"

    def area(self) -> int:
        return self.side**2


class Registered(Same):
    def area(self) -> int:
        return 1


Shape.register(Registered)


@typing.runtime_checkable
class Sized(typing.Protocol):
    def size(self) -> int: ...


class HasSize(Same):
    def size(self) -> int:
        return 3


class Base(Same):
    def __init__(self) -> None:
        self.x = 1


class Sub(Base):
    @property
    def twice(self) -> int:
        return self.x * 2

    @classmethod
    def make(cls) -> Sub:
        return cls()

    @staticmethod
    def fixed() -> int:
        return 5


class Box(Same, Generic[T]):
    def __init__(self, v: T | None = None) -> None:
        self.v = v


class IntBox(Box[int]):
    pass


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.through_meta = True
        return made


class WithMeta(Same, metaclass=Meta):
    pass


class Tracked:
    """Collects its subclasses."""

    known: ClassVar[list[str]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Tracked.known.append(cls.__name__)


class TrackedSub(Tracked, Same):
    pass


class Registry(abc.ABCMeta):
    """Collects its classes, and wants to be told of each."""

    known: ClassVar[list[str]] = []

    def __new__(cls, name: str, bases: Any, body: Any, *, tag: str) -> Any:
        cls.known.append(name)
        return super().__new__(cls, name, bases, {**body, "tag": tag})

    def __init__(cls, *args: Any, tag: str) -> None:
        super().__init__(*args)
        cls.known.append(tag)


class Collected(Same, metaclass=Registry, tag="a"):
    def __init__(self) -> None:
        self.x = 1


class CollectedSub(Collected, Generic[T], tag="b"):
    __slots__ = ()


class Tagged(Same):
    """Wants to know of each subclass."""

    def __init_subclass__(cls, *, tag: str) -> None:
        super().__init_subclass__()
        cls.tag = tag


class TaggedSub(Tagged, Generic[T], tag="a"):
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class ListSub(list[int]):
    pass


class DictSub(dict[str, int]):
    pass


class IntSub(int):
    pass


class StrSub(str):
    __slots__ = ("note",)


class TupleSub(tuple[int, ...]):
    __slots__ = ()


class SetSub(set[int]):
    pass


class FloatSub(float):
    pass


class BytesSub(bytes):
    pass


class OrderedSub(OrderedDict[str, int]):
    pass


class DefaultSub(defaultdict[str, list[int]]):
    pass


class UserSub(UserDict[str, int]):
    pass


class Color(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1

    def warm(self) -> bool:
        return self is Color.RED


class Num(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    HELLO = enum.auto()


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    MARS = (0.6, 3.3)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass, self.radius = mass, radius

    @property
    def density(self) -> float:
        return self.mass / self.radius


class Level(str, enum.Enum):
    LOW = "low"

    @classmethod
    def _missing_(cls, value: object) -> Level:
        return cls.LOW


class Pair(NamedTuple):
    x: int = 1
    y: str = "a"

    def both(self) -> str:
        return f"{self.x}{self.y}"


class GenericPair(NamedTuple, Generic[T]):
    x: T


class SubPair(Pair):
    __slots__ = ()


class Model(pydantic.BaseModel):
    x: int = 1
    color: Color = Color.RED
    inner: Plain = Plain()
    _private: int = pydantic.PrivateAttr(default=3)

    @pydantic.field_validator("x")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.x * 2


class Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    models: list[Model] = [Model()]
    either: Model | int = 3


class GenericModel(pydantic.BaseModel, Generic[T]):
    value: T


class SubModel(Model):
    z: str = "z"


@attrs.define
class Attrs:
    x: int = 1


@attrs.frozen
class AttrsFrozen:
    x: int = 1


class Holder:
    class Inner(Same):
        def __init__(self) -> None:
            self.x = 1

    DEFAULT = object()


def _local() -> type:
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local


Local = _local()
Made = dataclasses.make_dataclass("Made", [("x", int, 3)])
Dynamic = type("Dynamic", (Base,), {"extra": 3})


class Cyclic(Same):
    def __init__(self) -> None:
        self.me = self

    def __eq__(self, other: object) -> bool:
        return type(other) is Cyclic and other.me is other

    __hash__ = None  # type: ignore[assignment]


class Error(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.b = b

    def __eq__(self, other: object) -> bool:
        return type(other) is Error and other.args == self.args and other.b == self.b

    __hash__ = None  # type: ignore[assignment]


class KeywordError(ValueError):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __eq__(self, other: object) -> bool:
        return type(other) is KeywordError and str(other) == str(self) and other.code == self.code

    __hash__ = None  # type: ignore[assignment]


#: By name of the class: what makes an instance.
MAKERS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        Plain, Frozen, KwOnly, Slotted, SlottedFrozen, SlottedWeak, SlottedSub, Slots, SubSlots, OpenSubSlots, TextSlot,
        DictSlot, HiddenSlot, DocumentedSlots, Square, Registered, HasSize, Base, Sub, WithMeta, TrackedSub, TaggedSub, CollectedSub, Pair, SubPair,
        Model, Outer, SubModel, Attrs, AttrsFrozen, Holder.Inner, Local, Made, Dynamic, Cyclic,
    )
} | {
    "Box": lambda: Box[int](3), "IntBox": lambda: IntBox(3), "GenericPair": lambda: GenericPair(3),
    "GenericModel[int]": lambda: GenericModel[int](value=3), "ListSub": lambda: ListSub([1]), "DictSub": lambda: DictSub(a=1),
    "IntSub": lambda: IntSub(3), "StrSub": lambda: StrSub("a"), "TupleSub": lambda: TupleSub((1, 2)),
    "SetSub": lambda: SetSub({1}), "FloatSub": lambda: FloatSub(1.5), "BytesSub": lambda: BytesSub(b"a"),
    "OrderedSub": lambda: OrderedSub(a=1), "DefaultSub": lambda: DefaultSub(list, a=[1]), "UserSub": lambda: UserSub(a=1),
    "Color": lambda: Color.RED, "Num": lambda: Num.ONE, "Word": lambda: Word.HELLO, "Access": lambda: Access.READ | Access.WRITE,
    "Planet": lambda: Planet.MARS, "Level": lambda: Level("unknown"), "Error": lambda: Error(1, 2),
    "KeywordError": lambda: KeywordError(code=4),
}  # fmt: skip
CLASSES: dict[str, type] = {name: type(make()) for name, make in MAKERS.items()}
GLOBAL = {name: make() for name, make in MAKERS.items()}

#: By name of the class: what must hold of an instance wherever it is.
HOLDS: dict[str, Any] = {
    "Slotted": lambda v: v.double() == 2 and not hasattr(v, "__dict__"),
    "SlottedSub": lambda v: v.double() == 7 and not hasattr(v, "__dict__"),
    "Slots": lambda v: not hasattr(v, "__dict__") and not hasattr(v, "unset"),
    "OpenSubSlots": lambda v: vars(v) == {"z": 4},
    "Square": lambda v: v.area() == 9 and isinstance(v, Shape) and not hasattr(v, "__dict__"),
    "Registered": lambda v: isinstance(v, Shape),
    "HasSize": lambda v: isinstance(v, Sized),
    "Sub": lambda v: isinstance(v, Base) and v.twice == 2 and Sub.make().fixed() == 5,
    "WithMeta": lambda v: v.through_meta and type(type(v)) is Meta,
    "TrackedSub": lambda v: Tracked.known == ["TrackedSub"],
    "TaggedSub": lambda v: v.tag == "a" and TaggedSub[int].__origin__ is TaggedSub,
    "CollectedSub": lambda v: v.tag == "b" and Registry.known == ["Collected", "a", "CollectedSub", "b"],
    "Color": lambda v: v is Color.RED and v.warm() and Color.CRIMSON is v and Color["CRIMSON"] is v,
    "Num": lambda v: v is Num.ONE,
    "Word": lambda v: v is Word.HELLO,
    "Access": lambda v: v is Access.BOTH and Access.READ in v,
    "Planet": lambda v: v is Planet.MARS and v.mass == 0.6 and v.density < 1,
    "Level": lambda v: v is Level.LOW and Level("other") is v,
    "Pair": lambda v: v.both() == "1a",
    "SubPair": lambda v: isinstance(v, Pair) and v.both() == "1a",
    "Model": lambda v: (
        v.twice == 2 and v._private == 3 and v.color is Color.RED and isinstance(v.inner, Plain) and _checks(Model)
    ),
    "Outer": lambda v: isinstance(v.models[0], Model) and Outer(either=Model()).either == Model(),
    "SubModel": lambda v: isinstance(v, Model) and _checks(SubModel),
    "GenericModel[int]": lambda v: isinstance(v, GenericModel[int]) and isinstance(v, GenericModel),
    "Dynamic": lambda v: v.extra == 3,
    "Cyclic": lambda v: v.me is v,
}


def _checks(model: Any) -> bool:
    with contextlib.suppress(pydantic.ValidationError):
        model(x=-1)
        return False
    return True


def problems(name: str, value: Any) -> list[str]:
    """What is wrong with a value that should be as `MAKERS[name]` makes it."""
    found = []
    if type(value) is not CLASSES[name]:
        found.append(f"is a {type(value)} {id(type(value))}")
    if value != MAKERS[name]():
        found.append(f"is {value!r}")
    if not HOLDS.get(name, lambda _: True)(value):
        found.append("does not behave")
    return found


@env.task
def looks(name: str, value: typing.Any) -> typing.Any:
    """What is wrong here; the value, one that is made here, and the global."""
    made = MAKERS[name]()
    return [problems(name, value), problems(name, GLOBAL[name]), problems(name, made), value, made, GLOBAL[name]]


@env.task
async def passes_on(name: str, value: typing.Any) -> typing.Any:
    """The same through a child, whose answers are looked at here."""
    here = problems(name, value)
    there, of_global, of_made, back, made, of_globals = await looks.aio(name, value)
    return [
        here,
        there,
        of_global,
        of_made,
        problems(name, back),
        problems(name, made),
        problems(name, of_globals),
        made,
    ]


async def check(name: str) -> list[str]:
    """What is wrong with a kind of class anywhere."""
    found = await looks.aio(name, MAKERS[name]())
    bad = [f"in the task: {each}" for each in (*found[0], *found[1], *found[2])]
    bad += [f"back: {each}" for value in found[3:] for each in problems(name, value)]
    *inside, made = await passes_on(name, MAKERS[name]())
    bad += [f"passed on: {each}" for each in inside if each]
    bad += [f"back from afar: {each}" for each in problems(name, made)]
    bad += [f"here: {each}" for each in problems(name, GLOBAL[name])]
    return bad


# -- lone objects ------------------------------------------------------------------------------------------------------


@env.task
def by_default(x: typing.Any = MISSING) -> bool:
    return x is MISSING


@env.task
def by_keyword(*, x: typing.Any = UNSET) -> bool:
    return x is UNSET and not x


@env.task
def unnamed(x: typing.Any = object()) -> bool:  # noqa: B008 - just so
    return x is unnamed.func.__defaults__[0]


@env.task
def in_values(x: dict[str, typing.Any]) -> typing.Any:
    kept = (
        x["a"] is MISSING and x["b"][0] is UNSET and x["c"].v is AUTO and x["d"] is Holder.DEFAULT and x["e"] is x["f"]
    )
    return [kept, MISSING, UNSET, AUTO, Holder.DEFAULT, x["e"]]


def _in_a_closure() -> Any:
    nothing = object()

    @env.task
    def enclosed(x: typing.Any = nothing) -> bool:
        return x is nothing

    return enclosed, nothing


enclosed, nothing = _in_a_closure()


@env.task
async def sentinels_inside() -> list[bool]:
    mine = object()
    back = await in_values.aio({"a": MISSING, "b": (UNSET,), "c": Box(AUTO), "d": Holder.DEFAULT, "e": mine, "f": mine})
    return [await by_default.aio(), await by_default.aio(MISSING), back[0], back[1] is MISSING, back[5] is mine]


@env.task
async def sentinels_of_children() -> list[bool]:
    """Each child is a version of code with instances of its own."""
    first, second = await same.aio([UNSET, AUTO]), await lone_by_child.aio()
    return [first[0] is UNSET, first[1] is AUTO, second[0] is UNSET, second[1] is AUTO]


@env.task
def lone_by_child() -> list:
    return [UNSET, AUTO]


async def check_lone_objects() -> list[str]:
    """What is wrong with sentinels."""
    mine = object()
    back = await in_values.aio({"a": MISSING, "b": [UNSET], "c": Box(AUTO), "d": Holder.DEFAULT, "e": mine, "f": mine})
    seen = {
        "default": await by_default.aio(),
        "given": await by_default.aio(MISSING),
        "other": not await by_default.aio(object()),
        "own class": await by_keyword.aio(),
        "own class given": await by_keyword.aio(x=UNSET),
        "unnamed": await unnamed.aio(),
        "enclosed": await enclosed.aio(),
        "enclosed given": await enclosed.aio(nothing),
        "in containers": back[0],
        "back": back[1] is MISSING
        and back[2] is UNSET
        and back[3] is AUTO
        and back[4] is Holder.DEFAULT
        and back[5] is mine,
        "inside": all(await sentinels_inside()),
        "from children": all([*await sentinels_of_children(), *await sentinels_of_children()]),
        "stateful": (await same.aio(Plain(2))) is not Plain(2),
    }
    return [name for name, good in seen.items() if not good]


@env.task
def same(x: typing.Any) -> typing.Any:
    return x


# -- state of classes --------------------------------------------------------------------------------------------------


class Counter:
    count = 0
    lock_free: ClassVar[dict[str, int]] = {}

    def add(self) -> int:
        global total
        Counter.count += 1
        total += 1
        return Counter.count


total = 0


@env.task
def counts(counter: Counter) -> tuple[int, int, Counter]:
    counter.add()
    return total, Counter.count, counter


@functools.singledispatch
def show(value: Any) -> str:
    return "anything"


@show.register
def _(value: Plain) -> str:
    return "plain"


@env.task
def dispatches(value: typing.Any) -> str:
    return show(value)


@env.task
async def catches() -> list[str]:
    seen = []
    for error in (Error(1, 2), KeywordError(code=3)):
        try:
            await raises.aio(error)
        except Error as caught:
            seen.append(f"Error {caught.b}")
        except KeywordError as caught:
            seen.append(f"KeywordError {caught}")
    return seen


@env.task
def raises(error: typing.Any) -> None:
    raise error


async def check_state(mode: str) -> list[str]:
    """What is wrong with methods, globals and the kernel's own class after instances have been away."""
    add, count = Counter.add, Counter.count
    seen = await asyncio.gather(counts.aio(Counter()), same.aio(Counter()))
    rows = {
        "globals of methods are the task's": seen[0][0] == seen[0][1] >= 1,
        "the class here is untouched": Counter.add is add and (Counter.count == count or mode == "local"),
        "an instance": type(seen[0][2]) is Counter and type(seen[1]) is Counter,
        "dispatch": await dispatches.aio(Plain()) == "plain" and await dispatches.aio(3) == "anything",
        "caught": await catches.aio() == ["Error 2", "KeywordError code 3"],
        "alias": (await same.aio(Box[int])) == Box[int] and (await same.aio(list[Plain])) == list[Plain],
        "namespace": (await same.aio(types.SimpleNamespace(a=Plain()))).a == Plain(),
        "class itself": await same.aio(Plain) is Plain and (await same.aio([Color, Slots]))[1] is Slots,
    }
    return [name for name, good in rows.items() if not good]


async def check_all(mode: str) -> list[str]:
    """Everything that is wrong."""
    bad = []
    for name in MAKERS:
        try:
            bad += [f"{name}: {each}" for each in await check(name)]
        except Exception as exc:
            bad.append(f"{name}: {type(exc).__name__}: {exc}")
    return [*bad, *await check_lone_objects(), *await check_state(mode)]


if __name__ == "__main__":
    print(flyte.testing.run_cell(lambda: check_all(sys.argv[1]), mode=sys.argv[1]))
