"""Resources of an attempt: `Resources`, and the accelerators. Runs in: everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from flyte_nb.core.settings import validate

DeviceClass = Literal["GPU", "TPU", "NEURON", "AMD_GPU", "HABANA_GAUDI", "APPLE_SILICON"]
CPUBaseType: TypeAlias = int | float | str

#: Kubernetes' suffixes, in bytes (or, for "m", in thousandths of a byte, which Kubernetes allows).
_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY = re.compile(r"^\s*+([0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)\s*+([A-Za-z]*+)\s*+$")


def parse_quantity(name: str, text: str) -> float:
    """The number that a quantity in Kubernetes' notation means: "1Gi", "500m", "2".

    Args:
        name: What it is of, for the message.
        text: The quantity.

    Raises:
        ValueError: It is not one.
    """
    match = _QUANTITY.match(text)
    unit = _UNITS.get(match.group(2).removesuffix("B") if match else "?")
    if match is None or unit is None:
        raise ValueError(f"{name} must be a quantity such as '1Gi', '500Mi' or '2', not {text!r}.")
    return float(match.group(1)) * unit


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator.

    Args:
        quantity: How many, at least 1.
        device_class: Family: "GPU", "TPU", "NEURON", "AMD_GPU", "HABANA_GAUDI" or "APPLE_SILICON".
        device: Model, "T4" say; None for any.
        partition: Slice of it, "1g.5gb" say; None for the whole.

    Raises:
        ValueError: ``quantity`` is below 1.
    """

    quantity: int
    device_class: DeviceClass
    device: str | None = None
    partition: str | None = None

    def __post_init__(self) -> None:
        validate.whole_number(f"Quantity of {self.device_class}", self.quantity, 1)


def GPU(device: str, quantity: int = 1, partition: str | None = None) -> Device:  # noqa: N802 - Flyte's spelling
    """NVIDIA GPUs.

    Args:
        device: Model: "T4", "A100", "H100", ...
        quantity: How many.
        partition: MIG slice; None for whole GPUs.
    """
    return Device(quantity, "GPU", device, partition)


def TPU(device: str, partition: str | None = None) -> Device:  # noqa: N802 - Flyte's spelling
    """A Google TPU.

    Args:
        device: Version: "V5E", "V5P" or "V6E".
        partition: Topology, "2x2" say.
    """
    return Device(1, "TPU", device, partition)


def Neuron(device: str) -> Device:  # noqa: N802 - Flyte's spelling
    """An AWS Neuron device: "Inf1", "Inf2", "Trn1", ..."""
    return Device(1, "NEURON", device)


def AMD_GPU(device: str) -> Device:  # noqa: N802 - Flyte's spelling
    """An AMD GPU: "MI210", "MI300X", ..."""
    return Device(1, "AMD_GPU", device)


def HABANA_GAUDI(device: str) -> Device:  # noqa: N802 - Flyte's spelling
    """An Intel Gaudi: "Gaudi1"."""
    return Device(1, "HABANA_GAUDI", device)


def APPLE_SILICON() -> Device:  # noqa: N802 - Flyte's spelling
    """An Apple chip."""
    return Device(1, "APPLE_SILICON", "AppleSilicon")


#: Family of a model named in ``gpu="<model>:<number>"``, by how its name begins; the rest are NVIDIA's.
_FAMILIES: tuple[tuple[str, DeviceClass], ...] = (
    ("Trn", "NEURON"), ("Inf", "NEURON"), ("MI", "AMD_GPU"), ("Gaudi", "HABANA_GAUDI"), ("AppleSilicon", "APPLE_SILICON"),
)  # fmt: skip


def _pair(name: str, value: object) -> None:
    if isinstance(value, tuple | list) and len(value) != 2:
        raise ValueError(f"{name} as a tuple must be (request, limit), not {value!r}.")


@validate.names_options
@dataclass
class Resources:
    """What an attempt needs.

    Here ``gpu`` becomes a resource of Dask's and ``memory`` a limit; the others are noted and shown.

    Args:
        cpu: Cores: 2, 0.5, "500m", or (request, limit).
        memory: "1Gi", or (request, limit).
        gpu: "T4:1" (model:number), a number, or a `Device`.
        disk: "10Gi".
        shm: Shared memory: "1Gi", or "auto".

    Raises:
        ValueError: A value is negative, or not of these forms.
    """

    cpu: CPUBaseType | tuple[CPUBaseType, CPUBaseType] | None = None
    memory: str | tuple[str, str] | None = None
    gpu: str | int | Device | None = None
    disk: str | None = None
    shm: str | None = None

    def __post_init__(self) -> None:
        _pair("cpu", self.cpu)
        for cpu in self.cpu if isinstance(self.cpu, tuple | list) else (self.cpu,):
            _check_cpu(cpu)
        _pair("memory", self.memory)
        for memory in self.memory if isinstance(self.memory, tuple | list) else (self.memory,):
            _check_size("memory", memory)
        _check_size("disk", self.disk)
        if self.shm != "auto":
            _check_size("shm", self.shm)
        self.get_device()

    def get_device(self) -> Device | None:
        """The accelerator asked for, in whichever form; None if none is."""
        gpu = self.gpu
        if gpu is None or isinstance(gpu, Device):
            return gpu
        if isinstance(gpu, int) and not isinstance(gpu, bool):
            if gpu < 0:
                raise ValueError(f"gpu must not be negative, but is {gpu}.")
            return Device(gpu, "GPU") if gpu else None
        if isinstance(gpu, str):
            model, colon, number = gpu.rpartition(":")
            if colon and model and number.isdigit():
                family: DeviceClass = next((each for start, each in _FAMILIES if model.startswith(start)), "GPU")
                return Device(int(number), family, model)
            if gpu == "AppleSilicon":
                return Device(1, "APPLE_SILICON", gpu)
        raise ValueError(f"gpu must be '<model>:<number>' such as 'T4:1', a number, or a Device, not {gpu!r}.")

    def get_shared_memory(self) -> str | None:
        """The shared memory asked for: "" for "auto", None for none."""
        return "" if self.shm == "auto" else self.shm

    @property
    def cores(self) -> float | None:
        """Cores requested; None if not given."""
        cpu = self.cpu[0] if isinstance(self.cpu, tuple | list) else self.cpu
        if cpu is None:
            return None
        return parse_quantity("cpu", cpu) if isinstance(cpu, str) else float(cpu)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes an attempt may use (the limit, where request and limit differ); None if not given."""
        memory = self.memory[1] if isinstance(self.memory, tuple | list) else self.memory
        return None if memory is None else int(parse_quantity("memory", memory))

    @property
    def gpus(self) -> int:
        """Accelerators needed, of whatever family; 0 for none."""
        device = self.get_device()
        return 0 if device is None else device.quantity

    def __repr__(self) -> str:
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        return f"Resources({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"


def _check_size(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string such as '1Gi', not {value!r}.")  # noqa: TRY004 - as in Flyte
    parse_quantity(name, value)


def _check_cpu(cpu: object) -> None:
    if cpu is None:
        return
    if isinstance(cpu, bool) or not isinstance(cpu, int | float | str):
        raise ValueError(  # noqa: TRY004 - every bad value here is a ValueError, as in Flyte
            f"cpu must be a number, a string such as '500m', or (request, limit), not {cpu!r}."
        )
    if isinstance(cpu, str):
        parse_quantity("cpu", cpu)
    elif cpu < 0:
        raise ValueError(f"cpu must not be negative, but is {cpu!r}.")
