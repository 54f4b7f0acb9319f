"""The report: everything that the folder holds is on the page, nothing is loaded, and what is absent is named."""

import base64
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from lxml import html
from PIL import Image

from results.page.page import PAGE, build_page, write_page
from results.tables.accuracy import accuracy_document
from results.tables.html import VERDICT_CLASSES

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"table5": "table5", "table6": "table6", "figure2": "table6", "table10": "table6", "claims": "claims"}
BENCHMARKS = ["gsm8k", "math"]
HOSTILE = "<script>alert(1)</script> ![p](http://evil.example/p.png) [l](javascript:alert(2)) <img src=x onerror=a(3)>"
Published = Callable[..., html.HtmlElement]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "tiny"


@pytest.fixture
def published(table6_cells: Callable[..., list], provenance: dict[str, str], folder: Path, tmp_path: Path) -> Published:
    """Writes Table 6 of invented cells and gives the page of its folder, as read back from its file."""

    def publish(change: Callable[[list], list] = lambda cells: cells, model: str = "") -> html.HtmlElement:
        described = provenance | ({"model": model} if model else {})
        # few cells: what a statement's bootstrap costs grows with them
        cells = [cell for cell in table6_cells(n=60) if cell.method in ("dense", "svd", "impact")]
        accuracy_document(change(cells), 6, BENCHMARKS, described).write(folder)
        return page_of(folder, tmp_path / "runs")

    return publish


def page_of(folder: Path, store: Path) -> html.HtmlElement:
    write_page(build_page(folder, store, TARGETS, "--preset tiny"), "./reproduce.sh report", folder / PAGE)
    return html.parse(str(folder / PAGE)).getroot()


def table_fields(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|") and not line.startswith("| ---")]
    return [[field.strip() for field in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_field_of_a_written_table_stands_on_the_page(published: Published, folder: Path) -> None:
    (table,) = published().xpath("//section[@id='table6']/div[@class='box']/table")
    shown = [[cell.text_content() for cell in row.xpath("./th | ./td")] for row in table.iter("tr")]
    assert shown == table_fields((folder / "table6.md").read_text())
    classes = {cell.text_content(): cell.get("class", "") for cell in table.xpath(".//th")}
    assert classes["method"] == "key" and classes["keep %"] == "number"
    assert classes["printed gsm8k acc %"] == "number unmeasured"


def test_text_of_data_is_text_and_nothing_is_loaded(published: Published) -> None:
    def hostile(cells: list) -> list:
        return [*cells[:-1], cells[-1].model_copy(update={"method": HOSTILE, "row": 9, "note": HOSTILE})]

    page = published(hostile, model=HOSTILE)
    assert page.xpath("//script | //iframe | //link | //object | //*[@onerror]") == []
    assert all(source.startswith("data:") for source in page.xpath("//@src"))
    assert not any(urlparse(link).scheme or urlparse(link).netloc for link in page.xpath("//@href"))
    (section,) = page.xpath("//section[@id='table6']")
    assert HOSTILE in section.xpath("./h2")[0].text_content()
    assert HOSTILE in [cell.text_content() for cell in section.xpath(".//td")]
    assert any(HOSTILE in item.text_content() for item in section.xpath("./ul/li"))


def test_links_within_the_page_lead_somewhere(published: Published, folder: Path) -> None:
    page = published()
    names = Counter(page.xpath("//@id"))
    assert set(names.values()) == {1}
    links = page.xpath("//a[starts-with(@href, '#')]/@href")
    assert {unquote(link[1:]) for link in links} <= set(names)
    rows = table_fields((folder / "table6.md").read_text())[1:]
    assert {f"#table6-{row[0]}-{row[1]}" for row in rows} <= set(links)


def test_every_run_is_named_and_those_in_the_store_can_be_opened(
    published: Published, folder: Path, tmp_path: Path
) -> None:
    runs = {"sft": "sft/cc", "accuracy gsm8k": "judge/aa", "accuracy math": "judge/dd"}
    record = {
        "wall_s": 12.34,
        "started": "2026-01-02T03:04:05Z",
        "git": {"commit": "0123456789abcdef", "dirty": True},
        "inputs": {"generations": "b b", "data": "ee"},
    }
    for path, text in {
        "judge/aa/run.json": json.dumps(record),
        "evaluate/b b/generations.jsonl": "{}",
        "judge/dd/run.json": json.dumps(record)[:-9],
    }.items():
        (tmp_path / "runs" / path).parent.mkdir(parents=True)
        (tmp_path / "runs" / path).write_text(text)
    page = published(lambda cells: [*cells[:-1], cells[-1].model_copy(update={"runs": runs})])
    cells = json.loads((folder / "table6.json").read_text())["cells"]
    named = {element.text_content() for element in page.xpath("//details//code")}
    assert named == {key for cell in cells for key in cell["runs"].values()}

    def line(key: str) -> html.HtmlElement:
        return next(row for row in page.xpath("//details//tr") if key in [e.text_content() for e in row.iter("code")])

    assert {"12.3", "2026-01-02T03:04:05Z", "0123456789ab+changes"} <= {e.text for e in line("judge/aa").iter("td")}
    opened = [(folder / unquote(link)).resolve() for link in line("judge/aa").xpath(".//@href")]
    assert opened == [tmp_path / "runs/judge/aa/run.json", tmp_path / "runs/evaluate/b b/generations.jsonl"]
    assert "damaged" in line("judge/dd").text_content()
    assert line("sft/cc").xpath(".//@href") == [] and "seed 0" in line("sft/cc").text_content()


def test_what_was_not_run_is_named_with_its_command(published: Published) -> None:
    (section,) = published().xpath("//section[@id='not-run']")
    rows = [[cell.text_content() for cell in row.iter("td")] for row in section.xpath(".//tbody/tr")]
    commands = dict(rows)
    assert {f"Table {n}" for n in range(1, 15) if n != 6} | {f"Figure {n}" for n in range(1, 11)} <= commands.keys()
    assert "Table 6" not in commands
    assert commands["Table 10"] == "./reproduce.sh table10 --preset tiny"
    assert commands["Figure 2"] == "./reproduce.sh figure2 --preset tiny"
    assert "no command" in commands["Table 4"] and "no command" in commands["Figure 9"]
    assert any("Table 6" in (said := item.text_content()) and "asvd rows 1, 2" in said for item in section.iter("li"))


def test_figures_are_on_the_page_pixel_for_pixel(published: Published, folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    folder.mkdir(parents=True)
    for name in ("figure2a", "figure7"):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    page = published()
    (own,) = page.xpath("//section[@id='table6']//figure//img")
    (other,) = page.xpath("//section[@id='figures']//figure//img")
    for image in (own, other):
        encoded = base64.b64decode(image.get("src").partition(",")[2])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded)).convert("RGBA")), pixels)
    assert "Figure 2a" in own.get("alt")
    assert "Figure 2" not in [cell.text for cell in page.xpath("//section[@id='not-run']//td")]


def test_claims_are_counted_and_coloured(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    for suffix in (".json", ".md"):
        shutil.copy(ROOT / "results" / "tiny" / f"claims{suffix}", folder)
    found = json.loads((folder / "claims.json").read_text())["claims"]
    page = page_of(folder, tmp_path / "runs")
    said = " ".join(page.xpath("//header")[0].text_content().split())
    for judged in ("printed_verdict", "measured_verdict"):
        for verdict, count in Counter(claim[judged] for claim in found if claim["kind"] == "claim").items():
            assert f"{verdict} {count}" in said
    for claim in found:
        (link,) = page.xpath(f"//section[@id='claims']//td/a[text()={claim['id']!r}]")
        verdicts = link.xpath("../../td")[2:]
        assert [field.text for field in verdicts] == [claim["printed_verdict"], claim["measured_verdict"]]
        assert all(VERDICT_CLASSES[field.text] in field.get("class").split() for field in verdicts)
        (paragraph,) = page.xpath(f"//p[@id={link.get('href')[1:]!r}]")
        assert claim["sentence"] in paragraph.text_content()


@pytest.mark.parametrize("name", ["table6.json", "figure2a.png"])
def test_a_damaged_file_is_named(name: str, published: Published, folder: Path, tmp_path: Path) -> None:
    published()
    (folder / name).write_text('{"notes": [')
    with pytest.raises(ValueError, match=rf"{name} is") as error:
        build_page(folder, tmp_path, TARGETS, "")
    assert "\n" not in str(error.value)


def test_an_empty_folder_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no table yet; \./reproduce\.sh table6 --preset small makes one"):
        build_page(tmp_path, tmp_path, TARGETS, "--preset small")


def test_a_picture_that_would_fill_the_memory_is_named(published: Published, folder: Path, tmp_path: Path) -> None:
    published()
    Image.new("1", (9_000, 9_000)).save(folder / "figure2a.png")
    with pytest.raises(ValueError, match=r"figure2a\.png is no picture: 9000 by 9000 pixels"):
        build_page(folder, tmp_path, TARGETS, "")


@pytest.mark.parametrize("name", ["table6.json", "figure2a.png"])
def test_what_lies_elsewhere_is_not_shown(name: str, published: Published, folder: Path, tmp_path: Path) -> None:
    published()
    elsewhere = tmp_path / "elsewhere" / name
    elsewhere.parent.mkdir()
    if (folder / name).exists():
        (folder / name).rename(elsewhere)
    else:
        Image.new("1", (9, 9)).save(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"{name} is a link to .*elsewhere"):
        build_page(folder, tmp_path, TARGETS, "")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.write_text("[" * 100_000)])
def test_a_file_that_is_none_of_ours_is_named(
    make: Callable[[Path], object], published: Published, folder: Path, tmp_path: Path
) -> None:
    published()
    (folder / "table6.json").unlink()
    make(folder / "table6.json")
    with pytest.raises(ValueError, match=r"table6.json is no measured Table 6: (no regular file|nested too deep)"):
        build_page(folder, tmp_path, TARGETS, "")
