"""Settings refuse what they don't know."""

import re
import tomllib

import pytest
from pydantic import ValidationError

from experiments.errors import UserError
from experiments.settings import HERE, Grid, Preset, Table, choose, known, load_preset, load_table


def test_an_unknown_key_anywhere_is_refused() -> None:
    stored = tomllib.loads((HERE / "presets" / "tiny.toml").read_text())
    Preset.model_validate(stored)
    for section in ("calibration", "hardware", "search", "perplexity"):
        broken = stored | {section: stored[section] | {"batchsize": 1}}
        with pytest.raises(ValidationError, match="batchsize"):
            Preset.model_validate(broken)


@pytest.mark.parametrize("value", [0, -1, 100.5])
def test_k_outside_its_range_is_refused(value: float) -> None:
    grid = Grid(rule="nuclear_norm", values={1: value})
    with pytest.raises(ValueError, match=re.escape("must lie in (0, 100]")):
        grid.rank_rule(1)


def test_every_declared_table_joins_the_printed_one() -> None:
    from results.criteria import DERIVED_TABLE
    from results.printed import printed_table

    for name in known("tables"):
        table: Table = load_table(name)
        printed = printed_table(table.number)
        assert table.derived == DERIVED_TABLE[table.number]
        for method, grid in table.grids.items():
            assert set(grid.values) == set(printed[printed.method == method].row)


@pytest.mark.parametrize("name, meant", [("tabel6", "table6"), ("figur2", "figure2")])
def test_a_slip_of_the_hand_is_understood(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        choose(name, ["table6", "figure2"], "target")


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'tinny': did you mean 'tiny'\?"):
        load_preset("tinny")
