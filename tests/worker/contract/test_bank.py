from __future__ import annotations

import io
import json
import math
import pickletools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import (
    Bank,
    BankManifest,
    Calibration,
    ScoringSettings,
    read_bank,
    require_same_engine,
)
from quarterturn.worker.contract.bank_tensors import needed
from quarterturn.worker.contract.detectors import Coreset, Normal
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.framing import WHOLE, Framing
from quarterturn.worker.contract.gallery import Gallery, GoodPicture
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.guard import MEASURES
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec, sha256
from quarterturn.worker.contract.registration import Registration
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.fitting.gallery import with_gallery
from quarterturn.worker.fitting.normal import NormalFit
from tests.parts import LEARNED_FROM

EVERY = ("frame", "nearest.middle", "nearest.deep", "position", "learned")
FEW = ("position", "nearest.deep")


def spec_of(views: int = 4, frame: int = 3, middle: int = 2, deep: int = 3) -> EmbeddingSpec:
    places = {"middle": Depth(grid=4, dimensions=middle), "deep": Depth(grid=2, dimensions=deep)}
    return EmbeddingSpec(framing=Framing(side=32), views=views, frame=frame, places=places, logits=4)


def numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Of half precision, so that a file keeps each as it is."""
    return rng.random(shape).astype(np.float16).astype(np.float32)


def normal_of(
    rng: np.random.Generator, spec: EmbeddingSpec, detectors: tuple[str, ...], members: int, pictures: int
) -> Normal:
    """Random good parts to the detectors that a bank of these needs, written out."""
    normal: dict[str, Gaussian | Coreset] = {}
    shapes = {"frame": (1, spec.frame), "position": (4, spec.places["deep"].dimensions)}
    for detector in dict.fromkeys(("frame", *detectors)):
        if detector.startswith("nearest."):
            depth = spec.places[detector.removeprefix("nearest.")]
            beyond = (pictures, 1, depth.grid, depth.grid)
            origins = rng.integers((-1, 0, 0, 0), beyond, (spec.views, members, 4))
            normal[detector] = Coreset(numbers(rng, spec.views, members, depth.dimensions), origins)
        elif detector != "learned":
            places, dimensions = shapes[detector]
            views = max(spec.views, 4) if detector == "frame" else spec.views
            whitening = np.tril(numbers(rng, views, places, dimensions, dimensions))
            normal[detector] = Gaussian.of(numbers(rng, views, places, dimensions), whitening)
    return normal


def make_bank(
    *,
    seed: int = 0,
    products: int = 2,
    members: int = 5,
    detectors: tuple[str, ...] = FEW,
    spec: EmbeddingSpec | None = None,
    pictures: int = 2,
) -> Bank:
    """A bank of random numbers."""
    rng = np.random.default_rng(seed)
    spec = spec or spec_of()
    normals = tuple(normal_of(rng, spec, detectors, members + c, pictures) for c in range(products))
    manifest = BankManifest(
        spec=spec,
        engine="e" * 64,
        target="numpy",
        products=tuple(f"product {c}" for c in range(products)),
        scoring=ScoringSettings(worst=0.1, coreset=members),
        votes={one: (k + 1) / sum(range(len(detectors) + 1)) for k, one in enumerate(detectors)},
        found=dict.fromkeys(detectors, 0.75),
        **LEARNED_FROM,
        created_at="2026-01-01T00:00:00.000Z",
    )
    calibration = tuple(
        Calibration(
            numbers(rng, 7 + c),
            numbers(rng, 7 + c),
            numbers(rng, 7 * (c % 2)),
            numbers(rng, 7 + c, len(MEASURES)),
            numbers(rng, 7 + c, 4),
        )
        for c in range(products)
    )
    registrations = tuple(
        Registration(numbers(rng, 64, 64), np.array([1, 1, 0, c], np.float32)) for c in range(products)
    )
    scales = numbers(rng, products, len(detectors), 2) + np.float32(0.1)
    guard = np.sort(numbers(rng, products, len(MEASURES), 2), axis=-1)
    gallery = tuple(gallery_of(rng, c, pictures) for c in range(products))
    return Bank(manifest, normals, scales, calibration, guard, registrations, gallery)


def gallery_of(rng: np.random.Generator, product: int, count: int) -> Gallery:
    """Tiny pictures of any shape, so that a blob is soon read."""
    shapes = rng.integers(1, 9, (count, 2)).tolist()
    pictures = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    return [GoodPicture.of(f"good {product}/Teil ü{n}.png", one) for n, one in enumerate(pictures)]


def assert_same(one: Normal, other: Normal) -> None:
    assert one.keys() == other.keys()
    for detector, mine in one.items():
        assert type(mine) is type(other[detector])
        for name, values in vars(mine).items():
            theirs = vars(other[detector])[name]
            for value, found in zip(values, theirs, strict=True) if name == "blocks" else [(values, theirs)]:
                assert found.dtype == (np.intp if name == "origins" else np.float32)
                np.testing.assert_array_equal(found, value)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    products=st.integers(1, 3),
    members=st.integers(1, 6),
    spec=st.builds(spec_of, st.sampled_from([1, 2, 4, 8]), *(st.sampled_from([1, 2, 5, 33, 70]) for _ in range(3))),
    detectors=st.sampled_from([("frame",), FEW, ("nearest.middle", "learned"), ("position",), EVERY]),
)
def test_a_bank_comes_back_as_it_was(**shape: Any) -> None:
    bank = make_bank(**shape)
    again = read_bank(bank.blob, "bank", bank.version)
    assert again.manifest == bank.manifest
    assert again.manifest.detectors == bank.manifest.detectors == shape["detectors"]  # in the order of the scales
    assert again.products == bank.products
    np.testing.assert_array_equal(again.scales, bank.scales)
    np.testing.assert_array_equal(again.guard, bank.guard)
    assert [list(one) for one in again.gallery] == [list(one) for one in bank.gallery]
    for mine, theirs in zip(bank.normals, again.normals, strict=True):
        assert_same(mine, theirs)
    for before, after in zip(bank.calibration, again.calibration, strict=True):
        for name, values in vars(before).items():
            np.testing.assert_array_equal(vars(after)[name], values)
    assert again.blob == bank.blob


def test_what_was_fitted_comes_back_as_it_was() -> None:
    """What half precision cannot say is rounded before anything is calibrated with it."""
    rng = np.random.default_rng(1)
    fit = NormalFit(spec_of(), 30, 20)
    pictures = [rng.integers(0, 256, (4, 4, 3)).astype(np.uint8) for _ in range(30)]
    shapes = spec_of().outputs
    fit.add({name: rng.normal(size=(30, *shapes[name])).astype(np.float32) for name in shapes}, [WHOLE] * 30)
    normal, gallery = with_gallery(fit.build(), list(map(str, range(30))), lambda some: [pictures[n] for n in some])
    bank = replace(make_bank(products=1, detectors=EVERY), normals=(normal,), gallery=(gallery,))
    assert_same(read_bank(bank.blob, "bank").normals[0], bank.normals[0])


def test_members_and_the_whitenings_of_positions_take_half_the_bytes() -> None:
    blob = make_bank(products=1, detectors=EVERY).blob
    tensors = safetensors.numpy.load(blob)
    half = {name for name, tensor in tensors.items() if tensor.dtype == np.float16}
    members = {f"0.nearest.{depth}.members" for depth in ("middle", "deep")}
    assert half == members | {"0.position.whitening"}
    shown = {name for name in tensors if name.endswith(".origins") or ".gallery." in name}
    others = {tensor.dtype for name, tensor in tensors.items() if name not in half | shown}
    assert others == {np.dtype(np.float32)}
    assert tensors["0.position.whitening"].shape == (4, 4, 6)  # triangles of 3 x 3


@pytest.mark.parametrize(
    ("detectors", "held"),
    [
        (("frame",), ["frame"]),
        (("learned",), ["frame"]),
        (("nearest.deep", "frame"), ["frame", "nearest.deep"]),
        (("position", "nearest.middle", "learned"), ["frame", "position", "nearest.middle"]),
    ],
)
def test_a_bank_holds_what_its_detectors_need_and_what_tells_the_product(
    detectors: tuple[str, ...], held: list[str]
) -> None:
    assert needed(detectors) == held
    bank = make_bank(detectors=detectors)
    assert sorted(read_bank(bank.blob, "bank").normals[0]) == sorted(held)
    kinds = {name.split(".", 1)[1].rpartition(".")[0] for name in safetensors.numpy.load(bank.blob) if "." in name}
    assert kinds == {*held, "calibration", "registration", "gallery"}


@pytest.mark.parametrize("name", ["a.b", "position"])
def test_a_depth_may_have_a_dot_in_its_name_or_that_of_a_detector(name: str) -> None:
    spec = spec_of().model_copy(
        update={"places": {name: Depth(grid=2, dimensions=2), "deep": spec_of().places["deep"]}}
    )
    bank = make_bank(spec=spec, detectors=(f"nearest.{name}", "position"))
    assert_same(read_bank(bank.blob, "bank").normals[0], bank.normals[0])


def test_more_than_ten_products_keep_apart() -> None:
    """Product 1's tensors are not those of product 10."""
    bank = make_bank(products=12)
    again = read_bank(bank.blob, "bank")
    for c in range(12):
        assert_same(again.normals[c], bank.normals[c])


@pytest.mark.parametrize("product", [0, 1, 2])
def test_the_bank_of_one_product(product: int) -> None:
    bank = make_bank(products=3)
    one = bank.of_products([product])
    assert one.products == (f"product {product}",)
    np.testing.assert_array_equal(one.scales, bank.scales[[product]])
    np.testing.assert_array_equal(one.guard, bank.guard[[product]])
    assert one.normals == (bank.normals[product],)
    assert one.calibration == (bank.calibration[product],)
    again = read_bank(one.blob, "bank", one.version)
    assert again.manifest == one.manifest


def test_a_bank_that_was_read_knows_its_version_without_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = make_bank().blob
    again = read_bank(blob, "bank")
    monkeypatch.setattr(Bank, "blob", None)
    assert again.version == sha256(blob)


def test_the_version_is_the_hash_of_the_blob_and_reproducible() -> None:
    assert make_bank().version == make_bank().version == sha256(make_bank().blob)
    assert make_bank(seed=1).version != make_bank().version
    bank = make_bank()
    nearest = bank.normals[0]["nearest.deep"]
    assert isinstance(nearest, Coreset)
    turned = Coreset(np.asfortranarray(nearest.members), np.asfortranarray(nearest.origins))
    assert not turned.members.flags.c_contiguous
    again = replace(bank, normals=({**bank.normals[0], "nearest.deep": turned}, *bank.normals[1:]))
    assert again.version == bank.version  # whatever the arrays' layout in memory


def test_the_blob_is_no_pickle() -> None:
    with pytest.raises(ValueError):  # whichever opcode its first byte, a length, may happen to be
        list(pickletools.genops(io.BytesIO(make_bank().blob)))


def test_every_flipped_bit_is_refused_by_the_version() -> None:
    bank = make_bank(products=1, members=1, detectors=("nearest.deep",), spec=spec_of(1, 1, 1, 1), pictures=1)
    blob = bytearray(bank.blob)
    for place in range(len(blob)):
        blob[place] ^= 1 << (place % 8)
        with pytest.raises(MismatchError, match=f"its version says {bank.version[:12]}; it was damaged on the way"):
            read_bank(bytes(blob), "bank", bank.version)
        blob[place] ^= 1 << (place % 8)
    assert read_bank(bytes(blob), "bank", bank.version).version == bank.version


def test_a_damaged_file_without_a_version_is_another_bank_or_one_sentence() -> None:
    bank = make_bank(products=1, members=1, detectors=("nearest.deep",), spec=spec_of(1, 1, 1, 1), pictures=1)
    blob = bytearray(bank.blob)
    refusals: list[str] = []
    picture = blob.index(bank.registrations[0].picture.tobytes())
    numbers = range(picture + 64, picture + 64**2 * 4)  # one is like another
    for place in sorted({*range(len(blob))} - {*numbers}):
        for bit in range(8):
            blob[place] ^= 1 << bit
            try:
                assert read_bank(bytes(blob), "bank.safetensors").version != bank.version
            except DataError as error:
                refusals.append(str(error))
            blob[place] ^= 1 << bit
    assert len(refusals) > len(blob) - len(numbers)
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
        (
            lambda t, _: t.pop("1.frame.mean"),
            r"lacks the tensors \['1.frame.mean'\] and has \[\] instead; fit the bank",
        ),
        (lambda t, _: t.pop("scales"), r"lacks the tensors \['scales'\] and has \[\] instead; fit the bank again"),
        (lambda t, _: t.pop("0.nearest.deep.members"), r"lacks the tensors \['0.nearest.deep.members'\] and"),
        (lambda t, _: t.pop("0.position.whitening"), r"lacks the tensors \['0.position.whitening'\] and"),
        (lambda t, _: t.pop("1.calibration.distances"), r"lacks the tensors \['1.calibration.distances'\] and"),
        (
            lambda t, _: t.update(extra=t["1.frame.mean"]),
            r"lacks the tensors \[\] and has \['extra'\] instead; fit the bank again",
        ),
        (
            lambda t, _: t.update({"1.frame.mean": t["1.frame.mean"][..., :2].copy()}),
            r"1\.frame\.mean is float32\[4, 1, 2\], not float32\[4, 1, 3\]",
        ),
        (
            lambda t, _: t.update({"0.position.whitening": t["0.position.whitening"][:, 0].copy()}),
            r"0\.position\.whitening is float16\[4, 6\], not float16\[4, 4, 6\]",
        ),
        (
            lambda t, _: t.update({"0.position.mean": t["0.position.mean"][:, :1].copy()}),
            r"0\.position\.mean is float32\[4, 1, 3\], not float32\[4, 4, 3\]",
        ),
        (
            lambda t, _: t.update({"0.nearest.deep.members": t["0.nearest.deep.members"][:3].copy()}),
            r"0\.nearest\.deep\.members is float16\[3, 5, 3\], not float16\[4, None, 3\]",
        ),
        (
            lambda t, _: t.update({"0.nearest.deep.members": t["0.nearest.deep.members"][:, :0].copy()}),
            r"0\.nearest\.deep\.members is empty; fit the bank again",
        ),
        (
            lambda t, _: t.update(scales=t["scales"][:, :1].copy()),
            r"scales is float32\[2, 1, 2\], not float32\[2, 2, 2\]",
        ),
        (
            lambda t, _: t.update({"1.frame.mean": t["1.frame.mean"].astype(np.float64)}),
            r"1\.frame\.mean is float64.*, not float32",
        ),
        (
            lambda t, _: t.update({"1.nearest.deep.members": t["1.nearest.deep.members"].astype(np.float32)}),
            r"1\.nearest\.deep\.members is float32.*, not float16",
        ),
        (
            lambda t, _: t.update({"1.position.whitening": t["1.position.whitening"].astype(np.float32)}),
            r"1\.position\.whitening is float32.*, not float16",
        ),
        (
            lambda t, _: t.update({"1.frame.whitening": t["1.frame.whitening"].astype(np.float16)}),
            r"1\.frame\.whitening is float16.*, not float32",
        ),
        (
            lambda t, _: t["1.nearest.deep.members"].__setitem__((0, 0, 0), np.nan),
            r"1\.nearest\.deep\.members holds values that are no numbers",
        ),
        (
            lambda t, _: t.update(scales=np.concatenate([t["scales"], t["scales"][..., 1:]], axis=-1)),
            r"tensor scales is float32\[2, 2, 3\], not float32\[2, 2, 2\]; fit it again$",
        ),
        (lambda t, _: t.update(scales=t["scales"][..., :1].copy()), r"scales is float32\[2, 2, 1\], not float32\[2, "),
        (lambda t, _: t["scales"].__setitem__((1, 1, 1), 0), r"scales holds a spread that is not above 0; fit the"),
        (lambda t, _: t["scales"].__setitem__((1, 0, 1), -1), r"scales holds a spread that is not above 0; fit the"),
        (lambda t, _: t["scales"].__setitem__((0, 0, 1), np.nan), r"scales holds values that are no numbers; fit the"),
        (lambda t, _: t["scales"].__setitem__((0, 1, 0), np.inf), r"scales holds values that are no numbers; fit the"),
        (lambda t, _: t.pop("guard"), r"lacks the tensors \['guard'\] and has \[\] instead; fit the bank again"),
        (lambda t, _: t.update(guard=t["guard"][:, :3].copy()), r"guard is float32\[2, 3, 2\], not float32\[2, 7, 2\]"),
        (lambda t, _: t["guard"].__setitem__((1, 2, 0), np.nan), r"guard holds values that are no numbers; fit the"),
        (lambda t, _: t["guard"].__setitem__((1, 2, 0), 2), r"guard holds limits that no picture keeps; fit the bank"),
        (lambda _, m: m.pop("pictures"), r"pictures is missing.*; the bank is from another version, fit it again$"),
        (lambda _, m: m.pop("region"), r"region is missing.*; the bank is from another version, fit it again$"),
        (lambda _, m: m.pop("bit_depth"), r"bit_depth is missing.*; the bank is from another version, fit it again$"),
        (lambda _, m: m.pop("overkill"), r"overkill is missing.*; the bank is from another version, fit it again$"),
        (lambda _, m: m.update(overkill=1), r"overkill = 1: .*; the bank is from another version, fit it again$"),
        (lambda _, m: m["pictures"].update(bits=[]), r"pictures.bits = \[\]: .*; the bank is from another version"),
        (lambda _, m: m.update(products=["a"]), r"lacks the tensors \[\] and has \['1.calibration.distances', "),
        (
            lambda _, m: m.update(votes={"nearest.deep": 1.0}, found={}),
            r"lacks the tensors \[\] and has \['0.position.mean', '0.position.whitening', '1",
        ),
        (
            lambda _, m: m.update(votes={"position": 0.5, "nearest.middle": 0.5}, found={}),
            r"lacks the tensors \['0.nearest.middle.members', '0.nearest.middle.origins', '1.*\] and has \['0\.nearest",
        ),
        (
            lambda _, m: m.update(votes={"position": 0.25, "nearest.deep": 0.5, "learned": 0.25}, found={}),
            r"scales is .*, not float32\[2, 3, 2\]",
        ),
        (lambda _, m: m.update(votes={}), r"votes: must not be empty; the bank is from another version, fit it again"),
        (
            lambda _, m: m.update(votes={"position": 0.5, "svm": 0.5}, found={}),
            r"names the detector 'svm', but its engine has frame, nearest\.middle, nearest\.deep, position, learned; ",
        ),
        (lambda _, m: m.update(votes={"nearest.top": 1.0}, found={}), r"names the detector 'nearest.top', but its eng"),
        (
            lambda _, m: m["votes"].update(position=0.3),
            r"votes: the shares sum to 0.966667, not to 1; the bank is from another version, fit it again",
        ),
        (lambda _, m: m["votes"].update({"nearest.deep": 0.667}), r"votes: the shares sum to 1.00033, not to 1; the"),
        (
            lambda _, m: m.update(votes={"position": 1.0, "nearest.deep": 0.0}),
            r"votes\.nearest\.deep = 0\.0: ",
        ),
        (lambda _, m: m.update(votes={"position": 1.5, "nearest.deep": -0.5}), r"votes\.position = 1\.5: "),
        (lambda _, m: m["votes"].update(position=math.nan), r"votes\.position = nan: "),
        (lambda _, m: m["found"].pop("position"), r"found: names other detectors than votes; the bank is from another"),
        (
            lambda _, m: m["spec"]["places"].pop("deep"),
            r"names the detector 'nearest.deep', but its engine has frame, nearest\.middle, position, learned; fit",
        ),
        (
            lambda _, m: m["spec"].update(places={}, logits=None),
            r"names the detector 'nearest.deep', but its engine has frame; fit the bank again$",
        ),
        (lambda _, m: m.update(products=[]), r"products = \[\].*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(colour="red"), r"colour is unknown; .*; the bank is from another version, fit it again"),
        (lambda _, m: m.update(kind="quarterturn-engine"), r"kind = 'quarterturn-engine'"),
        (lambda _, m: m["scoring"].update(worst=2), r"scoring\.worst = 2: "),
        (lambda _, m: m["scoring"].update(relative=True), r"scoring\.relative is unknown"),
        (lambda _, m: m.update(products=["a", "a"]), r"products = .*: a product is named twice"),
        (lambda _, m: m.update(products=[str(n) for n in range(9999)]), r"lacks the tensors (.{9,200}) instead; fit"),
        (
            lambda _, m: m["spec"].update(frame=10**12),
            r"0\.frame\.mean is float32\[4, 1, 3\], not float32\[4, 1, 10{12}\]",
        ),
        (
            lambda _, m: m["spec"].update(contract=3),
            r"spec\.contract = 3: made under contract 3, but .* has \d+; .*; the bank is from another version",
        ),
        (lambda _, m: m["spec"]["framing"].pop("side"), r"spec\.framing\.side is missing"),
    ],
)
def test_what_does_not_belong_in_a_bank_is_refused(
    change: Callable[[dict[str, Any], dict[str, Any]], None], fault: str
) -> None:
    with pytest.raises(DataError, match=r"^bank\.safetensors: .*" + fault):
        read_bank(changed(change), "bank.safetensors")


@pytest.mark.parametrize("setting", [{"aggregate": "harmonic"}, {"neighbours": 1}], ids=str)
def test_a_bank_from_before_with_a_setting_that_is_gone_is_refused_in_one_sentence(setting: dict[str, Any]) -> None:
    """Also where it says what is now always so."""
    with pytest.raises(DataError) as caught:
        read_bank(changed(lambda _, manifest: manifest["scoring"].update(setting)), "bank.safetensors")
    assert str(caught.value) == (
        f"bank.safetensors: scoring.{next(iter(setting))} is unknown; known here: coreset, detectors, worst; "
        "the bank is from another version, fit it again"
    )


def test_a_bank_from_before_is_refused_in_one_sentence_however_many_settings_are_gone() -> None:
    """As every bank was written then, with the defaults, too: whatever differs, there is one thing to do."""
    settings_then = {"detectors": "auto", "aggregate": "harmonic", "worst": 0.02, "neighbours": 1, "coreset": 1000}
    with pytest.raises(DataError) as caught:
        read_bank(changed(lambda _, manifest: manifest.update(scoring=settings_then, colour="red")), "bank.safetensors")
    assert str(caught.value) == (
        "bank.safetensors: scoring.aggregate is unknown; known here: coreset, detectors, worst; "
        "the bank is from another version, fit it again"
    )


def test_a_median_may_be_anything() -> None:
    """Only a spread must be above 0."""
    bank = read_bank(changed(lambda t, _: t["scales"].__setitem__((0, slice(None), 0), [0, -1])), "bank.safetensors")
    assert bank.scales[0, :, 0].tolist() == [0, -1]


@pytest.mark.parametrize("gone", ["pooled", "position.middle", "position.deep"])
def test_a_bank_from_before_with_a_detector_that_is_gone_is_refused_in_one_sentence(gone: str) -> None:
    def name(tensors: dict[str, Any], manifest: dict[str, Any]) -> None:
        """As it was written then: the detector's tensors under its name."""
        for part in ("mean", "whitening"):
            for c in range(2):
                tensors[f"{c}.{gone}.{part}"] = tensors.pop(f"{c}.position.{part}")
        for table in ("votes", "found"):
            manifest[table] = {gone: manifest[table].pop("position"), **manifest[table]}

    with pytest.raises(DataError) as caught:
        read_bank(changed(name), "bank.safetensors")
    assert str(caught.value) == (
        f"bank.safetensors: names the detector '{gone}', but its engine has frame, nearest.middle, nearest.deep, "
        "position, learned; fit the bank again"
    )


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


@pytest.mark.parametrize("detectors", ["foo", 5, None, [5], {"frame": 1}])
def test_detectors_that_are_none_are_one_sentence(detectors: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings({"detectors": detectors}, ScoringSettings, "bank.yaml")
    place = "detectors" if isinstance(detectors, dict) else f"detectors = {detectors!r}"
    assert str(caught.value) == f"bank.yaml: {place}: must be 'auto' or a list of detectors, such as [frame]"
