"""The list of claims as files and on the terminal."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import rich.box
import rich.table
from rich.text import Text

from results.claims import Claim
from results.criteria import Kind
from results.documents import json_text, markdown_table, write_files
from results.provenance import BY, check_provenance

_HEADINGS: Mapping[Kind, str] = {
    "claim": "What the paper says",
    "finding": "What its printed numbers show besides",
}
# the rest of a long list of numbers is in the CSV and the JSON
_NUMBERS_SHOWN = 12
_STYLES = {
    "follows": "green",
    "holds": "green",
    "does not follow": "red",
    "does not hold": "red",
    "cannot be derived": "yellow",
    "cannot be told apart": "yellow",
}


def write_claims(found: Sequence[Claim], provenance: Mapping[str, str], out: Path) -> None:
    """Write ``claims.csv``, ``claims.md`` and ``claims.json`` under ``out``, each whole or not at all.

    Args:
        found: of `results.claims.claims`.
        provenance: at least ``command``; what more there is (of the measured tables) is listed.

    Raises:
        ValueError: the provenance lacks something required.
    """
    check_provenance(provenance, BY, "the claims")
    record = {"provenance": dict(provenance), "claims": [claim.model_dump() for claim in found]}
    write_files(
        out,
        "claims",
        {".csv": _csv(found), ".md": _markdown(found, provenance), ".json": json_text(record)},
    )


def _csv(found: Sequence[Claim]) -> str:
    table = pd.DataFrame(
        [
            {
                "id": claim.id,
                "kind": claim.kind,
                "section": claim.section,
                "benchmark": claim.benchmark,
                "printed_verdict": claim.printed_verdict,
                "measured_verdict": claim.measured_verdict,
                "sentence": claim.sentence,
                "recomputed": claim.recomputed,
                "measured": claim.measured,
                "rests_on": "; ".join(map(str, claim.rests_on)),
            }
            for claim in found
        ]
    )
    text = io.StringIO()
    table.to_csv(text, index=False)
    return text.getvalue()


def _markdown(found: Sequence[Claim], provenance: Mapping[str, str]) -> str:
    lines = [
        "# The paper's claims: what its printed tables give, and what the measured ones do",
        "",
        "- **Printed numbers**: the sentence recomputed from the paper's printed tables: it *follows*, *does not "
        "follow*, or *cannot be derived* from them. Nothing is measured for this.",
        "- **Measured**: the same computation on this harness's measured tables: it *holds*, *does not hold*, *cannot "
        "be told apart* from the opposite at 95 %, or is *not measured*.",
        *(f"- {key}: {value}" for key, value in provenance.items()),
        "",
        *markdown_table(
            ["claim", "section", "printed numbers", "measured"],
            [[c.id, _place(c), c.printed_verdict, c.measured_verdict] for c in found],
        ),
    ]
    for kind, heading in _HEADINGS.items():
        lines += ["", f"## {heading}", ""]
        for claim in found:
            if claim.kind == kind:
                lines += [*_paragraph(claim), ""]
    return "\n".join(lines).rstrip() + "\n"


def _place(claim: Claim) -> str:
    # an explanation in brackets belongs to the paragraph, not to the table
    return claim.section.split(" (")[0]


def _paragraph(claim: Claim) -> list[str]:
    sentence = f"“{claim.sentence}”" if claim.kind == "claim" else claim.sentence
    numbers = [str(number) for number in claim.rests_on]
    more = f"; and {len(numbers) - _NUMBERS_SHOWN} more" if len(numbers) > _NUMBERS_SHOWN else ""
    return [
        f"**{claim.id}**: {sentence} ({claim.section})",
        "",
        f"- Printed numbers: **{claim.printed_verdict}**. {claim.recomputed}",
        f"- Measured: **{claim.measured_verdict}**. {claim.measured}",
        f"- Rests on: {'; '.join(numbers[:_NUMBERS_SHOWN])}{more}.",
    ]


def render_terminal(found: Sequence[Claim]) -> rich.table.Table:
    """One line a claim for a terminal: the verdicts, and of what recomputing gives as much as fits."""
    view = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    # the explanation gives way first on a narrow terminal
    view.add_column("claim", no_wrap=True)
    view.add_column("section", no_wrap=True, max_width=len("abstract"))
    view.add_column("printed numbers", no_wrap=True)
    view.add_column("measured", no_wrap=True)
    view.add_column("recomputed from print", style="dim")
    for claim, following in zip(found, [*found[1:], None], strict=True):
        view.add_row(
            claim.id,
            _place(claim),
            *(_coloured(verdict) for verdict in (claim.printed_verdict, claim.measured_verdict)),
            Text(claim.recomputed, no_wrap=True, overflow="ellipsis"),
            end_section=following is not None and following.kind != claim.kind,
        )
    return view


def _coloured(verdict: str) -> Text:
    return Text(verdict, style=_STYLES.get(verdict, "dim"))
