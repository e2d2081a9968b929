"""The fuzz targets on a few thousand mutated seeds, the same in every run; `make fuzz` looks further."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS, Target

RUNS = 2000
EDGES = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\xff\xd9",
    b"\xfe",
    b"[",
    b"{",
)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` after one to four changes such as a careless or a hostile sender makes."""
    for _ in range(rng.randint(1, 4)):
        place, end = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        change = rng.randrange(6)
        if change == 0 and data:
            place %= len(data)
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif change == 1:
            edge = rng.choice(EDGES)
            data = data[:place] + edge + data[place + len(edge) :]
        elif change == 2:
            data = data[: min(place, end)] + data[max(place, end) :]
        elif change == 3:
            data = data[:place] + data[min(place, end) : max(place, end)] * rng.randint(1, 5) + data[place:]
        elif change == 4:
            data = data[:place] + other[rng.randrange(len(other)) :]
        else:
            data = data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place:]
    return data


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_refuses_only_as_it_should(target: Target) -> None:
    rng = random.Random(20260101)
    for seed in target.seeds:
        target.run(seed)
    for run in range(RUNS):
        data = mutated(rng.choice(target.seeds), rng.choice(target.seeds), rng)
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"run {run}: {type(error).__name__}: {error}, for {data[:500]!r}") from error


def test_seeds_are_accepted() -> None:
    """Else nothing behind the door would be tested."""
    from quarterturn.worker.contract.bank import read_bank
    from quarterturn.worker.contract.decode import decode_picture

    for data in TARGETS["picture"].seeds:
        assert decode_picture(data).shape == (7, 9, 3)
    assert read_bank(TARGETS["bank"].seeds[0], "bank").products == ("ring",)
