"""Markdown as HTML: what is markup, what stays text, and which columns are numbers."""

import pytest
from lxml import html

from results.documents import markdown_table
from results.markdown_html import VERDICT_CLASSES, render_markdown


def tree(text: str, places: tuple[str, ...] = ()) -> html.HtmlElement:
    return html.fragment_fromstring(render_markdown(text, "doc", places).html, create_parent="div")


@pytest.mark.parametrize(
    "column, is_number",
    [
        (["1", "-2.5", "+3"], True),
        (["89.4 [86.4, 91.8]", "—"], True),
        (["1.28 → —", "1.12e+05", "inf"], True),
        (["0.00066 to 0.00077", "— to 0.00029"], True),
        (["7b", "13b"], False),
        (["4.2", "abstract"], False),
        (["8-bit"], False),
        (["svd", "1"], False),
    ],
)
def test_a_column_is_one_of_numbers_if_every_field_begins_with_one(column: list[str], is_number: bool) -> None:
    table = tree("\n".join(markdown_table(["x", "y"], [[value, "text"] for value in column])))
    first, second = (cell.get("class", "") for cell in table.xpath(".//th"))
    assert (first == "number") == is_number and second == ""
    assert [cell.get("class", "") for cell in table.xpath(".//td[1]")] == [first] * len(column)


def test_fields_survive_bars_asterisks_and_brackets() -> None:
    fields = ["a|b", "*_seed_sd", "[1, 2]", "<i>", "dense_sft", "a & b", "x [y](http://z)", "&amp;"]
    table = tree("\n".join(markdown_table(["x"], [[field] for field in fields])))
    assert [cell.text_content() for cell in table.xpath(".//td")] == fields


def test_the_title_is_taken_out_and_headings_go_one_level_down() -> None:
    document = render_markdown("# A title, `code`\n\n## Notes\n\n- one\n", "doc")
    assert document.title == "A title, `code`"
    assert "<h3>Notes</h3>" in document.html and "title" not in document.html
    assert render_markdown("no heading\n", "doc").title == "doc"


@pytest.mark.parametrize("verdict", VERDICT_CLASSES)
def test_verdicts_are_marked_in_text_and_in_tables_and_other_words_are_not(verdict: str) -> None:
    found = tree(f"- gsm8k: **{verdict}**. As **shown**.\n\n" + "\n".join(markdown_table(["a"], [[verdict], ["what"]])))
    marked = found.xpath(".//*[contains(@class, 'verdict')]")
    assert [(e.tag, e.text) for e in marked] == [("strong", verdict), ("td", verdict)]
    assert all(VERDICT_CLASSES[verdict] in e.get("class") for e in marked)


def test_a_line_links_to_its_paragraph_or_to_a_place_elsewhere_and_nowhere_else() -> None:
    claims = "\n".join(markdown_table(["claim", "section"], [["c-1", "4"], ["c-2", "4"]])) + "\n\n**c-1**: so.\n"
    found = tree(claims)
    (link,) = found.xpath(".//a/@href")
    assert link == f"#{found.xpath('.//p/@id')[0]}"
    cells = "\n".join(markdown_table(["route", "method", "row"], [["hf", "svd", "1"], ["hf", "svd", "2"]]))
    (link,) = tree(cells, ("doc-svd-2",)).xpath(".//a")
    assert link.get("href") == "#doc-svd-2" and link.text == "svd"
