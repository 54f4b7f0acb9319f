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
from pydantic import BaseModel, ValidationError

from results.atomic import written_whole
from results.markdown_html import VERDICT_CLASSES, render_markdown
from results.printed import PAPER_TABLES
from results.run_records import NamedRuns, Place, places_of

PAGE = "report.html"
TEMPLATE = "report_page.jinja"
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

    name: str
    label: str
    title: str
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


class _Claim(BaseModel):
    kind: str
    printed_verdict: str
    measured_verdict: str


class _Record(BaseModel):
    """Of any JSON in the folder, what the page takes from it; the rest is in the Markdown beside it."""

    notes: list[str] = []
    cells: list[NamedRuns] = []
    quantized_cells: list[NamedRuns] = []
    points: list[NamedRuns] = []
    claims: list[_Claim] = []


def build_page(folder: Path, store: Path, targets: Mapping[str, str], arguments: str) -> Page:
    """What the page of a folder of written tables and figures shows.

    Args:
        folder: tables as ``.md`` beside ``.json``, figures as ``.png``.
        store: where the runs behind the cells may lie, as <stage>/<hash>/run.json.
        targets: everything that a command makes -> the table whose measurements it needs.
        arguments: of the commands that make what is missing.

    Raises:
        ValueError: the folder holds no table, or a file in it is damaged.
    """
    paths = [path for path in sorted(folder.glob("*.json"), key=_order) if path.with_suffix(".md").is_file()]
    if not paths:
        raise ValueError(f"{folder} holds no table yet; ./reproduce.sh table6 {arguments} makes one")
    records = {path.stem: _read(path) for path in paths}
    figures = [_figure(path) for path in sorted(folder.glob("figure*.png"), key=_order)]
    there = {*records, *(figure.of for figure in figures)}
    tables = sorted((path.stem for path in PAPER_TABLES.glob("table*.csv")), key=lambda stem: _order(Path(stem)))
    wanted = dict.fromkeys([*tables, *(f"figure{number}" for number in PAPER_FIGURES), *targets])
    return Page(
        name=folder.resolve().name,
        sections=[_section(path, records, figures, store, targets) for path in paths],
        figures=[figure for figure in figures if targets.get(figure.of) not in records],
        missing=[
            Missing(_label(name), f"./reproduce.sh {name} {arguments}" if name in targets else "")
            for name in wanted
            if name not in there
        ],
        incomplete=[
            (_label(name), note) for name, record in records.items() for note in record.notes if _left_out(note)
        ],
        tallies=_tallies([claim for record in records.values() for claim in record.claims if claim.kind == "claim"]),
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
    path: Path, records: Mapping[str, _Record], figures: Sequence[Figure], store: Path, targets: Mapping[str, str]
) -> Section:
    name, record = path.stem, records[path.stem]
    places = places_of([*record.cells, *record.quantized_cells, *record.points], name, store, path.parent)
    document = render_markdown(path.with_suffix(".md").read_text(encoding="utf-8"), name, {p.anchor for p in places})
    source = targets.get(name, "")
    return Section(
        name=name,
        label=_label(name),
        title=document.title,
        html=document.html,
        figures=[figure for figure in figures if targets.get(figure.of) == name],
        files=[f"{name}{suffix}" for suffix in (".csv", ".json", ".md") if path.with_suffix(suffix).is_file()],
        places=places,
        derived_from=source if source != name and source in records else "",
    )


def _read(path: Path) -> _Record:
    try:
        return _Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is damaged: {where + ': ' if where else ''}{first['msg']}") from error


def _figure(path: Path) -> Figure:
    number = re.match(r"figure\d*", path.stem)
    assert number is not None, "found by this very name"
    try:
        with Image.open(path) as image:
            # WebP without loss is less than half of matplotlib's PNG
            encoded = io.BytesIO()
            image.save(encoded, "WEBP", lossless=True)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture: {error}") from error
    pdf = path.with_suffix(".pdf")
    return Figure(
        title=_label(path.stem),
        of=number.group(),
        source="data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode(),
        pdf=pdf.name if pdf.is_file() else "",
    )


def _order(path: Path) -> tuple[bool, int, str]:
    """Tables and figures by their numbers, then the rest by name."""
    number = re.match(r"(?:table|figure)(\d+)", path.stem)
    return (number is None, int(number.group(1)) if number else 0, path.stem)


def _label(name: str) -> str:
    return re.sub(r"^(table|figure)(?=\d)", r"\1 ", name).replace("_", " ").capitalize()


def _left_out(note: str) -> bool:
    return note.startswith("Printed") and "but not measured" in note


def _tallies(claims: Sequence[_Claim]) -> dict[str, Counter[str]]:
    if not claims:
        return {}
    return {
        "On the paper's own printed numbers": Counter(claim.printed_verdict for claim in claims),
        "Measured here": Counter(claim.measured_verdict for claim in claims),
    }
