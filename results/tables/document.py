"""A table as the terminal, its files and the report page show it: each of its columns is declared once."""

import json
import math
import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pandas as pd
import rich.box
import rich.table
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from rich.text import Text

from results.files import written_whole
from results.numbers.shown import BLANK
from results.statements.verdicts import Verdict
from results.tables.columns import Column, printed
from results.tables.html import VERDICT_CLASSES, Block, block_html, places_of_blocks, table_html

_STYLES = {"agrees": "not dim green", "disagrees": "not dim red", "open": "not dim yellow", "absent": "dim"}
NOT_SHOWN = f"`{BLANK}`: not measured in this run, or not printed in the paper."
NOT_MEANT = f"`{BLANK}`: not measured in this run, not printed in the paper, or without meaning for the row."


def _frame_of(rows: Any) -> Any:
    if isinstance(rows, pd.DataFrame):
        return rows
    infinite = {"Infinity": math.inf, "-Infinity": -math.inf}
    return pd.DataFrame([{name: infinite.get(value, value) for name, value in row.items()} for row in rows])


def _json_rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    """A frame's rows as strict JSON has them: missing is null, an infinite number the string pydantic reads back."""

    def value(number: object) -> object:
        if isinstance(number, float) and math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        return None if pd.isna(number) else number  # type: ignore[call-overload]

    return [{str(name): value(number) for name, number in row.items()} for row in frame.to_dict("records")]


Frame = Annotated[pd.DataFrame, BeforeValidator(_frame_of), PlainSerializer(_json_rows)]


class Document(BaseModel):
    """One kind of table, as it is written and shown. Its fields are its JSON: those that are set, in this order.

    So it is made again from its own file, without judging or measuring anew. ``table`` is the number of the paper's
    table, or the name of one that the paper does not have, which has no ``printed_model`` either; ``source`` says
    whether printed or measured numbers are behind what is computed from another table. ``provenance`` says what the
    numbers come from: title and first lines say what is in ``said``, the rest is listed below the notes.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    table: int | str | None = None
    source: str | None = None
    printed_model: str | None = None
    provenance: dict[str, str] = {}
    rows: Frame = pd.DataFrame()
    verdicts: list[Verdict] = []
    notes: list[str] = []

    held: ClassVar[str]
    """The field that says which kind it is: most often its cells or points."""
    numbers: ClassVar[tuple[int | None, ...]] = ()
    """What ``table`` may be, where other kinds have this field too."""
    name: ClassVar[str] = ""
    """What its files are called if it has no ``table``."""
    said: ClassVar[tuple[str, ...]] = ("preset", "model", "date", "command")
    what: ClassVar[str] = ""
    """What the title says that the table is about."""
    ours: ClassVar[str] = "not called *printed*"
    compare: ClassVar[str] = ""
    """How to read the printed columns beside ours."""
    blank: ClassVar[str] = NOT_SHOWN
    exact: ClassVar[tuple[str, ...]] = ()
    """Columns that the CSV has with nine decimals, never in exponents."""
    group: ClassVar[tuple[str, ...]] = ("method",)
    """On a terminal a rule stands where one of these entries of a row changes."""
    narrow: ClassVar[bool] = True
    """Many columns: on a terminal a header has a word a line."""
    wraps: ClassVar[bool] = True
    """On a narrow terminal a field takes more lines; if not, it is cut short, first that of a column that yields."""

    @abstractmethod
    def columns(self) -> list[Column]:
        """The columns, from left to right."""

    @classmethod
    def owns(cls, record: Mapping[str, Any]) -> bool:
        """Whether a JSON record is one of this kind."""
        return cls.held in record and (not cls.numbers or record.get("table") in cls.numbers)

    @property
    def frame(self) -> pd.DataFrame:
        """The table with all its numbers."""
        return self.rows

    @property
    def measured(self) -> list[Any]:
        """The cells or points that it is made of, each with its ``runs``; none if it follows from other tables."""
        return [one for one in getattr(self, self.held) if hasattr(one, "runs")]

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"table{self.table}" if isinstance(self.table, int) else self.table or self.name

    @property
    def label(self) -> str:
        """What a person calls it."""
        return label(self.stem)

    @property
    def title(self) -> str:
        """The heading, without markup."""
        return self.measured_with(self.what)

    def measured_with(self, what: str) -> str:
        """A heading that says what the table is about, and beside whose numbers it stands."""
        about = ", ".join(filter(None, [what, f"measured with {self.provenance.get('model')}"]))
        preset = f" (preset {self.provenance.get('preset')})" * ("preset" in self.said)
        return f"{self.label}: {about}{preset}" + f" beside the paper's {self.printed_model}" * bool(self.printed_model)

    @property
    def says(self) -> Block:
        """What stands between title and table: what was measured and under which conditions, and what is printed."""
        p, first = self.provenance, self.measured[:1]
        preset = f"preset {p.get('preset')}, " * ("preset" in self.said)
        made = f"Model {p.get('model')}, {preset}{p.get('date')}, by `{p.get('command')}`"
        where = ": ".join([made, *(str(one.conditions) for one in first if hasattr(one, "conditions"))])
        if not self.printed_model:
            return [f"**Measured in this run**: every column. {where}.", f"`{BLANK}`: not measured in this run."]
        return [
            f"**Measured in this run**: every column {self.ours}. {where}.",
            f"**Printed in the paper**: the columns called *printed*, for {self.printed_model}{self.compare}.",
            self.blank,
        ]

    def below(self) -> list[Block]:
        """What stands below the table: verdicts, notes and provenance."""
        return [*self._verdicts(), "## Notes", [*self.notes, *self.further_provenance()]]

    def _verdicts(self) -> list[Block]:
        blocks: list[Block] = []
        if self.verdicts:
            blocks.append(f"## What this run says of the paper's statements about {self.label}")
        for name, statement, section in dict.fromkeys((v.id, v.statement, v.section) for v in self.verdicts):
            judged = [
                f"{f'{v.benchmark}: ' if v.benchmark else ''}**{v.verdict}**. {v.explanation} "
                f"*The same on the printed numbers: {v.printed}*"
                for v in self.verdicts
                if v.id == name
            ]
            blocks += [f"**{name}**: “{statement}” ({section})", judged]
        return blocks

    def further_provenance(self) -> list[str]:
        """A line for each entry of the provenance that the heading does not say."""
        return [f"{key}: {value}" for key, value in self.provenance.items() if key not in self.said]

    def benchmarks(self) -> list[str]:
        """The benchmarks that the table has accuracies of."""
        names = [str(name) for name in self.frame.columns]
        return [n.removesuffix("_acc") for n in names if n.endswith("_acc") and not n.startswith("printed_")]

    def texts(self, before: str) -> list[str]:
        """The texts that the table has perplexities of, in columns that begin with ``before``."""
        return [str(name).removeprefix(before) for name in self.frame.columns if str(name).startswith(before)]

    def printed_columns(self, size: str, header: str) -> list[Column]:
        """The columns of the printed sizes and accuracies, as far as the table has them."""
        headers = {size: (header, ".2f")}
        headers |= {f"printed_{name}_acc": (f"{name} acc %", ".1f") for name in self.benchmarks()}
        return [printed(said, name, spec) for name, (said, spec) in headers.items() if name in self.frame]

    def csv_formats(self) -> Mapping[str, str]:
        """How the CSV writes the numbers of some columns."""
        return dict.fromkeys(self.exact, ".9f")

    def write(self, out: Path) -> list[Path]:
        """Write ``<stem>.csv``, ``.md`` and ``.json`` under ``out``, all whole or none; returns their paths.

        Raises:
            ValueError: the provenance lacks what the heading says, or a number is one that JSON has no word for.
        """
        if missing := [key for key in self.said if not self.provenance.get(key)]:
            raise ValueError(f"the provenance of {self.label} lacks {', '.join(missing)}")
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        record = json.loads(self.model_dump_json(include=given))
        return write_files(out, self.stem, {".csv": self._csv(), ".md": self._markdown(), ".json": json_text(record)})

    def _csv(self) -> str:
        """A missing number is an empty field."""
        written = self.frame.copy()
        for name, spec in self.csv_formats().items():
            written[name] = ["" if pd.isna(value) else format(value, spec) for value in self.frame[name]]
        return written.to_csv(index=False, float_format="%.10g")

    def _markdown(self) -> str:
        columns, rows = self._in_files()
        table = markdown_table([c.header for c in columns], [[c.shown(row) for c in columns] for row in rows])
        blocks = [f"# {self.title}", self.says, table, *self.below()]
        texts = (block if isinstance(block, str) else "\n".join(f"- {item}" for item in block) for block in blocks)
        return "\n\n".join(filter(None, texts)) + "\n"

    def html(self, places: Collection[str] = ()) -> str:
        """All but the title as HTML, headings one level lower, every text escaped.

        places: anchors elsewhere on the page. A row links to the one that its keys name, or to a paragraph of this
        document that begins with them in bold.
        """
        blocks = self.below()
        known = {*places, *places_of_blocks(blocks, self.stem)}
        table = table_html(*self._in_files(), self.stem, known)
        return "".join([block_html(self.says, self.stem), table, *(block_html(block, self.stem) for block in blocks)])

    def terminal(self) -> rich.table.Table:
        """The table for a terminal: what was not measured is dim."""
        rows = self.frame.to_dict("records")
        return terminal_table(self.columns(), rows, lambda row: [row[n] for n in self.group], self.narrow, self.wraps)

    def _in_files(self) -> tuple[list[Column], list[dict[Any, Any]]]:
        return [column for column in self.columns() if column.files], self.frame.to_dict("records")


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line ends inside a field do not break it."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(f.replace("|", "\\|").replace("\n", " ") for f in row) + " |" for row in lines)


def terminal_table(
    columns: Sequence[Column],
    rows: Sequence[Any],
    group: Callable[[Any], object] = lambda row: None,
    narrow: bool = True,
    wraps: bool = True,
) -> rich.table.Table:
    """Rows of any kind for a terminal: a rule stands where their group changes, verdicts are coloured.

    narrow, wraps: as in `Document`.
    """
    columns = [column for column in columns if column.terminal]
    view = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0) if narrow else (0, 1))
    for column in columns:
        view.add_column(
            column.header.replace(" ", "\n") if narrow else column.header,
            style="dim" if column.unmeasured else None,
            justify="left" if column.text else "right",
            no_wrap=not (wraps or column.yields),
            max_width=column.width,
        )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        fields = [column.shown(row) for column in columns]
        view.add_row(
            *(_field(field, wraps) for field in fields),
            style="bold" if "discrepancy" in fields else None,
            end_section=following is not None and group(following) != group(row),
        )
    return view


def _field(field: str, wraps: bool) -> Text:
    style = _STYLES[VERDICT_CLASSES[field]] if field in VERDICT_CLASSES else ""
    return Text(field, style) if wraps else Text(field, style, no_wrap=True, overflow="ellipsis")


def label(stem: str) -> str:
    """What a person calls the table or the figure of files called so."""
    return re.sub(r"^(table|figure)(?=\d)", r"\1 ", stem).replace("_", " ").capitalize()


def json_text(record: Mapping[str, object]) -> str:
    """Strict JSON for people and programs.

    Raises:
        ValueError: the record holds a number that JSON has no word for.
    """
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_files(out: Path, stem: str, texts: Mapping[str, str]) -> list[Path]:
    """Write ``stem`` with each suffix under ``out``, all of them or, if there is no room for one, none."""
    paths = [out / f"{stem}{suffix}" for suffix in texts]
    with ExitStack() as stack:
        for path, text in zip(paths, texts.values(), strict=True):
            stack.enter_context(written_whole(path)).write_text(text, encoding="utf-8")
    return paths
