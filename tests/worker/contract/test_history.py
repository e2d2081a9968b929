from __future__ import annotations

import json
from dataclasses import replace

from quarterturn.worker.contract.bank import Bank, BankManifest, read_bank
from quarterturn.worker.contract.history import Role, Step, Word, words_in


def word(name: str, role: Role, by: str = "Ilse") -> Word:
    return Word(result_id=name, verdict="good", by=by, at="2026-01-02T03:04:05Z", product="ring", role=role)


def step(*words: Word) -> Step:
    return Step(parent="a" * 64, at="2026-01-03T00:00:00.000Z", words=words, calibration={"ring": 30})


def test_the_last_word_counts() -> None:
    history = (step(word("f:0:1", "waiting"), word("f:0:2", "learned")), step(word("f:0:1", "calibrating")))
    assert {name: one.role for name, one in words_in(history).items()} == {"f:0:1": "calibrating", "f:0:2": "learned"}
    assert words_in(()) == {}


def test_a_step_in_words() -> None:
    said = step(word("f:0:1", "learned"), word("f:0:2", "learned", "Ömer")).sentence
    assert said == "2026-01-03T00:00:00.000Z: learned from aaaaaaaaaaaa with 2 good parts by Ilse, Ömer"
    assert step().sentence.endswith("with no parts by nobody")


def test_a_bank_carries_its_history_and_one_without_is_read(bank: Bank) -> None:
    taught = replace(bank, manifest=bank.manifest.model_copy(update={"history": (step(word("f:0:1", "learned")),)}))
    assert read_bank(taught.blob, "memory").manifest.history == taught.manifest.history
    assert taught.version != bank.version
    document = json.loads(bank.manifest.model_dump_json())
    del document["history"]
    assert BankManifest.model_validate(document) == bank.manifest
