"""The bank of a line by the settings of all its steps: on the pictures that training held out, read as it read them."""

from __future__ import annotations

from contextlib import closing

from quarterturn.demo.config import DemoSettings
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from quarterturn.worker.fitting.bank_file import write_bank_file
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split, split_by
from quarterturn.worker.runtime.assemble import open_engine


def split_for(settings: DemoSettings) -> Split:
    """Which pictures will become the bank, weigh its detectors and calibrate it; also where nothing is trained yet."""
    trained = settings.train.data
    return split_by(settings.bank, trained.holdout, trained.group)


def fit_line(settings: DemoSettings) -> Bank:
    """Fit the bank through the engine that was built, and write it to `settings.bank.out`."""
    fit = settings.bank
    trained = read_manifest(fit.engine.path, EngineManifest, "quarterturn build")
    split = split_by(fit, trained.holdout, trained.group, trained.pictures)
    with closing(open_engine(fit.engine)) as engine:
        bank = fit_bank(engine, split, fit.scoring, fit.overkill, region=fit.region, bit_depth=fit.bit_depth)
    write_bank_file(fit.out, bank)
    return bank
