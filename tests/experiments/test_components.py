"""Components on disk are those that were written, and are read one by one."""

from pathlib import Path

import pytest
import torch

from experiments.stages.components import COMPONENTS, as_stored, load_components, save_components
from impact.interface import Components


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    units = {
        f"layers.{i}.proj": Components(
            torch.rand(4, dtype=torch.float64), {"down": torch.rand(6, 4).T.double(), "bias": torch.rand(3)}, (3, 6)
        )
        for i in range(12)
    }
    assert save_components(units.items(), tmp_path) == 12
    loaded = load_components(tmp_path)
    assert list(loaded) == list(units)
    for name, unit in units.items():
        stored, there = as_stored(unit), loaded[name]
        assert torch.equal(there.spectrum, unit.spectrum) and there.shape == unit.shape
        assert {*there.tensors} == {"down", "bias"} and "offset" not in there.tensors
        assert all(torch.equal(tensor, stored.tensors[key]) for key, tensor in there.tensors.items())
        assert there.tensors["down"].dtype == torch.float32


def test_tensors_stay_on_disk_until_they_are_asked_for(tmp_path: Path) -> None:
    save_components([("unit", Components(torch.ones(2), {"up": torch.ones(2, 2)}, (2, 2)))], tmp_path)
    unit = load_components(tmp_path)["unit"]
    (tmp_path / COMPONENTS).unlink()
    assert unit.spectrum.tolist() == [1, 1]
    with pytest.raises(FileNotFoundError):
        unit.tensors["up"]
    with pytest.raises(KeyError):
        unit.tensors["down"]
