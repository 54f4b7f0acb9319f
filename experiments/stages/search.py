"""What a method's search asks of a model."""

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from evals.perplexity import perplexity
from evals.tokenisation import IGNORED_LABEL
from impact.calibration import Batch
from impact.interface import Method


def evaluations(method: Method, units: Sized) -> int:
    """How often a search of these units evaluates the model, but for what it needs once a block."""
    return len(units) * len(getattr(method, "candidates", [1]))


@dataclass
class SearchPerplexity:
    """Perplexity of the search's rows; also the losses behind it, for a search that goes by gradients.

    expected: how many evaluations `progress`(done, total) counts against.
    """

    batches: Sequence[Batch]
    expected: int
    progress: Callable[[int, int], None]
    calls: int = 0

    def __call__(self, model: nn.Module) -> float:
        self.calls += 1
        self.progress(min(self.calls, self.expected), self.expected)
        return perplexity(model, self.batches)

    def losses(self, model: nn.Module) -> Iterator[tuple[Tensor, int]]:
        """Of each batch, with its graph: the summed negative log-likelihood, and of how many response tokens."""
        for batch in (batch.to(next(model.parameters()).device) for batch in self.batches):
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            targets = batch.labels[:, 1:]
            counted = targets != IGNORED_LABEL
            loss = F.cross_entropy(logits[:, :-1][counted].float(), targets[counted], reduction="sum")
            yield loss, int(counted.sum())
