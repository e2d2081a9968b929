from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from quarterturn.worker.contract.errors import DataError, UnavailableError
from quarterturn.worker.doctor.check import Check, failure, gather, masked


def test_an_error_is_split_into_what_is_wrong_and_what_to_do() -> None:
    error = UnavailableError("Redis at plant:6379 cannot be used (timed out; gone); check that it runs")
    assert failure("Redis", error) == Check(
        "Redis", "failure", "plant:6379 cannot be used (timed out; gone)", "check that it runs"
    )
    assert failure("bank", DataError("it is broken")) == Check("bank", "failure", "it is broken")


def test_groups_run_side_by_side_and_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def group(name: str) -> Iterator[Check]:
        both.wait()  # goes on only when the other one runs too
        yield Check(name, "ok", "first")
        yield Check(name, "ok", "second")

    found = gather({"one": lambda: group("one"), "two": lambda: group("two")})
    assert [(check.name, check.found) for check in found] == [
        ("one", "first"),
        ("one", "second"),
        ("two", "first"),
        ("two", "second"),
    ]


def test_a_group_that_hangs_is_left_behind_with_what_it_found() -> None:
    go_on = threading.Event()

    def hang() -> Iterator[Check]:
        yield Check("engine", "ok", "loads")
        go_on.wait(60)

    started = time.monotonic()
    found = gather({"bank": hang, "disk": lambda: [Check("disk", "ok", "empty")]}, limit_s=0.3)
    go_on.set()
    assert time.monotonic() - started < 30
    assert [(check.name, check.status) for check in found] == [("engine", "ok"), ("bank", "failure"), ("disk", "ok")]
    assert found[1].found == "no answer within 0.3 s"
    assert "dmesg" in found[1].fix


def test_what_nobody_foresaw_is_a_failed_check() -> None:
    def fail() -> Iterator[Check]:
        yield Check("GPU", "ok", "there")
        raise ZeroDivisionError("division by zero")

    assert gather({"CUDA": fail}) == [
        Check("GPU", "ok", "there"),
        Check(
            "CUDA",
            "failure",
            "unexpected ZeroDivisionError: division by zero",
            "run again with --log-level debug and report it",
        ),
    ]


def test_no_password_is_shown() -> None:
    check = Check("Redis", "failure", "rediss://me:p@ss/w:rd@plant:6379/0 and so on", "try redis://:secret@plant")
    assert masked(check) == Check("Redis", "failure", "rediss://***@plant:6379/0 and so on", "try redis://***@plant")
    plain = Check("Redis", "ok", "redis://plant:6379/0 answers; write to me@plant")
    assert masked(plain) == plain


def test_the_process_ends_though_a_group_hangs() -> None:
    script = """
import time
from quarterturn.worker.doctor.check import gather
print(gather({"GPU": lambda: time.sleep(600)}, limit_s=0.1)[0].status)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "failure\n"
