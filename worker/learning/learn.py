"""The next version of a line's bank, by what people said of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from quarterturn.worker.bankstore.base import BankStore, BankVersion
from quarterturn.worker.bankstore.versions import load_active, require_active
from quarterturn.worker.contract.bank import Bank, require_same_engine
from quarterturn.worker.contract.calibration import promises
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.history import Step, Word, words_in
from quarterturn.worker.contract.times import now
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.learning.cache import RememberingEngine
from quarterturn.worker.learning.gather import Archive, gather
from quarterturn.worker.learning.near_duplicates import NearDuplicates, find_near_duplicates
from quarterturn.worker.learning.plan import Given, ProductPlan, plan, split_as_planned
from quarterturn.worker.learning.recent import Recent, Result, stream_of
from quarterturn.worker.learning.regression import Regression, compare
from quarterturn.worker.learning.rejudge import Rejudge
from quarterturn.worker.learning.shelf import Kept, Shelf, by_product
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.pictures.near_duplicates import Grey, read_thumbnails
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import WorkerSettings


@dataclass
class Learned:
    """What came of some words.

    `bank` is the next version; None where nothing changes the bank. `blocked` says which defects it would lose, so that
    it may not be published; `said` is everything else that people should know.
    """

    parent: Bank
    bank: Bank | None = None
    blocked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)


class Learner:
    """Learns for one line. One thread calls it.

    Args:
        worker: the settings of the line.
        fit: of its bank's first fit: pictures, scoring, and where judged pictures are kept.
        split: the pictures of that fit.
        engine: the engine that serves, remembering.
        store: where the line's banks are.
        archive: gives the frames that were judged.
        recent: the line's last results.
    """

    def __init__(
        self,
        worker: WorkerSettings,
        fit: FitSettings,
        split: Split,
        engine: RememberingEngine,
        *,
        store: BankStore,
        archive: Archive,
        recent: Recent,
    ) -> None:
        self._worker, self._fit, self._base, self._engine = worker, fit, split, engine
        self._store, self._archive, self._recent = store, archive, recent
        self._shelf = Shelf(fit.learned)
        self._thumbnails: dict[Path, Grey] = {}

    def learn(self, words: Mapping[str, Feedback], *, rolled_back: bool = False) -> Learned:
        """The version that these words lead to, from the one in service; nothing is published.

        Args:
            words: the last word on each result.
            rolled_back: whether words count that a version knew which was rolled back.

        Raises:
            QuarterturnError: an artifact, a service or a folder does not fit or answer.
        """
        bank = load_active(self._store, self._worker.line)
        self._require_same_pictures(bank)
        with closing(Rejudge(self._engine, bank, self._worker)) as judge:
            gathered = gather(words, self._shelf, self._archive, judge, bank)
        learned = Learned(bank, said=list(gathered.refused.values()), kept=gathered.kept)
        plans = self._plans(bank, gathered.kept, words, learned, rolled_back=rolled_back)
        if _in_bank(plans) == _in_bank_before(bank):
            return learned
        fitted = self._fitted(split_as_planned(self._base, plans, gathered.kept))
        regression = compare(self._engine, self._bad(plans, gathered.kept), bank, fitted, self._worker)
        step = self._step(bank, plans, regression, gathered.kept)
        history = (*bank.manifest.history, step)
        learned.bank = replace(fitted, manifest=fitted.manifest.model_copy(update={"history": history}))
        learned.blocked = regression.sentences
        learned.said += _about(regression, learned.bank, self._worker)
        return learned

    def publish(self, learned: Learned) -> BankVersion:
        """Make the version the line's active one, and remember which words it knew.

        Raises:
            DataError: the line has another bank than the one that this was learned from, or defects would be lost.
        """
        assert learned.bank is not None
        if learned.blocked:
            raise DataError("; ".join(learned.blocked))
        if require_active(self._store, self._worker.line).version != learned.parent.version:
            raise DataError(f"line '{self._worker.line}' was given another bank in the meantime; learn again")
        published = self._store.publish(self._worker.line, learned.bank)
        at = learned.bank.manifest.history[-1].at
        for kept in learned.kept.values():
            if kept.note.published_at is None:
                self._shelf.change(kept, kept.note.model_copy(update={"published_at": at}))
        return published

    def _require_same_pictures(self, bank: Bank) -> None:
        """The version in service must come from the engine and the pictures that are here."""
        require_same_engine(bank, self._engine.spec, self._engine.hash, self._engine.target)
        fit, fitted = self._fit, bank.manifest
        if (fit.region, fit.bit_depth) != (fitted.region, fitted.bit_depth):
            raise DataError(
                "bank.yaml names another region or bit_depth than the bank in service was fitted with; correct it"
            )
        if different := sorted({*self._base.normal} ^ {*bank.products}):
            raise DataError(
                f"{fit.data}: product '{different[0]}' is only in one of this folder and the bank in service; name the "
                "pictures that it was fitted from with 'data'"
            )

    def _plans(
        self,
        bank: Bank,
        kept: Mapping[str, Kept],
        words: Mapping[str, Feedback],
        learned: Learned,
        *,
        rolled_back: bool,
    ) -> dict[str, ProductPlan]:
        promised = promises(bank, self._worker.overkill, self._worker.thresholds)
        results: Sequence[Result] = self._recent.read()
        plans = {}
        for product in bank.products:
            judged = by_product(kept).get(product, [])
            given = Given(
                product,
                judged,
                self._near_duplicates(product, judged),
                first=len(self._base.calibration[product]),
                promise=promised.get(product),
                stream=stream_of(results, words, bank.version, product),
            )
            plans[product] = plan(given, bank, min(self._worker.overkill, self._fit.overkill), rolled_back=rolled_back)
            learned.said += plans[product].said
        return plans

    def _near_duplicates(self, product: str, judged: Sequence[Kept]) -> NearDuplicates:
        first = [*self._base.normal[product], *self._base.weighing[product], *self._base.calibration[product]]
        missing = [path for path in (*first, *(one.path for one in judged)) if path not in self._thumbnails]
        found = read_thumbnails(missing, self._fit.region, self._fit.bit_depth)
        self._thumbnails |= dict(zip(missing, found, strict=True))
        return find_near_duplicates(first, judged, self._thumbnails)

    def _fitted(self, split: Split) -> Bank:
        fit = self._fit
        return fit_bank(self._engine, split, fit.scoring, fit.overkill, region=fit.region, bit_depth=fit.bit_depth)

    @staticmethod
    def _bad(plans: Mapping[str, ProductPlan], kept: Mapping[str, Kept]) -> list[Kept]:
        out = {name for one in plans.values() for name in one.roles}
        return [one for name, one in kept.items() if not one.is_good and name not in out]

    @staticmethod
    def _step(bank: Bank, plans: Mapping[str, ProductPlan], regression: Regression, kept: Mapping[str, Kept]) -> Step:
        roles = {name: role for one in plans.values() for name, role in one.roles.items()}
        roles |= {one.result_id: "found" for one in regression.found}
        roles |= {one.result_id: "missed" for one in (*regression.missed, *(lost for lost, *_ in regression.lost))}
        before = words_in(bank.manifest.history)
        new = [
            Word(**_said(kept[name].note.feedback), product=kept[name].note.product, role=role)
            for name, role in sorted(roles.items())
        ]
        gone = [word.model_copy(update={"role": "left_out"}) for name, word in before.items() if name not in kept]
        words = tuple(word for word in (*new, *gone) if before.get(word.result_id) != word)
        calibration = dict(bank.manifest.history[-1].calibration) if bank.manifest.history else {}
        calibration |= {product: one.calibration for product, one in plans.items()}
        return Step(parent=bank.version, at=now(), words=words, calibration=calibration)


def _said(word: Feedback) -> dict[str, str]:
    return {"result_id": word.result_id, "verdict": word.verdict, "by": word.by, "at": word.at}


def _in_bank(plans: Mapping[str, ProductPlan]) -> dict[str, str]:
    """What makes a bank: which pictures are learned from, and which calibrate."""
    return {n: role for one in plans.values() for n, role in one.roles.items() if role in ("learned", "calibrating")}


def _in_bank_before(bank: Bank) -> dict[str, str]:
    words = words_in(bank.manifest.history)
    return {name: word.role for name, word in words.items() if word.role in ("learned", "calibrating")}


def _about(regression: Regression, bank: Bank, settings: WorkerSettings) -> list[str]:
    said = [
        f"{one.result_id} (bad, {one.note.feedback.by}) is found neither by the version in service nor by this one"
        for one in regression.missed
    ]
    if regression.found and not regression.lost:
        said.append(f"all {len(regression.found)} confirmed defects that the version in service finds are found")
    Judge.of(bank, settings.overkill, settings.thresholds)  # what a worker would refuse, is refused here
    kept = promises(bank, settings.overkill, settings.thresholds)
    return said + [f"{product}: {promise.sentence}" for product, promise in kept.items()]
