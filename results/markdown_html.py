"""The Markdown that this harness writes, as HTML: its text is escaped, its numbers and verdicts are marked."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from results.documents import BLANK

VERDICT_CLASSES = {
    "follows": "agrees",
    "holds": "agrees",
    "does not follow": "disagrees",
    "does not hold": "disagrees",
    "cannot be derived": "open",
    "cannot be told apart": "open",
    "not measured": "absent",
}
# beginnings of the headers of what a run did not measure
_NOT_MEASURED = ("printed", "extrapolated")
# columns that say together which claim or which model a line is about
_KEYS = ("claim", "method", "row")
# those of them that stay in sight while the others scroll
_STAYING = ("claim", "method")
_NUMBER = re.compile(rf"(?:{BLANK}|[+-]?(?:\d[\d,.]*(?:e[+-]?\d+)?|inf|nan))(?![\w-])")


@dataclass(frozen=True)
class Document:
    """A document's title as plain text, and the rest of it as HTML."""

    title: str
    html: str


def anchor(*parts: str) -> str:
    """The name of a place in a page."""
    return re.sub(r"[^\w.]+", "-", "-".join(parts))


def render_markdown(text: str, name: str, places: Collection[str] = ()) -> Document:
    """A document in HTML, its headings one level lower.

    Only what the harness writes is read as markup: headings, lists, tables, emphasis and code. Links, images and HTML
    stay text. A table stands in a box that may scroll; a column of numbers has the class ``number``, one that this run
    did not measure ``unmeasured``, that of claims or methods ``key``, a verdict ``verdict`` and its class of
    `VERDICT_CLASSES`.

    Args:
        name: of the document; its anchors begin with it.
        places: anchors elsewhere on the page. A table's line links to the one that its claim, or its method and row,
            name, and to a paragraph of this document that begins with it in bold.
    """
    tokens = _MARKDOWN.parse(text)
    title = name
    if tokens and tokens[0].tag == "h1":
        title, tokens = tokens[1].content, tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
        # emphasis leaves empty texts where its asterisks were
        token.children = [child for child in token.children or () if child.type != "text" or child.content]
        for opening, content in pairwise(token.children):
            if opening.type == "strong_open" and content.content in VERDICT_CLASSES:
                opening.attrs["class"] = _verdict_class(content.content)
    defined = _define_terms(tokens, name)
    for node in SyntaxTreeNode(tokens).walk():
        if node.type == "table":
            _mark_columns(node)
            _mark_rows(node, name, {*defined, *places})
    return Document(title, _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def _define_terms(tokens: Sequence[Token], name: str) -> set[str]:
    """Makes each paragraph that begins in bold a place; returns their anchors."""
    defined = set()
    for paragraph, inline in pairwise(tokens):
        begins = inline.children[:2] if inline.children else []
        if paragraph.type == "paragraph_open" and not paragraph.hidden and begins and begins[0].type == "strong_open":
            paragraph.attrs["id"] = anchor(name, begins[1].content)
            defined.add(str(paragraph.attrs["id"]))
    return defined


def _rows(table: SyntaxTreeNode) -> list[list[SyntaxTreeNode]]:
    return [row.children for part in table.children for row in part.children]


def _text(cell: SyntaxTreeNode) -> str:
    return cell.children[0].content


def _mark_columns(table: SyntaxTreeNode) -> None:
    for column in zip(*_rows(table), strict=True):
        header, *texts = map(_text, column)
        classes = [
            *["key"] * (header in _STAYING),
            *["number"] * all(map(_NUMBER.match, texts)),
            *["unmeasured"] * header.startswith(_NOT_MEASURED),
        ]
        for cell, text in zip(column, [header, *texts], strict=True):
            marked = [*classes, _verdict_class(text)] if text in VERDICT_CLASSES else classes
            if marked:
                cell.attrs["class"] = " ".join(marked)


def _mark_rows(table: SyntaxTreeNode, name: str, places: Collection[str]) -> None:
    head, *rows = _rows(table)
    keys = [i for i, cell in enumerate(head) if _text(cell) in _KEYS]
    for row in rows:
        target = anchor(name, *(_text(row[i]) for i in keys))
        inline = row[keys[0]].children[0].token if keys else None
        if inline is not None and target in places:
            opening, closing = Token("link_open", "a", 1, {"href": f"#{target}"}), Token("link_close", "a", -1)
            inline.children = [opening, *(inline.children or ()), closing]


def _verdict_class(verdict: str) -> str:
    return f"verdict {VERDICT_CLASSES[verdict]}"


def _box_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    # what scrolls must be within reach of the keyboard
    table = renderer.renderToken(tokens, index, options, env)
    return f'<div class="box" tabindex="0" role="region" aria-label="table">{table}'


def _box_close(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f"{renderer.renderToken(tokens, index, options, env)}</div>\n"


_MARKDOWN = MarkdownIt("zero").enable(["heading", "list", "table", "emphasis", "backticks"])
_MARKDOWN.add_render_rule("table_open", _box_open)
_MARKDOWN.add_render_rule("table_close", _box_close)
