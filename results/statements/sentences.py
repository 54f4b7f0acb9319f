"""The paper's sentences as data: what each says, of which tables and methods; the judging is that of their kinds."""

from results.numbers.paper import METHOD
from results.statements.accuracy_criteria import IsBestBaseline, Outperforms, SizeReduction, SmallerAtSameSetting
from results.statements.findings import FINDINGS
from results.statements.profiling_criteria import AsvdOrdersOfMagnitude, ProfilingOverhead, ProfilingUnderTwoHours
from results.statements.quantized_criteria import (
    AheadOfLargerModels,
    CombinedBeatsEither,
    EightBitsPreserve,
    OutperformsQuantized,
)
from results.statements.quantized_evidence import FOUR_BIT
from results.statements.speed_criteria import GainOverAfm, LargerIsCostlier, SameSizeSameCost
from results.statements.statement import Statement

# sentences about several tables, each judged by itself
_MATH_OUTPERFORMS = (
    "Our proposed method, IMPACT, consistently outperforms SVD, FWSVD, ASVD, and AFM across all compression ratios, "
    "achieving greater compression while maintaining comparable or superior accuracy."
)
_CODE_OUTPERFORMS = (
    "IMPACT consistently outperforms baseline methods by achieving greater compression while maintaining comparable or "
    "superior accuracy on both code generation tasks."
)
_STRONGEST_BASELINE = "AFM (the strongest low-rank baseline)"
_CONSISTENTLY = (
    "Our empirical results across multiple LLMs and multiple benchmarks demonstrate that IMPACT consistently achieves "
    "greater compression"
)
_THROUGHPUT_AND_MEMORY = (
    "In particular, compared to AFM—the strongest baseline—IMPACT improves throughput by up to 41% and reduces memory "
    "use by up to 42%."
)


def _strongest_baseline(table: int) -> Statement:
    return IsBestBaseline(
        "strongest_baseline", "4.4", _STRONGEST_BASELINE, tables=(table,), baseline="afm", headline=True
    )


def _consistently(table: int, *benchmarks: str) -> Statement:
    claims = dict.fromkeys(benchmarks, 0.0)
    return SizeReduction(
        "conclusion_consistently", "5", _CONSISTENTLY, tables=(table,), claims=claims, everywhere=True, headline=True
    )


def _up_to_55_4(place: str, section: str, sentence: str) -> Statement:
    # over all models and benchmarks it is Table 10's third row on GSM8K
    return SizeReduction(f"{place}_up_to", section, sentence, tables=(6,), claims={"gsm8k": 55.4}, headline=True)


# fmt: off
STATEMENTS: tuple[Statement, ...] = (
    # Table 6
    _up_to_55_4(
        "abstract", "abstract",
        "Experiments across multiple models and tasks demonstrate that IMPACT achieves up to 55.4% greater model size "
        "reduction while maintaining accuracy comparable to or better than state-of-the-art baselines.",
    ),
    _up_to_55_4(
        "introduction", "1",
        "We apply IMPACT to compress a variety of models across diverse datasets and show that it achieves up to 55.4% "
        "greater size reduction while maintaining performance comparable to state-of-the-art baselines.",
    ),
    _up_to_55_4("conclusion", "5", "up to 55.4% more than the state-of-the-art—while maintaining similar accuracy"),
    _strongest_baseline(6),
    _consistently(6, "gsm8k", "math"),
    Outperforms("outperforms", "4.2", _MATH_OUTPERFORMS, tables=(6,)),
    SizeReduction(
        "largest_reduction", "4.2", tables=(6,), claims={"gsm8k": 55.4, "math": 31.7},
        sentence="On Llama 2-7B, IMPACT achieves up to 55.4% greater size reduction than the strongest baseline "
        "(AFM) on GSM8K, and up to 31.7% more on MATH, while maintaining the same accuracy.",
    ),
    SizeReduction(
        "reduction_everywhere", "4.2", tables=(6,), methods=("svd", "fwsvd", "asvd"),
        claims={"gsm8k": 40.0, "math": 40.0}, everywhere=True,
        sentence="Across all evaluated compression ratios, it compresses the model over 40% more than SVD, FWSVD, "
        "and ASVD on both datasets while delivering similar or better performance.",
    ),
    SmallerAtSameSetting(
        "smaller_at_same_k",
        "Table 6 (a pattern of its numbers, not a sentence of the paper; that both use one k a row is inferred from "
        "Table 4)",
        tables=(6,), methods=("afm",), kind="finding",
        sentence="At the same k, IMPACT's model is smaller than AFM's.",
    ),
    # Table 7
    _strongest_baseline(7),
    _consistently(7, "gsm8k", "math"),
    Outperforms("outperforms", "4.2", _MATH_OUTPERFORMS, tables=(7,)),
    SizeReduction(
        "largest_reduction", "4.2", tables=(7,), methods=("afm",), claims={"gsm8k": 39.8, "math": 36.5},
        sentence="Similar patterns are observed for Llama 2-13B, where IMPACT achieves up to 39.8% more compression "
        "than AFM on GSM8K and 36.5% more on MATH.",
    ),
    SizeReduction(
        "reduction_above_2.5x", "4.2", tables=(7,), methods=("svd", "fwsvd", "asvd"),
        claims={"gsm8k": 35.0, "math": 35.0}, everywhere=True, compressed_over=2.5,
        sentence="At compression ratios above 2.5x, IMPACT continues to deliver over 35% more compression than SVD, "
        "FWSVD, and ASVD while maintaining better performance.",
    ),
    # Tables 8 and 9
    _consistently(8, "humaneval", "mbpp"),
    Outperforms("outperforms", "4.3", _CODE_OUTPERFORMS, tables=(8,)),
    SizeReduction(
        "largest_reduction", "4.3", tables=(8,), claims={"humaneval": 24.2, "mbpp": 30.7},
        sentence="On CodeLlama-7B, IMPACT reduces model size by up to 24.2% more than the best-performing baseline "
        "on HumanEval, and by 30.7% more on MBPP.",
    ),
    _consistently(9, "humaneval", "mbpp"),
    Outperforms("outperforms", "4.3", _CODE_OUTPERFORMS, tables=(9,)),
    SizeReduction(
        "largest_reduction", "4.3", tables=(9,), claims={"humaneval": 18.1, "mbpp": 28.0},
        sentence="Similar trends are observed on CodeLlama-13B, where IMPACT achieves up to 18.1% more compression "
        "on HumanEval and 28.0% more on MBPP compared to the strongest baseline.",
    ),
    # Tables 1 to 3
    EightBitsPreserve(
        "8_bit_preserves", "4.4", tables=(1, 2, 3),
        sentence="Quantization generally preserves performance at 8-bit precision or higher but often degrades "
        "accuracy at lower precisions like 4-bit.",
    ),
    OutperformsQuantized(
        "8_bit_7b_outperforms", "4.4", tables=(1,),
        sentence="IMPACT with 8-bit quantization consistently outperforms pure 4-bit quantization, 4-bit QLoRA, "
        "8-bit AFM, and 8-bit FLAP.",
    ),
    OutperformsQuantized(
        "8_bit_13b_outperforms", "4.4", tables=(2,),
        sentence="Similar trends are observed for Llama 2-13B (Figure 7, Tables 2 and 3), where 8-bit IMPACT "
        "outperforms all baselines.",
    ),
    AheadOfLargerModels(  # own and rivals are the rows of these sizes
        "8_bit_at_1.19_gb", "4.4", tables=(1,), own=(METHOD, 3), rivals=(("flap", 1), ("afm", 3), FOUR_BIT[1]),
        sentence="For example, 8-bit IMPACT achieves higher accuracy at a model size of 1.19 GB than 8-bit FLAP, "
        "8-bit AFM, and 4-bit QLoRA do at 5.39 GB, 1.30 GB, and 3.45 GB, respectively.",
    ),
    CombinedBeatsEither(
        "combined_beats_either", "4.4", tables=(1, 2),
        sentence="These results highlight the superior performance of IMPACT and the benefit of combining low-rank "
        "compression with quantization, which yields higher accuracy than either technique alone at the same model "
        "size.",
    ),
    # Tables 14 and 5
    LargerIsCostlier(
        "larger_is_costlier", "4.5", tables=(14,),
        sentence="As expected, larger models exhibit lower throughput and higher memory consumption across all "
        "methods.",
    ),
    SameSizeSameCost(
        "same_size_same_cost", "4.5", tables=(14,),
        sentence="When model size is held constant, all approaches demonstrate comparable throughput and memory "
        "consumption.",
    ),
    GainOverAfm("throughput", "4.5", _THROUGHPUT_AND_MEMORY, tables=(14,), column="throughput_tok_s", claim_pct=41.0),
    GainOverAfm("memory", "4.5", _THROUGHPUT_AND_MEMORY, tables=(14,), column="memory_gb", claim_pct=-42.0),
    ProfilingUnderTwoHours(
        "profiling_under_two_hours", "B.3", tables=(5,),
        sentence="Using only 1% of MetaMathQA (Yu et al., 2024) and 3% of Code-Instructions-120K-Alpaca (Bisht, "
        "2023) as calibration data, profiling completes in under two hours on a single NVIDIA A100 GPU for 13B "
        "models.",
    ),
    ProfilingOverhead(
        "profiling_overhead", "B.3", tables=(5,),
        sentence="As shown in the table, IMPACT incurs only a modest additional overhead compared to AFM.",
    ),
    AsvdOrdersOfMagnitude(
        "asvd_profiling", "B.3", tables=(5,),
        sentence="the procedure requires a substantially larger number of forward passes, leading to "
        "orders-of-magnitude longer profiling time despite lower peak GPU memory usage.",
    ),
    *FINDINGS,
)
# fmt: on
