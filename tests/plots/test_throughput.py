from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from plots.throughput import throughput, write_throughput
from results.measured.speed_points import Conditions, PhaseSpeed, SpeedPoint, Spread
from results.numbers.printed import printed_table
from results.tables.speed import build_speed_table

PROVENANCE = {"model": "invented"}


def measured(*routes: str, methods: tuple[str, ...] = ("svd", "impact"), unit: float = 1e9) -> pd.DataFrame:
    """Two rows a method with invented numbers, and the dense model, on each route."""
    conditions = Conditions(
        batch_size=1, prompt_tokens=8, new_tokens=4, dtype="float32", device="cpu", hardware="none", threads=1
    )
    points = []
    for i, route in enumerate(routes):
        for j, method in enumerate(("dense", *methods)):
            for row in (0,) if j == 0 else (1, 2):
                size = 3.0 - row - 0.1 * j
                speed = (10 - size) * (1 + i)
                points.append(
                    SpeedPoint(
                        method=method, row=row, route=route, parameters=round(size * unit), random_weights=True,
                        conditions=conditions, repetitions=3, memory_gb=size, memory_kind="invented", weights_gb=size,
                        total=PhaseSpeed(tokens_per_s=Spread(median=speed, low=speed - 1, high=speed + 2)),
                    )
                )  # fmt: skip
    return build_speed_table(points)


def test_each_panel_holds_exactly_its_points() -> None:
    table, paper = measured("hf growing", "vllm native"), printed_table(14)
    figure = throughput(table, "vllm native", PROVENANCE)
    own = table[table["route"] == "vllm native"]
    for axes, points, column in (
        (figure.axes[0], own, "throughput_tok_s"),
        (figure.axes[1], paper, "throughput_tok_s"),
        (figure.axes[2], own, "memory_gb"),
        (figure.axes[3], paper, "memory_gb"),
    ):
        curves = {c.get_label(): c.lines[0] for c in axes.containers}
        assert set(curves) == {m.upper() if m != "dense" else m for m in points["method"]}
        for method in dict.fromkeys(points["method"]):
            rows = points[points["method"] == method].sort_values("model_size_b")
            line = curves["dense" if method == "dense" else method.upper()]
            assert list(line.get_xdata()) == list(rows["model_size_b"])
            assert list(line.get_ydata()) == list(rows[column])
    bars = next(c for c in figure.axes[0].containers if c.get_label() == "SVD").lines[2][0]
    rows = own[own["method"] == "svd"].sort_values("model_size_b")
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert ends == pytest.approx(rows[["throughput_low", "throughput_high"]].to_numpy())
    assert figure.axes[1].containers[0].lines[2] == ()  # printed numbers have no range
    plt.close(figure)


def test_measured_and_printed_are_told_apart_without_colour() -> None:
    figure = throughput(measured("hf growing"), "hf growing", PROVENANCE)
    top_left, top_right, bottom_left, bottom_right = figure.axes
    assert "Measured" in top_left.get_title() and "random weights" in top_left.get_title()
    assert "Printed" in top_right.get_title() and "not measured" in top_right.get_title()
    for left, right in ((top_left, top_right), (bottom_left, bottom_right)):
        assert not left.get_ylabel().startswith("printed") and right.get_ylabel().startswith("printed")
        assert left.get_facecolor() != right.get_facecolor()
    markers = [c.lines[0].get_marker() for c in top_right.containers]
    assert len(set(markers)) == len(markers)
    plt.close(figure)


def test_small_models_are_drawn_in_millions() -> None:
    figure = throughput(measured("hf growing", unit=1e6), "hf growing", PROVENANCE)
    assert "million" in figure.axes[2].get_xlabel() and "billion" in figure.axes[3].get_xlabel()
    dense = next(c for c in figure.axes[0].containers if c.get_label() == "dense").lines[0]
    assert list(dense.get_xdata()) == pytest.approx([3.0])
    plt.close(figure)


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(ValueError, match="vllm"):
        throughput(measured("hf growing"), "vllm", PROVENANCE)


def test_files_are_written_whole_and_repeat(tmp_path: Path) -> None:
    paths = write_throughput(measured("hf growing"), PROVENANCE, tmp_path)
    assert [p.name for p in paths] == ["figure8.png", "figure8.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert imread(paths[0]).std() > 0.05
    first = paths[1].read_bytes()
    assert first.startswith(b"%PDF")
    write_throughput(measured("hf growing"), PROVENANCE, tmp_path)
    assert paths[1].read_bytes() == first
    two = write_throughput(measured("hf growing", "hf static fused"), PROVENANCE, tmp_path)
    assert [p.name for p in two][::2] == ["figure8_hf_growing.png", "figure8_hf_static_fused.png"]
    assert sorted(tmp_path.iterdir()) == sorted(two)
