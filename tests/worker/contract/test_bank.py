from __future__ import annotations

import io
import json
import pickletools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings, read_bank, require_same_engine
from worker.contract.detectors import Detector, Gaussian, Normal
from worker.contract.errors import DataError, MismatchError
from worker.contract.framing import Framing
from worker.contract.manifest import EmbeddingSpec, sha256


def make_bank(
    *,
    seed: int = 0,
    products: int = 2,
    views: int = 4,
    positions: int = 4,
    dimensions: int = 3,
    neighbours: int = 5,
    with_places: int = 2,
    detectors: tuple[Detector, ...] = ("mahalanobis", "knn"),
) -> Bank:
    """A bank of random numbers; the first `with_places` products have Gaussians of each position."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> npt.NDArray[np.float32]:
        return rng.random(shape, np.float32)

    def gaussians(*shape: int) -> Gaussian:
        return Gaussian(numbers(*shape, dimensions), numbers(*shape, dimensions, dimensions))

    normals = tuple(
        Normal(
            gaussians(views),
            gaussians(views, positions) if c < with_places else None,
            numbers(views, neighbours + c, dimensions),
        )
        for c in range(products)
    )
    manifest = BankManifest(
        spec=EmbeddingSpec(framing=Framing(side=32), views=views, positions=positions, dimensions=dimensions),
        engine="e" * 64,
        target="numpy",
        products=tuple(f"product {c}" for c in range(products)),
        scoring=ScoringSettings(aggregate="mean"),
        detectors=detectors,
        choice={"mahalanobis": 0.75, "knn": 0.5},
        created_at="2026-01-01T00:00:00.000Z",
    )
    calibration = tuple(Calibration(numbers(7 + c), numbers(7 if views >= 4 else 0)) for c in range(products))
    return Bank(manifest, normals, numbers(products, len(detectors), 2) + np.float32(0.1), calibration)


def assert_same(one: Gaussian | None, other: Gaussian | None) -> None:
    if one is None or other is None:
        assert one is other
        return
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.whitening, other.whitening)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    products=st.integers(1, 3),
    views=st.sampled_from([1, 2, 4, 8]),
    positions=st.sampled_from([1, 4]),
    dimensions=st.integers(1, 5),
    neighbours=st.integers(1, 6),
    with_places=st.integers(0, 3),
    detectors=st.sampled_from([("mahalanobis",), ("mahalanobis", "knn"), ("knn", "learned")]),
)
def test_a_bank_comes_back_as_it_was(**shape: Any) -> None:
    bank = make_bank(**shape)
    again = read_bank(bank.blob, "bank", bank.version)
    assert again.manifest == bank.manifest
    assert again.products == bank.products
    np.testing.assert_array_equal(again.scales, bank.scales)
    for mine, theirs in zip(bank.normals, again.normals, strict=True):
        assert_same(mine.everywhere, theirs.everywhere)
        assert_same(mine.places, theirs.places)
        np.testing.assert_array_equal(mine.neighbours, theirs.neighbours)
        assert mine.detectors == theirs.detectors
    for before, after in zip(bank.calibration, again.calibration, strict=True):
        np.testing.assert_array_equal(before.scores, after.scores)
        np.testing.assert_array_equal(before.turn_ratios, after.turn_ratios)
    assert again.blob == bank.blob


def test_more_than_ten_products_keep_apart() -> None:
    """Product 1's tensors are not those of product 10."""
    bank = make_bank(products=12, dimensions=1, with_places=0)
    again = read_bank(bank.blob, "bank")
    for c in range(12):
        np.testing.assert_array_equal(again.normals[c].neighbours, bank.normals[c].neighbours)


@pytest.mark.parametrize("product", [0, 1, 2])
def test_the_bank_of_one_product(product: int) -> None:
    bank = make_bank(products=3, with_places=1)
    one = bank.of_products([product])
    assert one.products == (f"product {product}",)
    np.testing.assert_array_equal(one.scales, bank.scales[[product]])
    assert one.normals == (bank.normals[product],)
    assert one.calibration == (bank.calibration[product],)
    again = read_bank(one.blob, "bank", one.version)
    assert_same(again.normals[0].places, bank.normals[product].places)
    assert again.manifest == one.manifest


def test_the_version_is_the_hash_of_the_blob_and_reproducible() -> None:
    assert make_bank().version == make_bank().version == sha256(make_bank().blob)
    assert make_bank(seed=1).version != make_bank().version
    bank = make_bank()
    turned = replace(
        bank, normals=tuple(replace(one, neighbours=np.asfortranarray(one.neighbours)) for one in bank.normals)
    )
    assert not turned.normals[0].neighbours.flags.c_contiguous
    assert turned.version == bank.version  # whatever the arrays' layout in memory


def test_the_blob_is_no_pickle() -> None:
    with pytest.raises(Exception, match=r"opcode|pickle"):
        list(pickletools.genops(io.BytesIO(make_bank().blob)))


def test_every_flipped_bit_is_refused_by_the_version() -> None:
    bank = make_bank(products=1, views=1, dimensions=1, neighbours=1)
    blob = bytearray(bank.blob)
    for place in range(len(blob)):
        blob[place] ^= 1 << (place % 8)
        with pytest.raises(MismatchError, match=f"its version says {bank.version[:12]}; it was damaged on the way"):
            read_bank(bytes(blob), "bank", bank.version)
        blob[place] ^= 1 << (place % 8)
    assert read_bank(bytes(blob), "bank", bank.version).version == bank.version


def test_a_damaged_file_without_a_version_is_another_bank_or_one_sentence() -> None:
    bank = make_bank(products=1, views=1, dimensions=1, neighbours=1)
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
        (lambda t, _: t.pop("1.mean"), r"lacks the tensors \['1.mean'\] and has \[\] instead; fit the bank again"),
        (lambda t, _: t.pop("scales"), r"lacks the tensors \['scales'\] and has \[\] instead; fit the bank again"),
        (lambda t, _: t.pop("0.places.mean"), r"lacks the tensors \['0.places.mean'\] and"),
        (
            lambda t, _: t.update(extra=t["1.mean"]),
            r"lacks the tensors \[\] and has \['extra'\] instead; fit the bank again",
        ),
        (
            lambda t, _: t.update({"1.mean": t["1.mean"][..., :2].copy()}),
            r"1\.mean is float32\[4, 2\], not float32\[4, 3\]",
        ),
        (
            lambda t, _: t.update({"0.places.mean": t["0.places.mean"][:, :1].copy()}),
            r"0\.places\.mean is float32\[4, 1, 3\], not float32\[4, 4, 3\]",
        ),
        (
            lambda t, _: t.update(scales=t["scales"][:, :1].copy()),
            r"scales is float32\[2, 1, 2\], not float32\[2, 2, 2\]",
        ),
        (lambda t, _: t.update({"1.mean": t["1.mean"].astype(np.float64)}), r"1\.mean is float64.*, not float32"),
        (
            lambda t, _: t["1.neighbours"].__setitem__((0, 0, 0), np.nan),
            r"1\.neighbours holds values that are no numbers",
        ),
        (lambda t, _: t["scales"].__setitem__((1, 1, 1), 0), r"scales holds a spread that is not above 0"),
        (lambda _, m: m.update(products=["a"]), r"lacks the tensors \[\] and has \['1.calibration.scores', "),
        (lambda _, m: m.update(detectors=["knn"]), r"scales is float32\[2, 2, 2\], not float32\[2, 1, 2\]"),
        (lambda _, m: m.update(detectors=[]), r"detectors = \[\].*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(detectors=["knn", "svm"]), r"detectors\.1 = 'svm'"),
        (lambda _, m: m.update(products=[]), r"products = \[\].*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(colour="red"), r"colour is unknown; .*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(kind="quarterturn-engine"), r"kind = 'quarterturn-engine'"),
        (lambda _, m: m["scoring"].update(aggregate="max"), r"scoring\.aggregate = 'max'"),
        (lambda _, m: m["scoring"].update(method="knn"), r"scoring\.method is unknown"),
        (lambda _, m: m.update(products=["a", "a"]), r"products = .*: a product is named twice"),
        (lambda _, m: m.update(products=[str(n) for n in range(9999)]), r"lacks the tensors (.{9,200}) instead; fit"),
        (lambda _, m: m["spec"].update(dimensions=10**12), r"0\.mean is float32\[4, 3\], not float32\[4, 10{12}\]"),
        (
            lambda _, m: m["spec"].update(contract=99),
            r"spec\.contract = 99: made under contract 99, but .* has \d+; .*; the bank is from another version",
        ),
        (lambda _, m: m["spec"]["framing"].pop("side"), r"spec\.framing\.side is missing"),
    ],
)
def test_what_does_not_belong_in_a_bank_is_refused(
    change: Callable[[dict[str, Any], dict[str, Any]], None], fault: str
) -> None:
    with pytest.raises(DataError, match=r"^bank\.safetensors: .*" + fault):
        read_bank(changed(change), "bank.safetensors")


def test_a_bank_that_looks_at_each_position_has_gaussians_for_it_in_every_product() -> None:
    bank = make_bank(detectors=("position", "knn"))
    assert read_bank(bank.blob, "bank").manifest.detectors == ("position", "knn")
    for with_places in (0, 1):
        with pytest.raises(DataError, match=r"lacks the tensors \[.*'1\.places\.mean'.*\] and has \[\]"):
            read_bank(make_bank(detectors=("position", "knn"), with_places=with_places).blob, "bank")


@pytest.mark.parametrize(
    "metadata",
    [None, {"other": "{}"}, {"manifest": "{"}, {"manifest": "[]"}, {"manifest": "[" * 100_000}],
    ids=["none", "another", "broken", "a list", "nested"],
)
def test_another_safetensors_file_is_no_bank(metadata: dict[str, str] | None) -> None:
    blob = safetensors.numpy.save({"mean": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(DataError, match=r"^weights"):
        read_bank(blob, "weights")


@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [("BF16", [1], 2), ("F8_E4M3", [1], 1), ("F32", [2**62, 0], 0), ("F32", [2**40], 4)]
)
def test_tensors_that_numpy_cannot_hold_are_no_bank(dtype: str, shape: list[int], size: int) -> None:
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"manifest": "{}"}, "mean": tensor}).encode()
    with pytest.raises(DataError, match=r"^weights: is no bank \(.*\); make one with 'quarterturn bank fit'$"):
        read_bank(len(header).to_bytes(8, "little") + header + bytes(size), "weights")


def test_a_bank_belongs_to_its_engine() -> None:
    bank = make_bank()
    require_same_engine(bank, bank.manifest.spec, "e" * 64, "numpy")
    with pytest.raises(MismatchError) as caught:
        require_same_engine(bank, bank.manifest.spec, "f" * 64, "openvino")
    assert str(caught.value) == (
        f"bank {bank.version[:12]} was made by engine eeeeeeeeeeee (numpy), but the engine here is ffffffffffff "
        "(openvino); fit the bank again through this engine"
    )
    taller = bank.manifest.spec.model_copy(update={"framing": Framing(side=64)})
    with pytest.raises(MismatchError, match=f"bank {bank.version[:12]} does not fit the engine: .*side=64.*side=32"):
        require_same_engine(bank, taller, "e" * 64, "numpy")
