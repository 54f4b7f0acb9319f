"""The paper's sentences as data: what each says of Tables 1 to 3, 5 to 9 and 14 and their figures, of which methods."""

from results.numbers.paper import BASELINES, METHOD
from results.numbers.printed import MODELS
from results.statements.accuracy_criteria import (
    IsBestBaseline,
    Outperforms,
    SizeReduction,
    SmallerAtSameSetting,
    Statement,
)
from results.statements.cost_criteria import (
    AsvdOrdersOfMagnitude,
    CostStatement,
    GainOverAfm,
    LargerIsCostlier,
    ProfilingOverhead,
    ProfilingUnderTwoHours,
    SameSizeSameCost,
)
from results.statements.quantized_criteria import (
    AheadOfLargerModels,
    CombinedBeatsEither,
    EightBitsPreserve,
    OutperformsQuantized,
    QuantizedStatement,
)
from results.statements.quantized_evidence import FOUR_BIT

CODE_OUTPERFORMS = Outperforms(
    id="outperforms",
    sentence="IMPACT consistently outperforms baseline methods by achieving greater compression while maintaining "
    "comparable or superior accuracy on both code generation tasks.",
    section="4.3",
    methods=BASELINES,
)
MATH_OUTPERFORMS = Outperforms(
    id="outperforms",
    sentence="Our proposed method, IMPACT, consistently outperforms SVD, FWSVD, ASVD, and AFM across all "
    "compression ratios, achieving greater compression while maintaining comparable or superior accuracy.",
    section="4.2",
    methods=BASELINES,
)

STATEMENTS: dict[int, tuple[Statement, ...]] = {
    6: (
        MATH_OUTPERFORMS,
        SizeReduction(
            id="largest_reduction",
            sentence="On Llama 2-7B, IMPACT achieves up to 55.4% greater size reduction than the strongest baseline "
            "(AFM) on GSM8K, and up to 31.7% more on MATH, while maintaining the same accuracy.",
            section="4.2",
            methods=BASELINES,
            claims={"gsm8k": 55.4, "math": 31.7},
            over="largest",
            strictly=False,
        ),
        SizeReduction(
            id="reduction_everywhere",
            sentence="Across all evaluated compression ratios, it compresses the model over 40% more than SVD, FWSVD, "
            "and ASVD on both datasets while delivering similar or better performance.",
            section="4.2",
            methods=("svd", "fwsvd", "asvd"),
            claims={"gsm8k": 40.0, "math": 40.0},
            over="smallest",
            strictly=True,
        ),
        SmallerAtSameSetting(
            id="smaller_at_same_k",
            sentence="At the same k, IMPACT's model is smaller than AFM's.",
            section="Table 6 (a pattern of its numbers, not a sentence of the paper; that both use one k a row is "
            "inferred from Table 4)",
            methods=("afm",),
            kind="finding",
        ),
    ),
    7: (
        MATH_OUTPERFORMS,
        SizeReduction(
            id="largest_reduction",
            sentence="Similar patterns are observed for Llama 2-13B, where IMPACT achieves up to 39.8% more "
            "compression than AFM on GSM8K and 36.5% more on MATH.",
            section="4.2",
            methods=("afm",),
            claims={"gsm8k": 39.8, "math": 36.5},
            over="largest",
            strictly=False,
        ),
        SizeReduction(
            id="reduction_above_2.5x",
            sentence="At compression ratios above 2.5x, IMPACT continues to deliver over 35% more compression than "
            "SVD, FWSVD, and ASVD while maintaining better performance.",
            section="4.2",
            methods=("svd", "fwsvd", "asvd"),
            claims={"gsm8k": 35.0, "math": 35.0},
            over="smallest",
            strictly=True,
            compressed_over=2.5,
        ),
    ),
    8: (
        CODE_OUTPERFORMS,
        SizeReduction(
            id="largest_reduction",
            sentence="On CodeLlama-7B, IMPACT reduces model size by up to 24.2% more than the best-performing "
            "baseline on HumanEval, and by 30.7% more on MBPP.",
            section="4.3",
            methods=BASELINES,
            claims={"humaneval": 24.2, "mbpp": 30.7},
            over="largest",
            strictly=False,
        ),
    ),
    9: (
        CODE_OUTPERFORMS,
        SizeReduction(
            id="largest_reduction",
            sentence="Similar trends are observed on CodeLlama-13B, where IMPACT achieves up to 18.1% more "
            "compression on HumanEval and 28.0% more on MBPP compared to the strongest baseline.",
            section="4.3",
            methods=BASELINES,
            claims={"humaneval": 18.1, "mbpp": 28.0},
            over="largest",
            strictly=False,
        ),
    ),
}


def _up_to_55_4(place: str, section: str, sentence: str) -> SizeReduction:
    return SizeReduction(
        id=f"{place}_up_to",
        sentence=sentence,
        section=section,
        methods=BASELINES,
        claims={"gsm8k": 55.4},
        over="largest",
        strictly=False,
    )


CONCLUSION_CONSISTENTLY = SizeReduction(
    id="conclusion_consistently",
    sentence="Our empirical results across multiple LLMs and multiple benchmarks demonstrate that IMPACT consistently "
    "achieves greater compression",
    section="5",
    methods=BASELINES,
    claims={"gsm8k": 0.0, "math": 0.0, "humaneval": 0.0, "mbpp": 0.0},
    over="smallest",
    strictly=True,
)

STRONGEST_BASELINE = IsBestBaseline(
    id="strongest_baseline",
    sentence="AFM (the strongest low-rank baseline)",
    section="4.4",
    methods=BASELINES,
    baseline="afm",
)

# What the abstract, the conclusion and others say of the same tables once more: claims, not printed below every table.
# "Up to 55.4 %" over all models and benchmarks is Table 10's third row on GSM8K.
HEADLINES: dict[int, tuple[Statement, ...]] = {
    6: (
        _up_to_55_4(
            "abstract",
            "abstract",
            "Experiments across multiple models and tasks demonstrate that IMPACT achieves up to 55.4% greater model "
            "size reduction while maintaining accuracy comparable to or better than state-of-the-art baselines.",
        ),
        _up_to_55_4(
            "introduction",
            "1",
            "We apply IMPACT to compress a variety of models across diverse datasets and show that it achieves up to "
            "55.4% greater size reduction while maintaining performance comparable to state-of-the-art baselines.",
        ),
        _up_to_55_4("conclusion", "5", "up to 55.4% more than the state-of-the-art—while maintaining similar accuracy"),
        STRONGEST_BASELINE,
        CONCLUSION_CONSISTENTLY,
    ),
    7: (STRONGEST_BASELINE, CONCLUSION_CONSISTENTLY),
    8: (CONCLUSION_CONSISTENTLY,),
    9: (CONCLUSION_CONSISTENTLY,),
}

QUANTIZED_STATEMENTS: tuple[QuantizedStatement, ...] = (
    EightBitsPreserve(
        id="8_bit_preserves",
        section="4.4",
        sentence="Quantization generally preserves performance at 8-bit precision or higher but often degrades "
        "accuracy at lower precisions like 4-bit.",
        models=tuple(MODELS),
        tables=(1, 2, 3),
    ),
    OutperformsQuantized(
        id="8_bit_7b_outperforms",
        section="4.4",
        sentence="IMPACT with 8-bit quantization consistently outperforms pure 4-bit quantization, 4-bit QLoRA, 8-bit "
        "AFM, and 8-bit FLAP.",
        models=("7b",),
        tables=(1,),
    ),
    OutperformsQuantized(
        id="8_bit_13b_outperforms",
        section="4.4",
        sentence="Similar trends are observed for Llama 2-13B (Figure 7, Tables 2 and 3), where 8-bit IMPACT "
        "outperforms all baselines.",
        models=("13b",),
        tables=(2,),
    ),
    AheadOfLargerModels(
        id="8_bit_at_1.19_gb",
        section="4.4",
        sentence="For example, 8-bit IMPACT achieves higher accuracy at a model size of 1.19 GB than 8-bit FLAP, 8-bit "
        "AFM, and 4-bit QLoRA do at 5.39 GB, 1.30 GB, and 3.45 GB, respectively.",
        models=("7b",),
        tables=(1,),
        # the rows of these sizes in Table 1
        own=(METHOD, 3),
        rivals=(("flap", 1), ("afm", 3), FOUR_BIT[1]),
    ),
    CombinedBeatsEither(
        id="combined_beats_either",
        section="4.4",
        sentence="These results highlight the superior performance of IMPACT and the benefit of combining low-rank "
        "compression with quantization, which yields higher accuracy than either technique alone at the same model "
        "size.",
        models=tuple(MODELS),
        tables=(1, 2),
    ),
)

_THROUGHPUT_AND_MEMORY = (
    "In particular, compared to AFM—the strongest baseline—IMPACT improves throughput by up to 41% and reduces memory "
    "use by up to 42%."
)

COST_STATEMENTS: dict[int, tuple[CostStatement, ...]] = {
    14: (
        LargerIsCostlier(
            id="larger_is_costlier",
            section="4.5",
            sentence="As expected, larger models exhibit lower throughput and higher memory consumption across all "
            "methods.",
        ),
        SameSizeSameCost(
            id="same_size_same_cost",
            section="4.5",
            sentence="When model size is held constant, all approaches demonstrate comparable throughput and memory "
            "consumption.",
        ),
        GainOverAfm(
            id="throughput",
            section="4.5",
            sentence=_THROUGHPUT_AND_MEMORY,
            column="throughput_tok_s",
            claim_pct=41.0,
        ),
        GainOverAfm(
            id="memory",
            section="4.5",
            sentence=_THROUGHPUT_AND_MEMORY,
            column="memory_gb",
            claim_pct=-42.0,
        ),
    ),
    5: (
        ProfilingUnderTwoHours(
            id="profiling_under_two_hours",
            section="B.3",
            sentence="Using only 1% of MetaMathQA (Yu et al., 2024) and 3% of Code-Instructions-120K-Alpaca (Bisht, "
            "2023) as calibration data, profiling completes in under two hours on a single NVIDIA A100 GPU for 13B "
            "models.",
        ),
        ProfilingOverhead(
            id="profiling_overhead",
            section="B.3",
            sentence="As shown in the table, IMPACT incurs only a modest additional overhead compared to AFM.",
        ),
        AsvdOrdersOfMagnitude(
            id="asvd_profiling",
            section="B.3",
            sentence="the procedure requires a substantially larger number of forward passes, leading to "
            "orders-of-magnitude longer profiling time despite lower peak GPU memory usage.",
        ),
    ),
}
