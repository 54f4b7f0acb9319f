"""The stages: a new one is its file, its config and an entry here.

`version`, or that of a single method in its own file, is raised whenever the same recipe would give another output; a
test fails when the sources of either have changed and its version has not (tests/experiments/stage_sources.json).
"""

from experiments.jobs.stage import Stage
from experiments.stages.configs import (
    BaseConfig,
    CompressConfig,
    DataConfig,
    EvaluateConfig,
    JudgeConfig,
    LimitsConfig,
    PerplexityConfig,
    PrepareConfig,
    ProfileConfig,
    ProfilingCostConfig,
    QLoraConfig,
    QuantizeConfig,
    ScoreConfig,
    SpeedConfig,
    TrainConfig,
)

_MODEL_FILES = ("experiments/stages/models.py", "impact/checkpoint.py", "impact/modeling_impact.py")
_MINIATURE = (
    "experiments/miniature/splits.py",
    "experiments/miniature/problems.py",
    "experiments/miniature/programs.py",
    "experiments/miniature/domains.py",
)
# each one's file has its own version
_BENCHMARKS = ("evals/benchmarks/__init__.py", "evals/benchmarks/interface.py", "evals/row_fields.py")
_SEQUENCES = ("evals/tokenisation.py", "evals/prompts.py")
_TRAINING = ("experiments/stages/train.py", "experiments/stages/checkpoints.py")
# Methods' files have versions of their own, with what they import.
_COMPRESSION = (
    "experiments/stages/compress.py",
    "experiments/stages/components.py",
    "impact/compression.py",
    *_MODEL_FILES,
)
_SEARCH = ("experiments/stages/search.py", "evals/perplexity.py")

DATA = Stage(
    "data",
    1,
    DataConfig,
    "experiments.stages.data:run",
    (
        "experiments/stages/data.py",
        *_MINIATURE,
        *_BENCHMARKS,
        "evals/json_lines.py",
        "evals/bounded_file.py",
        "evals/published.py",
    ),
    typical_s=5,
)
BASE = Stage(
    "base",
    1,
    BaseConfig,
    "experiments.stages.base:run",
    (
        "experiments/stages/base.py",
        "experiments/miniature/architecture.py",
        "experiments/miniature/tokenizer.py",
        *_MINIATURE,
        "impact/checkpoint.py",
    ),
    typical_s=2,
)
FINETUNE = Stage(
    "finetune",
    1,
    TrainConfig,
    "experiments.stages.train:run",
    (*_TRAINING, *_MODEL_FILES, *_SEQUENCES),
    wide=True,
    typical_s=240,
)
PROFILE = Stage(
    "profile",
    1,
    ProfileConfig,
    "experiments.stages.profile:run",
    (
        "experiments/stages/profile.py",
        "experiments/stages/halving.py",
        "impact/calibration.py",
        *_MODEL_FILES,
        *_SEQUENCES,
    ),
    bundles=("statistic",),
    wide=True,
    typical_s=10,
)
PREPARE = Stage(
    "prepare",
    1,
    PrepareConfig,
    "experiments.stages.compress:prepare",
    _COMPRESSION,
    wide=True,
    typical_s=3,
    follows_method=True,
)
SCORE = Stage(
    "score",
    1,
    ScoreConfig,
    "experiments.stages.compress:score",
    (*_SEARCH, *_COMPRESSION, *_SEQUENCES),
    typical_s=15,
)
COMPRESS = Stage(
    "compress",
    1,
    CompressConfig,
    "experiments.stages.compress:run",
    _COMPRESSION,
    typical_s=1,
)
SFT = Stage(
    "sft",
    1,
    TrainConfig,
    "experiments.stages.train:run",
    (*_TRAINING, *_MODEL_FILES, *_SEQUENCES),
    typical_s=10,
)
_QUANTIZATION = (
    "experiments/stages/quantize.py",
    "baselines/quantization.py",
    "impact/export.py",
    *_MODEL_FILES,
)
QUANTIZE = Stage(
    "quantize",
    1,
    QuantizeConfig,
    "experiments.stages.quantize:run",
    ("impact/gauge.py", *_QUANTIZATION),
    typical_s=2,
)
QLORA = Stage(
    "qlora",
    1,
    QLoraConfig,
    "experiments.stages.quantize:qlora",
    (*_TRAINING, *_QUANTIZATION, *_SEQUENCES),
    typical_s=30,
)
PERPLEXITY = Stage(
    "perplexity",
    1,
    PerplexityConfig,
    "experiments.stages.measure:perplexity",
    (
        "experiments/stages/measure.py",
        "experiments/stages/halving.py",
        "evals/perplexity.py",
        *_MODEL_FILES,
        *_SEQUENCES,
    ),
    typical_s=2,
)
EVALUATE = Stage(
    "evaluate",
    2,
    EvaluateConfig,
    "experiments.stages.measure:evaluate",
    (
        "experiments/stages/measure.py",
        "experiments/stages/halving.py",
        "evals/generate.py",
        "evals/lm_eval_task.py",
        *_BENCHMARKS,
        "evals/code_prompts.py",
        "evals/prompts.py",
        *_MODEL_FILES,
    ),
    typical_s=6,
)
JUDGE = Stage(
    "judge",
    1,
    JudgeConfig,
    "experiments.stages.judge:run",
    (
        "experiments/stages/judge.py",
        "evals/judging.py",
        *_BENCHMARKS,
        "evals/program_extraction.py",
        "evals/execution/programs.py",
        "evals/execution/isolation.py",
        "evals/execution/interpreter.py",
        "evals/execution/system_calls.py",
        "evals/execution/watch.py",
        "evals/execution/inside/answers.py",
        "evals/execution/inside/candidate.py",
        "evals/execution/inside/checker.py",
        "evals/execution/inside/confinement.py",
        "evals/execution/inside/stdlib_data.py",
        "evals/execution/inside/main.py",
        "evals/execution/inside/plain_data.py",
    ),
    typical_s=2,
    follows_benchmark=True,
)
_SPEED = ("experiments/stages/speed.py", "evals/speed/machine_limits.py")
LIMITS = Stage(
    "limits",
    2,
    LimitsConfig,
    "experiments.stages.speed:limits",
    _SPEED,
    wide=True,
    accelerated=True,
    typical_s=10,
)
SPEED = Stage(
    "speed",
    3,
    SpeedConfig,
    "experiments.stages.speed:run",
    (
        *_SPEED,
        "evals/speed/throughput.py",
        "evals/speed/vllm_throughput.py",
        "evals/speed/random_weights.py",
        "impact/decoding.py",
        "impact/static_decoder.py",
        *_MODEL_FILES,
    ),
    wide=True,
    accelerated=True,
    typical_s=5,
)
PROFILING_COST = Stage(
    "profiling_cost",
    2,
    ProfilingCostConfig,
    "experiments.stages.profiling_cost:run",
    (
        "experiments/stages/profiling_cost.py",
        "evals/speed/peak_memory.py",
        "evals/speed/random_weights.py",
        "impact/calibration.py",
        "impact/streaming_calibration.py",
        "impact/naive.py",
        "impact/compression.py",
        "baselines/naive_search.py",
        *_SEARCH,
    ),
    wide=True,
    accelerated=True,
    typical_s=20,
)
STAGES = {
    stage.name: stage
    for stage in (
        *(DATA, BASE, FINETUNE, PROFILE, PREPARE, SCORE, COMPRESS, SFT, QUANTIZE, QLORA),
        *(PERPLEXITY, EVALUATE, JUDGE, LIMITS, SPEED, PROFILING_COST),
    )
}
