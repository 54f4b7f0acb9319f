"""The gauge table: Table 1's IMPACT models in both 8-bit schemes, with their factors as trained and balanced."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import get_args

from rich.console import Console

from experiments.jobs import Job, with_inputs
from experiments.plan import Selection
from experiments.quantization import BITS, QuantizationPlan, plan_quantization, quantized_cells
from experiments.settings import Gauge, Preset, load_quantized_table
from experiments.store import Store
from results.cells import DENSE


@dataclass(frozen=True)
class GaugePlan:
    """One plan of Table 1 for each scheme and gauge."""

    plans: list[QuantizationPlan]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(job for plan in self.plans for job in plan.jobs)

    def publish(self, store: Store, out: Path, command: str, console: Console) -> list[Path]:
        """Writes gauge.{csv,md,json} under `out`, shows the table, and returns the files."""
        from experiments.report import about_runs, model_name
        from results.documents import table_files
        from results.gauge import gauge_effects, render_terminal, write_gauge_table

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        cells = [cell for plan in self.plans for cell in quantized_cells(plan, provenance)]
        first = self.plans[0]
        table, preset = first.cells[0].table, first.preset
        described = {"preset": preset.name, "model": model_name(preset, table.model), **about_runs(provenance, command)}
        written = write_gauge_table(cells, table.benchmarks, described, out)
        console.print(f"8 bits by scheme and gauge, measured at preset {preset.name} on {described['model']}")
        console.print(render_terminal(written, table.benchmarks))
        for sentence in gauge_effects(cells, table.benchmarks):
            console.print(f"- {sentence}", markup=False)
        console.print(f"written to {out}: gauge.{{csv,md,json}}", markup=False)
        return table_files(out, "gauge")


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
