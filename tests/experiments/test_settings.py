"""Settings refuse what they don't know."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from experiments.errors import UserError
from experiments.settings import Preset, Settings, choose, known, load_preset, load_settings
from experiments.tables.declared import Grid, accuracy_tables, load_table


def test_an_unknown_key_anywhere_is_refused() -> None:
    stored = load_preset("tiny").model_dump(mode="json")
    Preset.model_validate(stored)
    for section in ("calibration", "hardware", "search", "perplexity"):
        broken = stored | {section: stored[section] | {"batchsize": 1}}
        with pytest.raises(ValidationError, match="batchsize"):
            Preset.model_validate(broken)


@pytest.mark.parametrize("name", known("presets"))
def test_a_benchmark_without_an_entry_is_decoded_as_the_preset_says(name: str) -> None:
    preset = load_preset(name)
    assert preset.evaluation_of("capitals") == preset.evaluation["default"]
    assert all(preset.evaluation_of(entry) == settings for entry, settings in preset.evaluation.items())


@pytest.mark.parametrize("value", [0, -1, 100.5])
def test_k_outside_its_range_is_refused(value: float) -> None:
    grid = Grid(rule="nuclear_norm", values={1: value})
    with pytest.raises(ValueError, match=re.escape("must lie in (0, 100]")):
        grid.rank_rule(1)


def test_every_declared_table_joins_the_printed_one() -> None:
    from results.numbers.printed import DERIVED_TABLE, printed_table

    of_paper = [table for table in map(load_table, accuracy_tables()) if table.number]
    assert {table.number for table in of_paper} == {*DERIVED_TABLE}
    for table in of_paper:
        printed = printed_table(table.number)
        assert table.derived == (f"table{DERIVED_TABLE[table.number]}",)
        for method in {*printed.method} - {"dense"}:
            assert set(table.grids[method].values) >= set(printed[printed.method == method].row)


def test_a_row_may_have_settings_of_its_own() -> None:
    stored = "rule = 'nuclear_norm'\nvalues = { 1 = 50, 2 = 50 }\nsettings = { eta = 0.25 }\n"
    grid = Grid.model_validate(tomllib.loads(f"{stored}row_settings = {{ 2 = {{ eta = 0.5 }} }}"))
    assert [grid.settings_of(row) for row in (1, 2)] == [{"eta": 0.25}, {"eta": 0.5}]
    with pytest.raises(ValidationError, match="row_settings has rows that values has not: 3"):
        Grid.model_validate(tomllib.loads(f"{stored}row_settings = {{ 3 = {{ eta = 0.5 }} }}"))


class Sized(Settings):
    """Models that extend each other."""

    name: str
    models: dict[str, dict[str, int]]


def test_a_section_is_laid_over_the_one_before_it_that_it_extends(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[models]\nsmall = { width = 1, depth = 2 }\nwide = { extends = 'small', width = 3 }\n")
    read = load_settings(tmp_path, "a", "size", Sized, ["a"])
    assert read.models == {"small": {"width": 1, "depth": 2}, "wide": {"width": 3, "depth": 2}}
    file.write_text(file.read_text().replace("'small'", "'smal'"))
    with pytest.raises(UserError, match="unknown section 'smal': did you mean 'small'"):
        load_settings(tmp_path, "a", "size", Sized, ["a"])


@pytest.mark.parametrize("name, meant", [("tabel6", "table6"), ("figur2", "figure2")])
def test_a_slip_of_the_hand_is_understood(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        choose(name, ["table6", "figure2"], "target")


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'tinny': did you mean 'tiny'\?"):
        load_preset("tinny")
