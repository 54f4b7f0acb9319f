"""What isolation costs: ordinary programs judged a second, isolated and as plain processes, in turns of one run.

The programs are the references of generated tasks (experiments.miniature), with their tests: imports, loops and
comprehensions of a few lines, five calls each.

    python benchmarks/program_execution.py --programs 1000
"""

import argparse
import os
import time

from rich.console import Console

from evals.benchmarks import BENCHMARKS, Judging
from experiments.miniature.domains import generate
from experiments.miniature.splits import Sizes


def main() -> None:
    """Prints programs a second of both ways and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    rows = generate("code", 0, Sizes(train=0, calibration=0, heldout=0, test=options.programs))["humaneval"]
    programs = [row["canonical_solution"] for row in rows]
    share = len(rows) // options.turns
    seconds = {True: 0.0, False: 0.0}
    for turn in range(options.turns):
        part = slice(turn * share, (turn + 1) * share)
        for isolated in seconds:
            started = time.perf_counter()
            verdicts = BENCHMARKS["humaneval"].judge(programs[part], rows[part], Judging(isolated=isolated))
            seconds[isolated] += time.perf_counter() - started
            assert all(verdict.correct for verdict in verdicts)
    judged = share * options.turns
    cores = len(os.sched_getaffinity(0))
    ratio = seconds[True] / seconds[False]
    Console(highlight=False).print(
        f"{judged} programs on {cores} cores: isolated {judged / seconds[True]:.1f} a second, "
        f"as plain processes {judged / seconds[False]:.1f}; isolation takes {ratio:.2f} times as long"
    )


if __name__ == "__main__":
    main()
