"""The gauge table: Table 1's IMPACT models in both 8-bit schemes, with their factors as trained and balanced."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import get_args

from experiments.jobs.job import Job, with_inputs
from experiments.jobs.store import Store
from experiments.settings import Gauge, Preset
from experiments.tables.declared import load_quantized_table
from experiments.tables.quantized import BITS, QuantizationPlan, of_table, plan_quantization, quantized_cells
from experiments.tables.target import OF_MODELS, Asked, Plan, Publication, Selection, Target
from results.measured.cells import DENSE


def targets() -> Iterator[Target]:
    """The gauge table."""
    yield Target("gauge", "what balanced factors change in 8 bits, a table of our own", _planned, OF_MODELS)


def _planned(asked: Asked) -> "GaugePlan":
    return plan_gauge(asked.preset, of_table(load_quantized_table("table1"), "gauge", asked))


@dataclass(frozen=True)
class GaugePlan(Plan):
    """One plan of Table 1 for each scheme and gauge."""

    plans: list[QuantizationPlan]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(job for plan in self.plans for job in plan.jobs)

    def publications(self, store: Store, command: str) -> Iterator[Publication]:
        """The table, and in a sentence each what balancing changes."""
        from experiments.tables import about as report
        from results.tables.gauge import gauge_document

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        cells = [cell for plan in self.plans for cell in quantized_cells(plan, provenance)]
        table, preset = self.plans[0].cells[0].table, self.plans[0].preset
        described = {"preset": preset.name, "model": report.model_name(preset, table.model)}
        described |= report.about_runs(provenance, command)
        document = gauge_document(cells, table.benchmarks, described)
        heading = f"8 bits by scheme and gauge, measured at preset {preset.name} on {described['model']}"
        yield Publication("gauge", heading, document, remarks=[f"- {sentence}" for sentence in document.effects])


def plan_gauge(preset: Preset, selection: Selection) -> GaugePlan:
    """Declares the measurements of both schemes and gauges. Raises UserError for a row that Table 1 doesn't have."""
    table = load_quantized_table("table1")
    methods = selection.methods or ("impact",)
    plans = []
    for scheme, gauge in product([scheme for scheme, bits in BITS.items() if bits == 8], get_args(Gauge)):
        chosen = preset.quantization.model_copy(update={"eight_bit": scheme, "gauge": gauge})
        asked = replace(selection, methods=methods, seeds=1)
        plan = plan_quantization(table, preset.model_copy(update={"quantization": chosen}), asked)
        plans.append(replace(plan, cells=[cell for cell in plan.cells if cell.method != DENSE], beside=None))
    return GaugePlan(plans)
