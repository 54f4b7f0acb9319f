"""The typed config of every stage: what, beside its inputs, an output depends on.

Apart from the stages' code, so that planning a run need not import torch.
"""

from typing import Any, Literal

from experiments.settings import (
    Calibration,
    Domain,
    Evaluation,
    ExternalModel,
    Gauge,
    GeneratedData,
    HubModel,
    Implementation,
    InitialisedModel,
    Load,
    Perplexity,
    ProfilingLoad,
    PublishedData,
    QLora,
    Route,
    Scheme,
    Settings,
    Shape,
    Training,
    VllmRoute,
    WheelModel,
)


class DataConfig(Settings):
    """What the splits are made from; files: "gsm8k/test" -> its SHA-256, or "hub" where it is downloaded."""

    domain: Domain
    data: GeneratedData | PublishedData
    benchmarks: tuple[str, ...]
    files: dict[str, str]


class BaseConfig(Settings):
    """Which model."""

    model: InitialisedModel | WheelModel | HubModel | ExternalModel


class TrainConfig(Settings):
    """One training run."""

    training: Training
    seed: int
    attention: str


class QuantizeConfig(Settings):
    """How a model's weights are quantized; precision: of what isn't."""

    scheme: Scheme
    gauge: Gauge
    precision: str


class QLoraConfig(Settings):
    """One LoRA adapter on a quantized model."""

    qlora: QLora
    seed: int
    precision: str
    attention: str


class ProfileConfig(Settings):
    """One statistic of one pass."""

    statistic: str
    calibration: Calibration
    attention: str


class PrepareConfig(Settings):
    """A method and the rules of the whole grid, which say up to which rank components are kept."""

    method: str
    settings: dict[str, Any]
    rules: tuple[tuple[str, float], ...]


class ScoreConfig(Settings):
    """A method's search over a model: rows of the calibration set that it reads."""

    method: str
    settings: dict[str, Any]
    rows: int
    batch_size: int
    max_length: int
    precision: str
    attention: str


class CompressConfig(Settings):
    """One cell: a method at one value of its rank rule."""

    method: str
    settings: dict[str, Any]
    rule: str
    value: float


class PerplexityConfig(Settings):
    """Perplexity of held-out responses, one number for each source of them."""

    perplexity: Perplexity
    precision: str
    attention: str


class EvaluateConfig(Settings):
    """Completions for one benchmark."""

    benchmark: str
    evaluation: Evaluation
    precision: str
    attention: str


class JudgeConfig(Settings):
    """Verdicts on one benchmark's completions; isolation: what programs run in, None where none are run."""

    benchmark: str
    isolation: Literal["bubblewrap", "none"] | None


class LimitsConfig(Settings):
    """What the machine can do in a precision."""

    precision: str


class RandomWeights(Settings):
    """A model that is no stage's output: dense where `share` is None, else factorised to that share of its size."""

    shape: Shape
    share: float | None


class SpeedConfig(Settings):
    """One model's speed on one route of an engine; random: in place of the input model."""

    load: Load
    engine: Literal["hf", "vllm"]
    route: Route | VllmRoute
    fused: bool
    attention: str
    random: RandomWeights | None = None


class ProfilingCostConfig(Settings):
    """One method's profiling in one way of doing it; candidates: of a method that searches, else none."""

    method: str
    implementation: Implementation
    load: ProfilingLoad
    candidates: tuple[float, ...]
    attention: str
