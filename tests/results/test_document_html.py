"""A document as HTML: what is markup, what stays text, and which columns are numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lxml import html
from pydantic import Field

from results.tables.columns import Column, number, printed, word
from results.tables.document import Document
from results.tables.html import VERDICT_CLASSES, Block


class Invented(Document):
    """A document of given columns, with given texts below."""

    shown: list[Column] = Field(exclude=True)
    after: list[Block] = Field(default=[], exclude=True)

    @classmethod
    def owns(cls, record: Mapping[str, Any]) -> bool:
        return True

    @property
    def says(self) -> Block:
        return []

    def columns(self) -> list[Column]:
        return self.shown

    def below(self) -> list[Block]:
        return self.after


def tree(
    columns: list[Column], rows: list[dict[str, Any]], after: list[Block] | None = None, places: tuple[str, ...] = ()
) -> html.HtmlElement:
    document = Invented(table="doc", rows=pd.DataFrame(rows), shown=columns, after=after or [])
    return html.fragment_fromstring(document.html(places), create_parent="div")


@pytest.mark.parametrize(
    "column, classes",
    [
        (number("x", "a"), "number"),
        (printed("x", "a", "g"), "number unmeasured"),
        (word("x", "a"), ""),
        (word("x", "a", key=True), "key"),
        (number("x", "a", key=True), "number"),
    ],
)
def test_a_column_is_marked_as_it_is_declared(column: Column, classes: str) -> None:
    table = tree([column, word("y")], [{"a": "1" if column.text else 1, "y": "text"}] * 2)
    first, second = (cell.get("class", "") for cell in table.xpath(".//th"))
    assert (first, second) == (classes, "")
    assert [cell.get("class", "") for cell in table.xpath(".//td[1]")] == [first] * 2


def test_fields_survive_bars_asterisks_and_brackets() -> None:
    fields = ["a|b", "*_seed_sd", "[1, 2]", "<i>", "dense_sft", "a & b", "x [y](http://z)", "&amp;", "**b**", '"`c`"']
    table = tree([word("x")], [{"x": field} for field in fields])
    assert [cell.text_content() for cell in table.xpath(".//td")] == fields


def test_bars_and_line_ends_do_not_break_a_written_table(tmp_path: Path) -> None:
    provenance = dict.fromkeys(Invented.said, "x")
    rows = pd.DataFrame({"x": ["a|b", "two\nlines"]})
    Invented(table="doc", rows=rows, shown=[word("x")], provenance=provenance).write(tmp_path)
    lines = (tmp_path / "doc.md").read_text().splitlines()
    assert lines[lines.index("| x |") :][2:4] == ["| a\\|b |", "| two lines |"]


def test_markup_of_our_own_texts_is_read_and_all_else_is_escaped() -> None:
    said = "**Bold**, *words*, `a * b` of *_seed_sd at 3 * 4: <b>&amp; [l](javascript:x) ![p](http://q)"
    (item,) = tree([word("x")], [], [[said]]).xpath("./ul/li")
    assert [(e.tag, e.text) for e in item] == [("strong", "Bold"), ("em", "words"), ("code", "a * b")]
    assert item.text_content() == "Bold, words, a * b of *_seed_sd at 3 * 4: <b>&amp; [l](javascript:x) ![p](http://q)"


def test_the_title_is_not_in_it_and_headings_go_one_level_down() -> None:
    page = tree([word("x")], [], ["## Notes", ["one"]])
    assert [heading.text for heading in page.xpath("./h3")] == ["Notes"]
    assert page.xpath(".//h1 | .//h2") == [] and "Doc" not in page.text_content()


@pytest.mark.parametrize("verdict", VERDICT_CLASSES)
def test_verdicts_are_marked_in_text_and_in_tables_and_other_words_are_not(verdict: str) -> None:
    found = tree([word("a")], [{"a": verdict}, {"a": "what"}], [[f"gsm8k: **{verdict}**. As **shown**."]])
    marked = found.xpath(".//*[contains(@class, 'verdict')]")
    assert sorted((e.tag, e.text) for e in marked) == [("strong", verdict), ("td", verdict)]
    assert all(VERDICT_CLASSES[verdict] in e.get("class") for e in marked)


def test_a_line_links_to_its_paragraph_or_to_a_place_elsewhere_and_nowhere_else() -> None:
    claims = [{"claim": "c-1", "section": "4"}, {"claim": "c-2", "section": "4"}]
    found = tree([word("claim", key=True), word("section")], claims, ["**c-1**: so."])
    (link,) = found.xpath(".//a/@href")
    assert link == f"#{found.xpath('.//p/@id')[0]}"
    rows = [{"route": "hf", "method": "svd", "row": 1}, {"route": "hf", "method": "svd", "row": 2}]
    columns = [word("route"), word("method", key=True), number("row", "row", key=True)]
    (link,) = tree(columns, rows, places=("doc-svd-2",)).xpath(".//a")
    assert link.get("href") == "#doc-svd-2" and link.text == "svd"


def test_a_table_stands_in_a_box_that_the_keyboard_reaches() -> None:
    (box,) = tree([word("x")], [{"x": "y"}]).xpath("./div[@class='box']")
    assert (box.get("tabindex"), box.get("role"), bool(box.get("aria-label"))) == ("0", "region", True)
