"""Sealed records: what comes back is what was written, or nothing does."""

import math

import pytest

from results.files import seal, unseal

RECORD = {"correct": [True, False], "perplexity": {"gsm8k": 1.0000000000000002}, 7: (3, None), "label": "größer"}
READ = {"correct": [True, False], "perplexity": {"gsm8k": 1.0000000000000002}, "7": [3, None], "label": "größer"}


def test_what_was_sealed_comes_back() -> None:
    assert unseal(seal(RECORD).encode()) == READ
    assert math.isinf(unseal(seal({"perplexity": math.inf}).encode())["perplexity"])


def test_no_flipped_bit_changes_what_is_read() -> None:
    text = seal(RECORD).encode()
    for i in range(len(text)):
        for bit in range(8):
            changed = text[:i] + bytes([text[i] ^ 1 << bit]) + text[i + 1 :]
            try:
                read = unseal(changed)
            except ValueError:
                continue
            # the checksum's own name: it is not looked at then, and nothing else has changed
            assert READ.items() <= read.items()


def test_no_part_of_a_record_is_read() -> None:
    text = seal(RECORD).encode()
    for length in range(len(text)):
        with pytest.raises(ValueError):
            unseal(text[:length])


def test_a_record_from_before_there_were_seals_is_taken_as_it_is() -> None:
    assert unseal(b'{"files": {}}') == {"files": {}}
    with pytest.raises(ValueError):
        unseal(b"[]")
