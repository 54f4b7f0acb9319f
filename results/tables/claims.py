"""The list of claims as files and on the terminal."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pandas as pd

from results.statements.criteria import Kind
from results.statements.verdicts import Claim
from results.tables.columns import Column, word
from results.tables.document import Document
from results.tables.html import Block

_HEADINGS: Mapping[Kind, str] = {"claim": "What the paper says", "finding": "What its printed numbers show besides"}
# the rest of a long list of numbers is in the CSV and the JSON
_NUMBERS_SHOWN = 12


class ClaimList(Document):
    """All claims with their verdicts: a table of them, then a paragraph on each."""

    claims: list[Claim]

    held: ClassVar[str] = "claims"
    name: ClassVar[str] = "claims"
    said: ClassVar[tuple[str, ...]] = ("command",)
    group: ClassVar[tuple[str, ...]] = ("kind",)
    narrow: ClassVar[bool] = False
    wraps: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return "The paper's claims: what its printed tables give, and what the measured ones do"

    @property
    def says(self) -> Block:
        return [
            "**Printed numbers**: the sentence recomputed from the paper's printed tables: it *follows*, *does not "
            "follow*, or *cannot be derived* from them. Nothing is measured for this.",
            "**Measured**: the same computation on this harness's measured tables: it *holds*, *does not hold*, "
            "*cannot be told apart* from the opposite at 95 %, or is *not measured*.",
            *(f"{key}: {value}" for key, value in self.provenance.items()),
        ]

    @property
    def frame(self) -> pd.DataFrame:
        names = ["id", "kind", "section", "benchmark", "printed_verdict", "measured_verdict"]
        names += ["sentence", "recomputed", "measured"]
        return pd.DataFrame(
            [
                {name: getattr(claim, name) for name in names} | {"rests_on": "; ".join(map(str, claim.rests_on))}
                for claim in self.claims
            ]
        )

    def columns(self) -> list[Column]:
        return [
            word("claim", "id", key=True),
            # an explanation in brackets belongs to the paragraph, not to the table
            Column("section", lambda row: row["section"].split(" (")[0], text=True, width=len("abstract")),
            word("printed numbers", "printed_verdict", unmeasured=True),
            word("measured", "measured_verdict"),
            word("recomputed from print", "recomputed", unmeasured=True, files=False, yields=True),
        ]

    def below(self) -> list[Block]:
        blocks: list[Block] = []
        for kind, heading in _HEADINGS.items():
            blocks.append("\n" * bool(blocks) + f"## {heading}")
            blocks += [block for claim in self.claims if claim.kind == kind for block in _paragraph(claim)]
        return blocks


def claims_document(found: Sequence[Claim], provenance: Mapping[str, str]) -> ClaimList:
    """The list of the claims of `statements.verdicts`; provenance: at least ``command``, and all of it is listed."""
    return ClaimList(provenance=dict(provenance), claims=list(found))


def _paragraph(claim: Claim) -> list[Block]:
    sentence = f"“{claim.sentence}”" if claim.kind == "claim" else claim.sentence
    numbers = [str(number) for number in claim.rests_on]
    more = f"; and {len(numbers) - _NUMBERS_SHOWN} more" if len(numbers) > _NUMBERS_SHOWN else ""
    return [
        f"**{claim.id}**: {sentence} ({claim.section})",
        [
            f"Printed numbers: **{claim.printed_verdict}**. {claim.recomputed}",
            f"Measured: **{claim.measured_verdict}**. {claim.measured}",
            f"Rests on: {'; '.join(numbers[:_NUMBERS_SHOWN])}{more}.",
        ],
    ]
