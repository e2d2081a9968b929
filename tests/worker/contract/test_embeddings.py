from __future__ import annotations

import numpy as np

from quarterturn.worker.contract.embeddings import Embeddings, join, rows


def embeddings_of(count: int, first: int = 0) -> Embeddings:
    numbers = np.arange(first, first + count, dtype=np.float32)
    return {"frame": numbers[:, None, None] + np.zeros((2, 3), np.float32), "logits": numbers[:, None, None] * 2}


def test_rows_are_those_of_every_array() -> None:
    some = rows(embeddings_of(6), slice(2, 4))
    assert {name: values.shape for name, values in some.items()} == {"frame": (2, 2, 3), "logits": (2, 1, 1)}
    assert (some["frame"][:, 0, 0].tolist(), some["logits"].ravel().tolist()) == ([2, 3], [4, 6])
    assert rows(embeddings_of(6), [5, 0])["logits"].ravel().tolist() == [10, 0]


def test_parts_are_joined_in_order_as_a_copy() -> None:
    parts = [embeddings_of(2), embeddings_of(0), embeddings_of(3, first=2)]
    joined, expected = join(parts), embeddings_of(5)
    assert list(joined) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(joined[name], values)
    joined["frame"][:] = -1
    assert parts[0]["frame"].min() == 0
