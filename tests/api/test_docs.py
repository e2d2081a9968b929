"""docs/api.md: its examples run, as one session, and show every public name."""

from __future__ import annotations

import ast
import doctest
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import quarterturn
from quarterturn.worker.contract.bank import read_bank
from tests.api.plant import ROOT, Plant

PAGE = ROOT / "docs/api.md"
# Without its fences: to doctest the closing one would be output.
SESSION = re.sub(r"^```.*$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_examples_do_what_the_page_says(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant.root)
    examples = doctest.DocTestParser().get_doctest(SESSION, {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert results.attempted > 30
    assert results.failed == 0, "".join(said)


def test_every_public_name_is_imported_in_an_example() -> None:
    source = "".join(example.source for example in doctest.DocTestParser().get_examples(SESSION))
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "quarterturn"
        for alias in node.names
    }
    assert imported == set(quarterturn.__all__) - {"__version__"}


DOCUMENTED = (
    quarterturn.Bank,
    quarterturn.Inspector,
    quarterturn.evaluate,
    quarterturn.fit_bank,
    quarterturn.open_engine,
    quarterturn.heatmap.decode,
    quarterturn.heatmap.overlay,
)


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda one: one.__qualname__)
def test_the_examples_of_docstrings_run(documented: object, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what their first line names: an engine, a bank, a frame and the folders `engine` and `ring`."""
    monkeypatch.chdir(plant.root)
    headers, data = {"camera": b"top-01"}, (plant.pictures / "test/good/000.png").read_bytes()
    with closing(quarterturn.open_engine(quarterturn.EngineSettings(path=plant.engine))) as engine:
        names = {
            **{name: getattr(quarterturn, name) for name in quarterturn.__all__},
            "engine": engine,
            "bank": quarterturn.read_bank_file(plant.bank),
            "np": np,
            "Path": Path,
            "frame": quarterturn.Frame(quarterturn.Position("frames", 0, 0), None, headers, data),
            **{name: getattr(quarterturn.heatmap, name) for name in ("encode", "decode", "overlay")},
            "read_bank": read_bank,
        }
        (examples,) = doctest.DocTestFinder(recurse=False).find(documented, "example", globs=names)
        said: list[str] = []
        results = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(said)
