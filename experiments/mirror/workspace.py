"""A saved view of a W&B project: tables first, then accuracies, losses, spectra and costs (docs/wandb.md)."""

import os
import re
from collections.abc import Sequence
from typing import Any

from experiments.errors import UserError
from experiments.mirror.mirror import ENVIRONMENT, PROJECT

NAME = "IMPACT"


def build_workspace(
    entity: str, project: str, targets: Sequence[str], judged: Sequence[str], benchmarks: Sequence[str]
) -> Any:
    """The view, not saved yet: runs grouped by table and method.

    targets: tables and figures that have a panel. judged: the tables with verdicts.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as view
    from wandb_workspaces import expr

    ordered = sorted(targets, key=lambda name: int(re.sub(r"\D", "", name) or 99))  # the gauge table last
    figures = [name for name in ordered if name.startswith("figure")]
    tables = [name for name in ordered if name not in figures]

    def table(name: str) -> Any:
        return panels.WeavePanelSummaryTable(table_name=name)

    def line(name: str) -> Any:
        return panels.LinePlot(title=name, x="Step", y=[name])

    def bar(name: str) -> Any:
        return panels.BarPlot(title=name, metrics=[name])

    wide = view.SectionLayoutSettings(columns=1, rows=2)
    sections = [
        view.Section("Tables", [table(name) for name in tables], is_open=True, layout_settings=wide),
        view.Section("Figures", [panels.MediaBrowser(media_keys=[name]) for name in figures], is_open=True),
        view.Section("Verdicts", [table(f"{name}_verdicts") for name in judged], layout_settings=wide),
        view.Section(
            "Accuracy and perplexity",
            [bar(f"{kind}/{name}") for kind in ("accuracy", "perplexity") for name in benchmarks],
            is_open=True,
        ),
        view.Section("Training", [line(name) for name in ("loss", "learning_rate", "grad_norm")], is_open=True),
        view.Section("Spectra and ranks", [table("spectra"), table("ranks")], layout_settings=wide),
        view.Section("Cost", [bar("wall_s"), bar("peak_memory_mb")]),
    ]
    runs = view.RunsetSettings(
        groupby=[expr.Config("table"), expr.Config("method")],
        pinned_columns=["run:displayName", *(f"summary:accuracy/{name}" for name in benchmarks), "summary:wall_s"],
    )
    settings = view.WorkspaceSettings(max_runs=100)
    return view.Workspace(entity, project, NAME, sections, settings, runs)


def save_workspace(targets: Sequence[str], judged: Sequence[str], benchmarks: Sequence[str]) -> str:
    """Saves the view of `build_workspace` in the project that WANDB_PROJECT and WANDB_ENTITY name; returns its address.

    Raises UserError without a key, or if W&B doesn't take it.
    """
    os.environ |= ENVIRONMENT
    import wandb

    try:
        if not wandb.login(prompt=False, verify=False):
            raise UserError("a workspace is saved at W&B: log in (wandb login, or WANDB_API_KEY) and stay online")
        entity = os.environ.get("WANDB_ENTITY") or wandb.Api().default_entity
        project = os.environ.get("WANDB_PROJECT") or PROJECT
        return str(build_workspace(entity, project, targets, judged, benchmarks).save().url)
    except UserError:
        raise
    except Exception as error:  # W&B has no one class for what its server refuses
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"W&B did not save the workspace: {first}") from error
