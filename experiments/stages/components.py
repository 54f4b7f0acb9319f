"""A method's components on disk, of which no more is in memory than is being read."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from impact.interface import Components

COMPONENTS, SHAPES = "components.safetensors", "shapes.json"


def as_stored(components: Components) -> Components:
    """On the host, all but the spectrum in single precision."""
    tensors = {key: tensor.float().cpu().contiguous() for key, tensor in components.tensors.items()}
    return Components(components.spectrum.cpu(), tensors, components.shape)


def save_components(units: Iterable[tuple[str, Components]], directory: Path) -> int:
    """Writes the components of units, all into one file; returns how many there are."""
    tensors: dict[str, Tensor] = {}
    shapes = {}
    for name, components in units:
        stored = as_stored(components)
        shapes[name] = stored.shape
        tensors |= {f"{name}:{key}": tensor for key, tensor in {"spectrum": stored.spectrum, **stored.tensors}.items()}
    save_file(tensors, directory / COMPONENTS)
    (directory / SHAPES).write_text(json.dumps(shapes))
    return len(shapes)


def load_components(directory: Path) -> dict[str, Components]:
    """What was written: unit -> components, whose tensors are read from the file each time that one is asked for."""
    path = directory / COMPONENTS
    with safe_open(path, framework="pt") as file:
        names: dict[str, list[str]] = {}
        for unit, _, name in (key.rpartition(":") for key in file.keys()):  # noqa: SIM118 - it is no mapping
            names.setdefault(unit, []).append(name)
        return {
            unit: Components(
                file.get_tensor(f"{unit}:spectrum"),
                _OnDisk(path, unit, tuple(name for name in names[unit] if name != "spectrum")),
                tuple(shape),
            )
            for unit, shape in json.loads((directory / SHAPES).read_text()).items()
        }


@dataclass(frozen=True)
class _OnDisk(Mapping[str, Tensor]):
    """The tensors of a unit, by name."""

    path: Path
    unit: str
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(f"{self.unit}:{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
