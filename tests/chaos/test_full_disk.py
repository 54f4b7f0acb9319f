"""The disk full in the middle of a write: in the store, where different stages hit it, and in the results."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.chaos
LATER = ("sft", "perplexity", "evaluate", "judge")


@pytest.mark.parametrize(
    ("forgotten", "room"),
    [
        pytest.param(("finetune",), 200, id="in the fine-tuned model"),
        pytest.param(("compress", *LATER), 600, id="in the checkpoints of the cells"),
        pytest.param(("evaluate", "judge"), 24, id="in the small files at the end"),
    ],
)
def test_a_full_store_is_one_line_and_the_next_call_goes_on(
    forgotten: tuple[str, ...],
    room: int,
    place: Any,
    undisturbed: Any,
    small_disk: Any,
    account: Callable[..., None],
) -> None:
    """room: KB that are left beside what is there already; forgotten: stages that are to run."""
    place.remove(key for key in place.outputs() if key.startswith(forgotten))
    shutil.copytree(place.store, small_disk.folder / "store", copy_function=shutil.copy2)
    place.store = small_disk.folder / "store"
    begun = place.outputs()
    small_disk.leave(room)
    full = place.run()
    assert "no space left on " in full.line.lower(), full
    kept = place.outputs()
    assert {key: kept[key] for key in begun} == begun and not place.wrong()
    assert not list(place.results.glob("*"))
    small_disk.leave(256 * 1024)
    ended = place.run()
    assert ended.code == 0, ended
    after = place.outputs()
    assert {key: after[key] for key in kept} == kept, "something finished was made again"
    assert place.csv == undisturbed.csv and not place.wrong()
    line = full.line.replace(str(small_disk.folder), "")
    account("disk", f"store, {room} KB left", line, f"next call: {len(kept)} kept, {len(after) - len(kept)} made")


@pytest.mark.parametrize("room", [4, 24, 120])
def test_half_a_table_is_never_published(
    room: int, place: Any, undisturbed: Any, small_disk: Any, account: Callable[..., None]
) -> None:
    place.remove(())
    place.results = small_disk.folder / "results"
    small_disk.leave(room)
    full = place.run()
    assert "no space left on " in full.line.lower() and "results" in full.line, full
    there = {path.name for path in place.results.iterdir()}
    texts = {f"table6.{kind}" for kind in ("csv", "md", "json")}
    assert texts <= there or not texts & there, "some of a table's files are published, and some are not"
    figures = there - texts  # they hold no date
    assert all((place.results / name).read_bytes() == (undisturbed.results / name).read_bytes() for name in figures)
    small_disk.leave(256 * 1024)
    ended = place.run()
    assert ended.code == 0 and place.csv == undisturbed.csv and not place.wrong(), ended
    line = full.line.replace(str(small_disk.folder), "")
    account("disk", f"results, {room} KB left", line, f"published: {', '.join(sorted(there)) or 'nothing'}")
