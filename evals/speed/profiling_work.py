"""What profiling must compute and hold, counted from a Llama's shape: to carry a measurement over to another size.

Operations are multiplications and additions of matrix products and decompositions; all else is left out. Memory is that
of weights and accumulators; activations come on top.
"""

from dataclasses import dataclass

from evals.speed.random_weights import ModelShape


@dataclass(frozen=True)
class ProfilingWork:
    """One way of profiling one shape.

    rows, tokens: the calibration set, full rows. search_rows: those that each candidate of a search is evaluated on.
    statistics: of impact.calibration. candidates: parameter ratios of a search, none without one. implementation: as in
    experiments.settings.ProfilingCost. naive_head: whether the naive Algorithm 1 covers lm_head.
    """

    shape: ModelShape
    rows: int
    tokens: int
    search_rows: int
    statistics: frozenset[str]
    candidates: tuple[float, ...]
    implementation: str
    naive_head: bool

    def operations(self) -> dict[str, float]:
        """Phase -> operations: calibration, and for a search its decompositions and evaluations."""
        phases = {"calibration": self._passes() * self._forward(self.rows) + self._gram()}
        if self.candidates:
            each = len(self.candidates) if self.implementation == "naive" else 1
            phases["decomposition"] = each * sum(_svd(m, n) for m, n in self.shape.linears())
            phases["search"] = self._search()
        return phases

    def least_bytes(self, itemsize: int) -> int:
        """The least that the accelerator must hold: weights of `itemsize` bytes, and accumulators."""
        accumulators = max(4, itemsize)
        matrices = list(self.shape.linears())
        if self.implementation != "streamed":
            held = sum(self._moments()) if "activation_covariance" in self.statistics else 0
            return itemsize * self.shape.parameters() + accumulators * held
        *block, head = (*matrices[:7], matrices[-1])
        sides = [*_shared_moments(self.shape), min(head) ** 2] if "activation_covariance" in self.statistics else [0]
        return max(
            itemsize * sum(m * n for m, n in block) + accumulators * sum(sides[:-1]),
            itemsize * 2 * head[0] * head[1] + accumulators * sides[-1],  # the embedding goes with lm_head
        )

    def _passes(self) -> int:
        """Forward passes' worth: a backward pass for activations alone is one, and a streamed one runs forward anew."""
        if not self.statistics & {"squared_gradient", "weight_fisher"}:
            return 1
        return 3 if self.implementation == "streamed" else 2

    def _forward(self, rows: int) -> float:
        weights = sum(m * n for m, n in self.shape.linears())
        # scores and weighted sum of a query and, on the mean, half of the keys
        attention = 2 * self.shape.num_hidden_layers * self.shape.hidden_size * (self.tokens + 1)
        return float(rows * self.tokens * (2 * weights + attention))

    def _gram(self) -> float:
        if "activation_covariance" not in self.statistics:
            return 0.0
        return 2.0 * self.rows * self.tokens * sum(self._moments())

    def _moments(self) -> list[int]:
        """Numbers of elements of all second moments."""
        if self.implementation == "naive":
            matrices = list(self.shape.linears())
            return [m * m for m, _ in (matrices if self.naive_head else matrices[:-1])]
        head = min(self.shape.vocab_size, self.shape.hidden_size) ** 2
        return [*_shared_moments(self.shape) * self.shape.num_hidden_layers, head]

    def _search(self) -> float:
        forward = self._forward(self.search_rows)
        matrices = list(self.shape.linears())
        if self.implementation == "estimated":
            products = 2 * self.candidates[-1] * sum(m * n for m, n in matrices)
            return 2 * forward + self.search_rows * self.tokens * products
        # replayed, an evaluation starts at the block that it is about
        share = 1.0 if self.implementation == "naive" else 0.5
        return share * len(matrices) * len(self.candidates) * forward


def _shared_moments(shape: ModelShape) -> list[int]:
    """Elements of a block's second moments: of the inputs of q/k/v, of o and of gate/up, and of the output of down."""
    return 4 * [shape.hidden_size**2]


def _svd(m: int, n: int) -> float:
    """A thin SVD by way of a QR decomposition (Golub and Van Loan)."""
    long, short = max(m, n), min(m, n)
    return 6.0 * long * short**2 + 20.0 * short**3


def carried_over(seconds: dict[str, float], measured: ProfilingWork, other: ProfilingWork) -> float:
    """Seconds that `other` would take if each phase ran at the rate at which it was measured."""
    there, here = other.operations(), measured.operations()
    return sum(spent * there[phase] / here[phase] for phase, spent in seconds.items())
