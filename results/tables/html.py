"""A document's parts as HTML: every text is escaped, of markup only bold, emphasis and code are read."""

import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from results.tables.columns import Column

Block = str | list[str]
"""A paragraph, a heading if it begins with ``## ``, or the items of a list."""
VERDICT_CLASSES = {
    "follows": "agrees",
    "holds": "agrees",
    "does not follow": "disagrees",
    "does not hold": "disagrees",
    "cannot be derived": "open",
    "cannot be told apart": "open",
    "not measured": "absent",
}
_MARKUP = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*(?!\s)([^*]+?)(?<!\s)\*")
_TERM = re.compile(r"\*\*(.+?)\*\*")


def anchor(*parts: str) -> str:
    """The name of a place in a page."""
    return re.sub(r"[^\w.]+", "-", "-".join(parts))


def inline_html(text: str) -> str:
    """A text with its bold, its emphasis and its code as HTML; a verdict in bold has the class of its kind."""

    def marked(found: re.Match[str]) -> str:
        code, bold, emphasis = found.groups()
        if code or emphasis:
            return f"<code>{code}</code>" if code else f"<em>{emphasis}</em>"
        return f"<strong{_classes(_verdict(bold))}>{bold}</strong>"

    return _MARKUP.sub(marked, escape(text))


def block_html(block: Block, name: str) -> str:
    """A block of the document ``name``, headings one level lower; a paragraph that begins in bold is a place."""
    if not isinstance(block, str):
        items = "".join(f"<li>{inline_html(item)}</li>\n" for item in block)
        return f"<ul>\n{items}</ul>\n" if items else ""
    if (heading := block.lstrip()).startswith("## "):
        return f"<h3>{inline_html(heading.removeprefix('## '))}</h3>\n"
    place = "".join(f' id="{escape(place)}"' for place in places_of_blocks([block], name))
    return f"<p{place}>{inline_html(block)}</p>\n"


def places_of_blocks(blocks: Sequence[Block], name: str) -> list[str]:
    """The anchors of those paragraphs that begin in bold."""
    terms = (_TERM.match(block) for block in blocks if isinstance(block, str))
    return [anchor(name, term.group(1)) for term in terms if term]


def table_html(columns: Sequence[Column], rows: Sequence[Mapping[Any, Any]], name: str, places: Collection[str]) -> str:
    """A table in a box that may scroll, and is within reach of the keyboard. Columns are marked as they are declared:
    ``number``, ``unmeasured``, and ``key`` for the one that stays in sight. A row links to the place its keys name."""
    keys = [column for column in columns if column.key]
    marks = {
        column: ["key"] * (column.key and column.text)
        + ["number"] * (not column.text)
        + ["unmeasured"] * column.unmeasured
        for column in columns
    }
    head = "".join(f"<th{_classes(marks[column])}>{escape(column.header)}</th>" for column in columns)
    lines = []
    for row in rows:
        place = anchor(name, *(key.shown(row) for key in keys))
        line = ""
        for column in columns:
            text = column.shown(row)
            shown = escape(text)
            if column in keys[:1] and place in places:
                shown = f'<a href="#{escape(place)}">{shown}</a>'
            line += f"<td{_classes([*marks[column], *_verdict(text)])}>{shown}</td>"
        lines.append(f"<tr>{line}</tr>\n")
    return (
        '<div class="box" tabindex="0" role="region" aria-label="table"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )


def _verdict(text: str) -> list[str]:
    return ["verdict", VERDICT_CLASSES[text]] if text in VERDICT_CLASSES else []


def _classes(names: Sequence[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""
