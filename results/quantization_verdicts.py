"""The paper's sentences about Tables 1 to 3 and Figures 6 and 7, and what measured quantized models say of them."""

from collections.abc import Sequence

from results.quantization_claims import TABLE_MODELS
from results.quantization_criteria import (
    FOUR_BIT,
    AheadOfLargerModels,
    CombinedBeatsEither,
    EightBitsPreserve,
    OutperformsQuantized,
    QuantizationStatement,
    QuantizedEvidence,
)
from results.quantized_cells import QuantizedCell
from results.verdicts import Verdict

QUANTIZATION_STATEMENTS: tuple[QuantizationStatement, ...] = (
    EightBitsPreserve(
        id="8_bit_preserves",
        section="4.4",
        sentence="Quantization generally preserves performance at 8-bit precision or higher but often degrades "
        "accuracy at lower precisions like 4-bit.",
        models=("7b", "13b"),
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
        own=("impact", 3),
        rivals=(("flap", 1), ("afm", 3), FOUR_BIT[1]),
    ),
    CombinedBeatsEither(
        id="combined_beats_either",
        section="4.4",
        sentence="These results highlight the superior performance of IMPACT and the benefit of combining low-rank "
        "compression with quantization, which yields higher accuracy than either technique alone at the same model "
        "size.",
        models=("7b", "13b"),
        tables=(1, 2),
    ),
)


def judge_quantization(
    cells: Sequence[QuantizedCell], number: int, benchmarks: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> list[Verdict]:
    """Every statement shown below Table 1, 2 or 3, judged on the measured cells of all three.

    Args:
        resamples, seed: of the bootstrap over problems.

    Raises:
        ValueError: the cells do not belong together (`results.quantized_cells.grouped_by_model`).
    """
    evidence = [
        QuantizedEvidence.measured(cells, model, resamples=resamples, seed=seed) for model in TABLE_MODELS[number]
    ]
    verdicts = []
    for statement in QUANTIZATION_STATEMENTS:
        for benchmark in statement.benchmarks(benchmarks) if number in statement.tables else ():
            finding = statement.judge(evidence, [benchmark] if benchmark else benchmarks)
            verdicts.append(Verdict.of(statement, benchmark, finding, statement.on_print(benchmark)))
    return verdicts
