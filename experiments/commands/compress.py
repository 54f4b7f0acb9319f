"""compress: any dense checkpoint to a compressed one, for users who want the model and not the paper's tables."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.registry import METHODS, build_method
from evals.json_lines import DataFileError, Row
from evals.tokenisation import NothingFitsError, fitted, padded
from evals.training_rows import read_training_rows, with_prompts
from experiments.commands.scratch import scratch_beside
from experiments.errors import UserError, no_space, refused
from experiments.settings import choose
from experiments.stages.components import load_components, save_components
from experiments.stages.models import device, load_checkpoint
from experiments.stages.search import SearchPerplexity, evaluations
from impact.calibration import Batch, calibrate
from impact.compressible import check_activations, settle_generation
from impact.compression import by_module, compress, parameter_count, prepare_units, untie_compressed_head
from impact.export import as_pretrained, export_model
from impact.interface import Components, Kept, Method
from impact.modeling_impact import CheckpointError
from impact.rank_rule import RankRule
from impact.sizes import dense_where_larger, largest_value

BILLIONS_BELOW = 10_000
"""A target size below this is in billions of parameters, from it on in parameters."""


@dataclass(frozen=True)
class Compressed:
    """Sizes in parameters, shared ones once: of the model as it came, with lm_head untied, and compressed.

    value: the keep ratio in percent of what the method's rule counts.
    """

    tied_parameters: int
    dense_parameters: int
    parameters: int
    value: float
    kept: dict[str, Kept]


def compress_model(
    model: str,
    out: Path,
    *,
    method: str = "impact",
    keep: float | None = None,
    target_size: float | None = None,
    eta: float | None = None,
    calibration: Path | None = None,
    dense_if_larger: bool = False,
    batch_size: int = 8,
    max_length: int = 512,
    console: Console,
) -> Compressed:
    """Compresses a model from a directory or the hub and writes it to `out` as a Hugging Face directory.

    keep: k in percent of each layer's spectrum (Algorithm 1); for ASVD and FLAP, of the parameters they compress.
    target_size: instead of it, the largest model of at most that many parameters (billions below 10,000).
    calibration: rows in one of evals.training_rows.FORMS, of which the first `max_length` tokens count. Raises
    UserError with one line for every mistake, and what nobody foresaw as it is; `out` appears only when it is complete.
    """
    chosen = _method(method, eta)
    if (keep is None) == (target_size is None):
        raise UserError("compress takes either --keep or --target-size" + (", not both" if keep is not None else ""))
    if keep is not None and not 0 < keep <= 100:
        raise UserError(f"--keep is a percentage in (0, 100], got {keep:g}")
    if target_size is not None and not 0 < target_size < math.inf:
        raise UserError(f"--target-size is a number of billions or of parameters, got {target_size:g}")
    if max_length < 2:
        raise UserError(f"--max-length takes a number of at least 2, got {max_length}")
    if out.exists():
        raise UserError(f"{out} exists already: give another directory, or remove it first")
    rows = _calibration_rows(chosen, calibration)
    dense, tokenizer, dtype = _load(model)
    if changed := settle_generation(dense.generation_config):
        console.print(f"{model}: {changed}", markup=False, soft_wrap=True)
    with _refusals(model, out):
        as_pretrained(dense)  # as long as nothing is computed yet: what export would refuse
        made = _batches(calibration, tokenizer, rows, batch_size, max_length, console) if rows else []
    tied_parameters = parameter_count(dense)
    untie_compressed_head(chosen, dense)
    dense_parameters = parameter_count(dense)
    target = None if target_size is None else _parameters(target_size)
    if target is not None and target >= tied_parameters:
        raise UserError(f"the model has {tied_parameters:,} parameters, no more than the target of {target:,}")
    with scratch_beside(out) as scratch, _refusals(model, out), _progress(console) as advance:
        if made:
            check_activations(dense, made[0])
        needed = chosen.statistics()
        statistics = by_module(
            calibrate(dense, advance("calibration", made, len(made)), needed).values() if needed else ()
        )
        rules = [] if keep is None else [_rule(chosen, keep)]
        components: dict[str, Components] = {}
        for unit in advance("layers", prepare_units(chosen, dense, statistics, rules), len(chosen.units(dense))):
            # each in a file of its own: the full bases of a 7B model would take 41 GB of memory
            (place := scratch / unit[0]).mkdir()
            save_components([unit], place)
            components |= load_components(place)
        sensitivity = None
        if chosen.searches:
            expected = evaluations(chosen, components)
            step = iter(advance("search", iter(int, 1), expected))
            perplexity = SearchPerplexity(made, expected, lambda done, total: next(step))
            sensitivity = chosen.score(dense, components, perplexity)

        def allocate(value: float) -> dict[str, Kept]:
            kept = chosen.allocate(_rule(chosen, value), components, sensitivity)
            return dense_where_larger(kept, dense, chosen) if dense_if_larger else kept

        value = keep if target is None else largest_value(allocate, dense, target, chosen)
        assert value is not None
        kept = allocate(value)
        compress(dense, chosen, components, kept, statistics)
        settings = {f.name: getattr(chosen, f.name) for f in fields(chosen) if f.init}  # type: ignore[arg-type]
        used = sum(len(batch.labels) for batch in made)
        recipe = {"method": method, "settings": settings, "keep": value, "rows": used}
        export_model(dense, tokenizer, scratch / "complete", dtype=dtype, recipe=recipe)
        (scratch / "complete").rename(out)
    return Compressed(tied_parameters, dense_parameters, parameter_count(dense), value, kept)


_Advance = Callable[[str, Iterable[Any], int], Iterable[Any]]
"""(what, steps, how many) -> the steps, shown as they are taken."""


def _method(name: str, eta: float | None) -> Method:
    choose(name, METHODS, "method")
    if eta is not None and not 0 <= eta <= 1:
        raise UserError(f"--eta must lie in [0, 1], got {eta:g}")
    try:
        return build_method(name, {} if eta is None else {"eta": eta})
    except ValueError as error:
        raise UserError(f"--eta: {error}") from None


def _calibration_rows(method: Method, calibration: Path | None) -> list[Row]:
    if not method.statistics() and not method.searches:
        return []
    if calibration is None:
        raise UserError(f"{method.name} needs --calibration FILE: rows with prompt and response (docs/calibration.md)")
    try:
        return read_training_rows(calibration)
    except DataFileError as error:
        raise UserError(str(error)) from None


def _batches(
    calibration: Path | None,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
    batch_size: int,
    max_length: int,
    console: Console,
) -> list[Batch]:
    """What is calibrated on, of the rows of that file; says how much of them that is."""
    try:
        found = fitted(tokenizer, with_prompts(rows, tokenizer), max_length)
    except NothingFitsError as error:
        raise UserError(f"{calibration}: {error}: set --max-length, now {max_length}, above that") from None
    console.print(
        f"calibration: {len(rows):,} rows, {found.cut:,} of them cut after {max_length:,} tokens, {found.dropped:,} "
        "dropped because nothing of their response was left",
        markup=False,
        soft_wrap=True,
    )
    return [Batch(*tensors) for tensors in padded(found.rows, batch_size)]


def _load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, torch.dtype]:
    """Model in float32 in eval mode on the accelerator, tokenizer, and the precision that the weights are stored in."""
    model, tokenizer, stored = load_checkpoint(name, torch.float32, compressible=True)
    return model.to(device()), tokenizer, stored


def _parameters(target_size: float) -> int:
    return round(target_size * 1e9 if target_size < BILLIONS_BELOW else target_size)


def _rule(method: Method, value: float) -> RankRule:
    return RankRule(method.rule, value if method.rule == "nuclear_norm" else value / 100)


@contextmanager
def _progress(console: Console) -> Iterator[_Advance]:
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:

        def advance(what: str, steps: Iterable[Any], total: int) -> Iterable[Any]:
            return progress.track(steps, total=total, description=what)

        yield advance


@contextmanager
def _refusals(name: str, out: Path) -> Iterator[None]:
    """What calibration, decomposition and export refuse is the user's model, data or machine: one line."""
    try:
        yield
    except CheckpointError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        if no_space(error):
            raise UserError(f"no space left on the device of {out.parent}: free some, or give another place") from error
        if refused(error):
            raise UserError(shorten(str(error), 400)) from error
        raise
