"""Two runs on one store, on one folder of results, and on the store of somebody else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chaos
SOMEBODY = 65534
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


def test_a_second_run_on_one_store_is_refused_and_the_first_not_disturbed(
    place: Any, undisturbed: Any, account: Callable[..., None]
) -> None:
    place.remove(key for key in place.outputs() if key.startswith(("sft/", "judge/")))
    with place.start() as first:
        assert first.wait_until(place.half_written)
        second = place.run()
        assert second.line.startswith("another run is using")
        ended = first.ended()
    assert ended.code == 0 and place.csv == undisturbed.csv and not place.wrong(), ended
    account("two runs", "on one store", second.line.replace(str(place.folder), ""), "the first: table equal")


def test_two_runs_may_fill_one_folder_of_results(
    place: Any, undisturbed: Any, tmp_path: Path, account: Callable[..., None]
) -> None:
    other = type(place)(tmp_path / "other")
    shutil.copytree(undisturbed.store, other.store, copy_function=shutil.copy2)
    place.remove(())
    other.results = place.results
    seen: set[bytes] = set()

    def look() -> None:
        if (place.results / "table6.csv").exists():
            seen.add(place.csv)

    with place.start() as first, other.start() as second:
        first.wait_until(look)
        second.wait_until(look)
        ended = [first.ended(), second.ended()]
    assert [each.code for each in ended] == [0, 0], ended
    assert seen == {undisturbed.csv}, "half a table could be read"
    assert not place.wrong() and not other.wrong()
    records = [json.loads((each.results / "table6.json").read_text()) for each in (place, undisturbed)]
    assert records[0]["cells"] == records[1]["cells"]
    account("two runs", "two stores, one folder of results", "both published", "table equal, never half")


def test_somebody_elses_store_is_one_line(place: Any, undisturbed: Any, account: Callable[..., None]) -> None:
    """Readable, but not to be written to; root is held to that too once it has given up its privileges."""
    place.remove(key for key in place.outputs() if key.startswith("judge/"))
    around: tuple[str, ...] = ()
    paths = [place.store, *place.store.rglob("*")]
    if os.geteuid():
        for path in paths:
            path.chmod(path.stat().st_mode & ~0o222)
    else:
        if shutil.which("setpriv") is None:
            pytest.skip("root is refused nothing, and setpriv isn't here")
        around = WITHOUT_PRIVILEGES
        for path in paths:
            os.chown(path, SOMEBODY, SOMEBODY)
    before = place.outputs()
    refused = place.run(around)
    assert refused.line.startswith("can't write to the store") and "--store" in refused.line
    assert place.outputs() == before
    if os.geteuid():
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)
    ended = place.run()
    assert ended.code == 0 and place.csv == undisturbed.csv, ended
    account("two runs", "another user's store", refused.line.replace(str(place.folder), ""), "its owner: table equal")
