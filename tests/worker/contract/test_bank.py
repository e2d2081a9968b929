from __future__ import annotations

import io
import json
import pickletools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from worker.contract.bank import (
    Bank,
    BankManifest,
    Calibration,
    ScoringSettings,
    fit_gaussians,
    read_bank,
    require_same_engine,
)
from worker.contract.errors import DataError, MismatchError
from worker.contract.manifest import EmbeddingSpec, sha256


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape) + 2.0
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_bank(
    *, seed: int = 0, products: int = 2, views: int = 4, positions: int = 1, dimensions: int = 3, count: int = 5
) -> Bank:
    rng = np.random.default_rng(seed)
    embeddings = tuple(unit(rng, count + c, views, positions, dimensions) for c in range(products))
    manifest = BankManifest(
        spec=EmbeddingSpec(side=16, views=views, positions=positions, dimensions=dimensions),
        engine="e" * 64,
        target="numpy",
        products=tuple(f"product {c}" for c in range(products)),
        scoring=ScoringSettings(aggregate="mean"),
        created_at="2026-01-01T00:00:00.000Z",
        trained_holdout=True,
    )
    calibration = tuple(
        Calibration(rng.random(7 + c, np.float32), rng.random(7 if views >= 4 else 0, np.float32))
        for c in range(products)
    )
    return Bank(manifest, embeddings, fit_gaussians(embeddings), calibration)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    products=st.integers(1, 3),
    views=st.sampled_from([1, 2, 4, 8]),
    positions=st.sampled_from([1, 4]),
    dimensions=st.integers(1, 5),
    count=st.integers(1, 6),
)
def test_a_bank_comes_back_as_it_was(**shape: Any) -> None:
    bank = make_bank(**shape)
    again = read_bank(bank.blob, "bank", bank.version)
    assert again.manifest == bank.manifest
    assert again.products == bank.products
    np.testing.assert_array_equal(again.gaussians.mean, bank.gaussians.mean)
    np.testing.assert_array_equal(again.gaussians.whitening, bank.gaussians.whitening)
    for mine, theirs in zip(bank.embeddings, again.embeddings, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for before, after in zip(bank.calibration, again.calibration, strict=True):
        np.testing.assert_array_equal(before.scores, after.scores)
        np.testing.assert_array_equal(before.turn_ratios, after.turn_ratios)
    assert again.blob == bank.blob


def test_the_version_is_the_hash_of_the_blob_and_reproducible() -> None:
    assert make_bank().version == make_bank().version == sha256(make_bank().blob)
    assert make_bank(seed=1).version != make_bank().version
    turned = replace(make_bank(), embeddings=tuple(np.asfortranarray(e) for e in make_bank().embeddings))
    assert turned.version == make_bank().version  # whatever the arrays' layout in memory


def test_the_blob_is_no_pickle() -> None:
    with pytest.raises(Exception, match=r"opcode|pickle"):
        list(pickletools.genops(io.BytesIO(make_bank().blob)))


def test_every_flipped_bit_is_refused_by_the_version() -> None:
    bank = make_bank(products=1, dimensions=1, count=1)
    blob = bytearray(bank.blob)
    for place in range(len(blob)):
        blob[place] ^= 1 << (place % 8)
        with pytest.raises(MismatchError, match=f"its version says {bank.version[:12]}; it was damaged on the way"):
            read_bank(bytes(blob), "bank", bank.version)
        blob[place] ^= 1 << (place % 8)
    assert read_bank(bytes(blob), "bank", bank.version).version == bank.version


def test_a_damaged_file_without_a_version_is_another_bank_or_one_sentence() -> None:
    bank = make_bank(products=1, dimensions=1, count=1)
    blob = bytearray(bank.blob)
    refusals: list[str] = []
    for place in range(len(blob)):
        for bit in range(8):
            blob[place] ^= 1 << bit
            try:
                assert read_bank(bytes(blob), "bank.safetensors").version != bank.version
            except DataError as error:
                refusals.append(str(error))
            blob[place] ^= 1 << bit
    assert len(refusals) > len(blob)
    assert all(text.startswith("bank.safetensors: ") and "fit" in text for text in refusals)


def test_a_blob_cut_off_anywhere_is_refused() -> None:
    blob = make_bank().blob
    for length in range(len(blob)):
        with pytest.raises(DataError, match=r"^bank: is no bank \(.*\); make one with 'quarterturn bank fit'$"):
            read_bank(blob[:length], "bank")


def changed(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """A bank's blob after `change(tensors, manifest)`."""
    blob = make_bank().blob
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    tensors, manifest = safetensors.numpy.load(blob), json.loads(header["__metadata__"]["manifest"])
    change(tensors, manifest)
    return safetensors.numpy.save(tensors, {"manifest": json.dumps(manifest)})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t, _: t.pop("mean"), r"holds the tensors \[.*\], not \[.*'mean'.*\]; fit the bank again"),
        (lambda t, _: t.update(extra=t["mean"]), r"holds the tensors \[.*'extra'.*; fit the bank again"),
        (
            lambda t, _: t.update(mean=t["mean"][..., :2].copy()),
            r"mean is float32\[2, 4, 1, 2\], not float32\[2, 4, 1, 3\]",
        ),
        (lambda t, _: t.update(mean=t["mean"].astype(np.float64)), r"mean is float64.*, not float32"),
        (
            lambda t, _: t["embeddings.1"].__setitem__((0, 0, 0, 0), np.nan),
            r"embeddings\.1 holds values that are no numbers",
        ),
        (lambda _, m: m.update(products=["a"]), r"holds the tensors"),
        (lambda _, m: m.update(products=[]), r"products = \[\].*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(colour="red"), r"colour is unknown; .*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(kind="quarterturn-engine"), r"kind = 'quarterturn-engine'"),
        (lambda _, m: m["scoring"].update(method="svm"), r"scoring\.method = 'svm'"),
        (lambda _, m: m["spec"].pop("side"), r"spec\.side is missing"),
    ],
)
def test_what_does_not_belong_in_a_bank_is_refused(
    change: Callable[[dict[str, Any], dict[str, Any]], None], fault: str
) -> None:
    with pytest.raises(DataError, match=r"^bank\.safetensors: .*" + fault):
        read_bank(changed(change), "bank.safetensors")


@pytest.mark.parametrize("metadata", [None, {"other": "{}"}, {"manifest": "{"}, {"manifest": "[]"}])
def test_another_safetensors_file_is_no_bank(metadata: dict[str, str] | None) -> None:
    blob = safetensors.numpy.save({"mean": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(DataError, match=r"^weights"):
        read_bank(blob, "weights")


def test_a_bank_belongs_to_its_engine() -> None:
    bank = make_bank()
    require_same_engine(bank, bank.manifest.spec, "e" * 64, "numpy")
    with pytest.raises(MismatchError) as caught:
        require_same_engine(bank, bank.manifest.spec, "f" * 64, "openvino")
    assert str(caught.value) == (
        f"bank {bank.version[:12]} was made by engine eeeeeeeeeeee (numpy), but the engine here is ffffffffffff "
        "(openvino); fit the bank again through this engine"
    )
    with pytest.raises(MismatchError, match=f"bank {bank.version[:12]} does not fit the engine: side 32 against 16"):
        require_same_engine(bank, bank.manifest.spec.model_copy(update={"side": 32}), "e" * 64, "numpy")


@pytest.mark.parametrize(("count", "dimensions"), [(200, 8), (12, 8), (5, 30), (2, 6)])
def test_gaussians_agree_with_scikit_learn(count: int, dimensions: int) -> None:
    rng = np.random.default_rng(count)
    mixing = rng.normal(size=(dimensions, dimensions))
    products = tuple(unit(rng, count + c, 2, 4, dimensions) @ mixing.astype(np.float32) for c in range(2))
    gaussians = fit_gaussians(products)
    assert gaussians.mean.dtype == gaussians.whitening.dtype == np.float32
    for c, samples in enumerate(products):
        for v in range(2):
            for p in range(4):
                oracle = OAS().fit(samples[:, v, p].astype(np.float64))
                np.testing.assert_allclose(gaussians.mean[c, v, p], oracle.location_, rtol=1e-4, atol=1e-5)
                whitening = gaussians.whitening[c, v, p].astype(np.float64)
                whitened = whitening @ oracle.covariance_ @ whitening.T
                np.testing.assert_allclose(whitened, np.eye(dimensions), atol=2e-3)


def test_the_whitened_normals_have_unit_variance() -> None:
    samples = unit(np.random.default_rng(3), 5000, 1, 1, 6)
    gaussians = fit_gaussians((samples,))
    whitened = (samples[:, 0, 0] - gaussians.mean[0, 0, 0]) @ gaussians.whitening[0, 0, 0].T
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(6), atol=0.05)


def test_normals_that_do_not_vary_give_finite_gaussians() -> None:
    one = unit(np.random.default_rng(4), 1, 1, 1, 4)
    for samples in (one, np.repeat(one, 10, axis=0)):
        gaussians = fit_gaussians((samples,))
        assert np.isfinite(gaussians.whitening).all()
        np.testing.assert_allclose(gaussians.mean[0, 0, 0], one[0, 0, 0], rtol=1e-6)
