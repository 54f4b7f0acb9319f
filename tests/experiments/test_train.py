"""Batches and labels of the training stage."""

from itertools import pairwise

from experiments.stages.train import LengthSortedBatches


def test_every_row_comes_once_an_epoch_beside_rows_of_like_length() -> None:
    lengths = [(37 * i) % 101 for i in range(1000)]
    batches = LengthSortedBatches(lengths, batch_size=8, seed=3)
    first, second = list(batches), list(batches)
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == list(range(1000))
        assert len(epoch) == len(batches) == 125
    assert first != second
    assert list(LengthSortedBatches(lengths, 8, seed=3)) == first
    spread = sum(max(lengths[r] for r in b) - min(lengths[r] for r in b) for b in first) / len(first)
    assert spread < 10


def test_the_order_of_batches_does_not_follow_length() -> None:
    lengths = list(range(1600))
    means = [sum(batch) / len(batch) for batch in LengthSortedBatches(lengths, batch_size=32, seed=0)]
    rising = sum(a < b for a, b in pairwise(means))
    assert 10 < rising < 40
