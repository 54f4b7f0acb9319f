"""The report: everything that a folder of results holds as one static page, which needs no other file to be read."""

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from results.files import read_bounded, written_whole
from results.numbers.printed import PAPER_TABLES
from results.page.run_records import Place, places_of
from results.tables.claims import ClaimList
from results.tables.document import Document, label
from results.tables.html import VERDICT_CLASSES
from results.tables.written import document_at

PAGE = "report.html"
TEMPLATE = "page.jinja"
LARGEST_PICTURE = 50_000_000
"""Pixels."""
PAPER_FIGURES = range(1, 11)


@dataclass(frozen=True)
class Figure:
    """A figure's title, the start of its name that says which figure it is, the picture as a data URI, and its PDF."""

    title: str
    of: str
    source: str
    pdf: str


@dataclass(frozen=True)
class Section:
    """A table, or the list of claims: its text as HTML, its figures and files, and where its numbers come from.

    derived_from: the table whose cells it is computed from, empty where it has cells of its own.
    """

    document: Document
    html: str
    figures: Sequence[Figure]
    files: Sequence[str]
    places: Sequence[Place]
    derived_from: str


@dataclass(frozen=True)
class Missing:
    """What the folder does not have, and the command that makes it; empty where none does."""

    label: str
    command: str


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    figures: those whose table is not in the folder. missing: what was not run. incomplete: of tables that are there,
    what the paper prints and the run left out. tallies: heading -> verdict -> number of the paper's claims.
    """

    name: str
    sections: Sequence[Section]
    figures: Sequence[Figure]
    missing: Sequence[Missing]
    incomplete: Sequence[tuple[str, str]]
    tallies: Mapping[str, Mapping[str, int]]


def build_page(folder: Path, store: Path, targets: Mapping[str, str], arguments: str) -> Page:
    """What the page of a folder of written tables and figures shows.

    Args:
        folder: tables as ``.json`` beside ``.md``, figures as ``.png``.
        store: where the runs behind the cells may lie, as <stage>/<hash>/run.json.
        targets: everything that a command makes -> the table whose measurements it needs.
        arguments: of the commands that make what is missing.

    Raises:
        ValueError: the folder holds no table, or a file in it is damaged.
    """
    paths = [path for path in sorted(folder.glob("*.json"), key=_order) if path.with_suffix(".md").is_file()]
    if not paths:
        raise ValueError(f"{folder} holds no table yet; ./reproduce.sh table6 {arguments} makes one")
    pictures = sorted(folder.glob("*.png"), key=_order)
    for path in (*paths, *pictures):
        if path.resolve().parent != folder.resolve():  # the page goes to others, with all that is in it
            raise ValueError(f"{path} is a link to {path.resolve()}: put a copy there, or remove it")
    documents = {path.stem: document_at(path) for path in paths}
    figures = [_figure(path) for path in pictures]
    there = {*documents, *(figure.of for figure in figures)}
    tables = sorted((path.stem for path in PAPER_TABLES.glob("table*.csv")), key=lambda stem: _order(Path(stem)))
    wanted = dict.fromkeys([*tables, *(f"figure{number}" for number in PAPER_FIGURES), *targets])
    claims = [c for d in documents.values() if isinstance(d, ClaimList) for c in d.claims if c.kind == "claim"]
    judged = {
        "On the paper's own printed numbers": Counter[str](claim.printed_verdict for claim in claims),
        "Measured here": Counter[str](claim.measured_verdict for claim in claims),
    }
    return Page(
        name=folder.resolve().name,
        sections=[_section(path, documents, figures, store, targets) for path in paths],
        figures=[figure for figure in figures if targets.get(figure.of) not in documents],
        missing=[
            Missing(label(name), f"./reproduce.sh {name} {arguments}" if name in targets else "")
            for name in wanted
            if name not in there
        ],
        incomplete=[
            (document.label, note)
            for document in documents.values()
            for note in document.notes
            if note.startswith("Printed") and "but not measured" in note
        ],
        tallies=judged if claims else {},
    )


def write_page(page: Page, command: str, path: Path) -> None:
    """Write the page as HTML, whole or not at all; ``command`` is what made it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(TEMPLATE).render(page=page, command=command, verdict_classes=VERDICT_CLASSES)
    with written_whole(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _section(
    path: Path, documents: Mapping[str, Document], figures: Sequence[Figure], store: Path, targets: Mapping[str, str]
) -> Section:
    name, document = path.stem, documents[path.stem]
    places = places_of(document.measured, name, store, path.parent)
    source = targets.get(name, "")
    return Section(
        document=document,
        html=document.html({place.anchor for place in places}),
        figures=[figure for figure in figures if targets.get(figure.of) == name],
        files=[f"{name}{suffix}" for suffix in (".csv", ".json", ".md") if path.with_suffix(suffix).is_file()],
        places=places,
        derived_from=source if source != name and source in documents else "",
    )


def _figure(path: Path) -> Figure:
    numbered = re.match(r"figure\d+", path.stem)
    try:
        with Image.open(io.BytesIO(read_bounded(path))) as image:
            if image.width * image.height > LARGEST_PICTURE:
                raise ValueError(f"{image.width} by {image.height} pixels")
            # WebP without loss is less than half of matplotlib's PNG
            encoded = io.BytesIO()
            image.save(encoded, "WEBP", lossless=True)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no picture: {error}") from error
    pdf = path.with_suffix(".pdf")
    return Figure(
        title=label(path.stem),
        of=numbered.group() if numbered else path.stem,
        source="data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode(),
        pdf=pdf.name if pdf.is_file() else "",
    )


def _order(path: Path) -> tuple[bool, int, str]:
    """Tables and figures by their numbers, then the rest by name."""
    number = re.match(r"(?:table|figure)(\d+)", path.stem)
    return (number is None, int(number.group(1)) if number else 0, path.stem)
