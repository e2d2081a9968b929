from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.optim import AdamW

import quarterturn.trainer.train
from quarterturn.trainer.checkpoint import load_model
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import Pictures, find_good_parts, look_over
from quarterturn.trainer.encoder import embed_views
from quarterturn.trainer.train import learning_rate, precision_of, train
from quarterturn.trainer.weights import create_encoder
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError, QuarterturnError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.pictures.sets import split_held_out
from tests.parts import deepen, good_part, png
from tests.trainer.conftest import SIDE, MakeSettings

RAW = {"projection.steps": 0, "head.steps": 0}
TRAINED = {"architecture.trained": "all", "precision": "float32"}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def part_of(found: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in found.items() if key.startswith(f"{name}.")}


def as_drawn(settings: TrainSettings) -> dict[str, Tensor]:
    """The weights that a run begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return create_encoder(settings.completed, SIDE, settings.weights).state_dict()


@contextlib.contextmanager
def at_step(step: int, happening: Callable[[], None]) -> Iterator[None]:
    """Let `happening` befall the run in its step number `step`, from 0, of both stages together."""
    original, calls = quarterturn.trainer.train.learning_rate, itertools.count()

    def rate(*arguments: Any) -> float:
        if next(calls) == step:
            happening()
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quarterturn.trainer.train, "learning_rate", rate)
        yield


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise MemoryError


def test_a_model_is_written_with_all_it_was_made_from(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = make_settings()
    assert train(settings, progress=False) == settings.out
    encoder, manifest = load_model(settings.out)
    assert encoder.architecture.model_dump(exclude={"depths", "head_layers", "mean", "std"}) == (
        settings.architecture.model_dump(exclude={"depths", "head_layers", "mean", "std"})
    )
    assert manifest.framing == Framing(side=SIDE)
    assert (manifest.products, manifest.holdout) == (("bracket", "ring"), settings.data.holdout)
    assert manifest.views == 4
    assert manifest.training.items() >= settings.model_copy(update={"precision": "float32"}).recipe().items()
    parts = find_good_parts(settings.data)
    assert manifest.training["pictures"] == parts.fingerprint
    assert (manifest.pictures, manifest.group) == (parts.known, settings.data.group)
    assert manifest.training["last_loss.projection"] > 0
    assert manifest.training["last_loss.head"] > 0
    assert [message.partition(";")[0] for message in caplog.messages] == [
        *(
            f"{product}: 6 of 18 good pictures calibrate (35% are held out): "
            "no smaller overkill than 14.29% can be promised"
            for product in ("bracket", "ring")
        ),
        *(f"{product}: 4 of 4 quarter turns become classes of the contrastive loss" for product in ("bracket", "ring")),
        *(report.sentence for report in manifest.rotations.values()),
    ]
    assert [path.name for path in settings.out.parent.iterdir()] == ["model"]


def test_pictures_that_teach_nothing_end_it_before_anything_is_computed(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    (tmp_path / "ring").mkdir()
    for n in range(12):
        (tmp_path / "ring" / f"{n}.png").write_bytes(png(np.full((SIDE, SIDE, 3), 90 + 3 * n, np.uint8)))
    with pytest.raises(DataError, match="product 'ring': all 12 good pictures are plain grey and show no part"):
        train(make_settings(**{"data.path": tmp_path / "ring"}, weights="nowhere.pth"), progress=False)


def test_a_frozen_backbone_stays_as_it_was(make_settings: MakeSettings) -> None:
    settings = make_settings()
    drawn, found = as_drawn(settings), weights(train(settings, progress=False))
    assert same(part_of(found, "backbone"), {name: drawn[name] for name in part_of(found, "backbone")})
    for name, value in {**part_of(found, "projection"), **part_of(found, "head")}.items():
        assert not torch.equal(value, drawn[name]), name


def test_the_raw_backbone_needs_no_step(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarterturn.trainer.train, "learning_rate", lambda *_: pytest.fail("there is nothing to learn"))
    settings = make_settings(**RAW)
    encoder, manifest = load_model(train(settings, progress=False))
    found, drawn = encoder.state_dict(), as_drawn(settings)
    assert {name for name in found if not torch.equal(found[name], drawn[name])} == {*part_of(found, "bases")}
    assert encoder.head is None
    assert (manifest.training["last_loss.projection"], manifest.training["last_loss.head"]) == (None, None)
    assert set(manifest.rotations) == {"bracket", "ring"}


def test_pictures_that_may_be_deeper_than_was_said_are_named(
    make_settings: MakeSettings, parts_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(parts_folder, tmp_path / "deep")
    deepen(tmp_path / "deep", 12)
    train(make_settings(**RAW, **{"data.path": tmp_path / "deep", "data.bit_depth": 12}), progress=False)
    assert not [record for record in caplog.records if "bits" in record.getMessage()]
    with pytest.raises(DataError, match="look the same"):  # the few levels that are left
        train(make_settings(**RAW, **{"data.path": tmp_path / "deep"}), progress=False)
    (record,) = [record for record in caplog.records if "bits" in record.getMessage()]
    assert "set bit_depth: 12 or more" in record.getMessage()


def test_the_bases_are_those_of_the_good_pictures(make_settings: MakeSettings) -> None:
    """Standardised and along principal axes: on the pictures learned from, numbers of mean 0 that do not correlate."""
    settings = make_settings()
    encoder, _ = load_model(train(settings, progress=False))
    paths, _ = find_good_parts(settings.data).to_learn
    with Pictures(paths, settings.data) as pictures:
        embeddings = embed_views(encoder, np.concatenate([*pictures.batches(8)]), 1)
    for depth in ("shallow", "middle", "deep"):
        rows = embeddings[f"places.{depth}"].reshape(-1, encoder.places[depth].dimensions)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-3)
        covariance = np.cov(rows.T)
        assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 1e-3 * covariance.max()
        assert (np.diff(covariance.diagonal()) < 1e-6).all()


@pytest.mark.parametrize(
    "changes", [{"head.steps": 0}, {"architecture.head": False}], ids=["no steps", "not in the architecture"]
)
def test_a_model_without_a_head(make_settings: MakeSettings, changes: dict[str, Any]) -> None:
    settings = make_settings(**changes)
    encoder, manifest = load_model(train(settings, progress=False))
    assert encoder.head is None
    assert manifest.training["last_loss.projection"] > 0
    assert manifest.training["last_loss.head"] is None


def test_the_stages_do_not_touch_each_others_part(make_settings: MakeSettings) -> None:
    both = weights(train(make_settings(), progress=False))
    projection = weights(train(make_settings(**{"head.steps": 0}), progress=False))
    head = weights(train(make_settings(**{"projection.steps": 0}), progress=False))
    assert same(part_of(both, "projection"), part_of(projection, "projection"))
    assert same(part_of(both, "head"), part_of(head, "head"))


def cosines(settings: TrainSettings, model: Path) -> np.ndarray:
    """(C · 4, C · 4) mean cosines between the labels (product, turn) of the held-out pictures."""
    encoder, _ = load_model(model)
    turns = []
    for paths in find_good_parts(settings.data).held_out:
        with Pictures(paths, settings.data) as pictures:
            frames = np.concatenate([*pictures.batches(8)])
        turns.append(embed_views(encoder, frames, 4)["frame"])
    rows = np.concatenate(turns, axis=1)
    return np.einsum("nvd,mwd->vw", rows, rows) / len(rows) ** 2


LEARNING = {"projection.steps": 150, "projection.batch": 12, "projection.learning_rate": 0.01, "head.steps": 0}


def test_training_draws_products_and_turns_apart(make_settings: MakeSettings) -> None:
    settings = make_settings(**LEARNING)
    found = cosines(settings, train(settings, progress=False))
    assert found.diagonal().min() > 0.9
    assert found[~np.eye(8, dtype=bool)].mean() < 0.5


def test_the_turns_of_one_product_alone_do_not_collapse(make_settings: MakeSettings, parts_folder: Path) -> None:
    settings = make_settings(**{**LEARNING, "data.path": parts_folder / "train" / "ring"})
    found = cosines(settings, train(settings, progress=False))
    assert found.diagonal().min() > 0.9
    assert found[~np.eye(4, dtype=bool)].mean() < 0.5


@pytest.mark.parametrize(
    ("trained", "changed"),
    [
        ("last", {"backbone.network.layer4"}),
        ("all", {"backbone.network.conv1", "backbone.network.layer1", "backbone.network.layer4"}),
    ],
)
def test_a_backbone_is_trained_with_the_projection(
    make_settings: MakeSettings, trained: str, changed: set[str]
) -> None:
    settings = make_settings(**{**TRAINED, "architecture.trained": trained})
    drawn, found = as_drawn(settings), weights(train(settings, progress=False))
    different = {name for name in part_of(found, "backbone") if not torch.equal(found[name], drawn[name])}
    stages = {".".join(name.split(".")[:3]) for name in different}
    assert stages >= changed
    if trained == "last":
        assert stages == changed


def test_the_head_learns_on_the_trained_backbone(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves it alone: its features were computed before."""
    backbones: list[dict[str, Tensor]] = []
    original = quarterturn.trainer.train.draw_examples

    def draw(encoder: Any, *rest: Any) -> Any:
        backbones.append({name: value.clone() for name, value in encoder.backbone.state_dict().items()})
        return original(encoder, *rest)

    monkeypatch.setattr(quarterturn.trainer.train, "draw_examples", draw)
    encoder, _ = load_model(train(make_settings(**TRAINED), progress=False))
    (at_first,) = backbones
    found = encoder.backbone.state_dict()
    assert {name for name in found if not torch.equal(found[name], at_first[name])} <= {
        name for name in found if name.endswith("num_batches_tracked")
    }
    assert encoder.head is not None


FROZEN: dict[str, Any] = {}
FLOAT16 = {  # a CPU takes its time for it
    **TRAINED,
    "precision": "float16",
    "optimiser": "sgd",
    "data.side": 32,
    "projection.batch": 2,
    "projection.steps": 3,
    "head.steps": 0,
}


@pytest.mark.parametrize(
    ("recipe", "stops"),
    [
        (FROZEN, [2, 5, 8, 11]),
        ({"optimiser": "sgd"}, [2, 8]),
        ({"head.steps": 0}, [5]),
        (TRAINED, [2, 5, 8]),
        ({**TRAINED, "precision": "bfloat16"}, [2]),
        (FLOAT16, [1]),
    ],
    ids=["frozen", "sgd", "no head", "trained", "bfloat16", "float16"],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    make_settings: MakeSettings, tmp_path: Path, recipe: dict[str, Any], stops: list[int]
) -> None:
    """Six steps of the projection, six of the head: stopped within both stages, and at their last steps."""
    settings = make_settings(**recipe)
    straight = weights(train(settings.model_copy(update={"out": tmp_path / "straight"}), progress=False))
    for stop in stops:
        settings = settings.model_copy(update={"out": tmp_path / f"stopped-{stop}"})
        with pytest.raises(QuarterturnError) as stopped, at_step(stop, ctrl_c):
            train(settings, progress=False)
        assert str(stopped.value) == (
            f"{settings.checkpoint}: training was stopped after {stop + 1} steps; go on with the same command and "
            "'--set resume=true' (of the demo: train.resume=true)"
        )
        assert not settings.out.exists()
        assert same(weights(train(settings.model_copy(update={"resume": True}), progress=False)), straight), stop
        assert not settings.checkpoint.exists()


def test_a_run_that_is_stopped_again_and_again_comes_to_its_end(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(**{"projection.steps": 2, "head.steps": 3})
    straight = weights(train(settings.model_copy(update={"out": tmp_path / "straight"}), progress=False))
    for number in range(5):
        with pytest.raises(QuarterturnError, match=f"stopped after {number + 1} steps"), at_step(0, ctrl_c):
            train(settings, progress=False)
        settings = settings.model_copy(update={"resume": True})
    assert same(weights(train(settings, progress=False)), straight)


@pytest.mark.parametrize("crashed", [4, 10], ids=["in the projection", "in the head"])
def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    make_settings: MakeSettings, tmp_path: Path, crashed: int
) -> None:
    settings = make_settings(checkpoint_every=3)
    straight = weights(train(settings.model_copy(update={"out": tmp_path / "straight"}), progress=False))
    with pytest.raises(MemoryError), at_step(crashed, crash):
        train(settings, progress=False)
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quarterturn.trainer.train, "learning_rate", lambda *a: (next(steps), learning_rate(*a))[1])
        assert same(weights(train(settings.model_copy(update={"resume": True}), progress=False)), straight)
    assert next(steps) == 12 - crashed // 3 * 3


@pytest.mark.parametrize("recipe", [FROZEN, TRAINED], ids=["frozen", "trained"])
def test_the_seed_decides_and_nothing_else_does(make_settings: MakeSettings, recipe: dict[str, Any]) -> None:
    first = weights(train(make_settings(**recipe), progress=False))
    torch.manual_seed(123)
    again = weights(train(make_settings(**recipe, **{"data.cache_gib": 0.002, "checkpoint_every": 1}), progress=False))
    other = weights(train(make_settings(**recipe, seed=1), progress=False))
    assert same(first, again)
    for part in ("projection", "head"):
        assert not same(part_of(first, part), part_of(other, part))


def test_training_begins_with_the_weights_given(make_settings: MakeSettings, tmp_path: Path) -> None:
    drawn = part_of(as_drawn(make_settings()), "backbone")
    given = {name: value + 0.02 * torch.rand_like(value) for name, value in drawn.items() if value.is_floating_point()}
    prefix = "backbone.network."
    torch.save({name.removeprefix(prefix): value for name, value in given.items()}, tmp_path / "weights.pth")
    found = weights(train(make_settings(weights=str(tmp_path / "weights.pth")), progress=False))
    assert same(part_of(found, "backbone"), given)


OPENED: list[Path] | None = None  # what is opened, while a test wants to know


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and OPENED is not None and isinstance(arguments[0], str | os.PathLike):
        OPENED.append(Path(arguments[0]))


sys.addaudithook(_note_opened)


def require_blind(settings: TrainSettings, patch: pytest.MonkeyPatch) -> None:
    """Train; fail if a picture is read that is to calibrate a bank, but to look for copies before training begins."""

    def opened_by(work: Callable[[], object]) -> Counter[Path]:
        opened = list[Path]()
        with patch.context() as noting:
            noting.setattr(sys.modules[__name__], "OPENED", opened)
            work()
        return Counter(path for path in opened if path.suffix == ".png")

    parts = find_good_parts(settings.data)
    beforehand = opened_by(lambda: look_over(find_good_parts(settings.data), settings.data))
    pictures = set(opened_by(lambda: train(settings, progress=False)) - beforehand)
    held_out = {path for paths in parts.held_out for path in paths}
    to_choose = {path for paths in parts.held_out for path in split_held_out(paths)[0]}
    assert {*parts.to_learn[0]} <= pictures
    assert pictures & held_out == to_choose
    assert len(held_out) > 2 * len(to_choose)


@pytest.mark.parametrize("recipe", [FROZEN, TRAINED, RAW], ids=["frozen", "trained", "raw"])
def test_no_picture_that_calibrates_is_ever_read(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    require_blind(make_settings(**recipe), monkeypatch)


def nuts_and_rings(folder: Path) -> Path:
    """Nuts look the same in all turns, to the last pixel."""
    rng = np.random.default_rng(0)
    for product in ("nut", "ring"):
        (folder / "train" / product).mkdir(parents=True)
    for n in range(18):
        nut = np.mean([np.rot90(good_part(rng), turn) for turn in range(4)], axis=0).astype(np.uint8)
        nut = np.maximum.reduce([np.rot90(nut, turn) for turn in range(4)])
        for product, picture in (("nut", nut), ("ring", good_part(rng))):
            (folder / "train" / product / f"{n:03}.png").write_bytes(png(picture))
    return folder


def classes(settings: TrainSettings, patch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """All (product, turn) that a run told apart."""
    labels: set[int] = set()
    original = quarterturn.trainer.projection.masked_contrastive_loss

    def note(projections: Tensor, of_turns: Tensor, *rest: Any, **multipliers: float) -> tuple[Tensor, Tensor]:
        labels.update(of_turns.tolist())
        return original(projections, of_turns, *rest, **multipliers)

    patch.setattr(quarterturn.trainer.projection, "masked_contrastive_loss", note)
    train(settings, progress=False)
    return {(label % 2, label // 2) for label in labels}


def test_only_turns_that_a_frozen_backbone_tells_apart_become_classes(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = nuts_and_rings(tmp_path / "parts")
    assert classes(make_settings(**{"data.path": folder}), monkeypatch) == {(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)}
    assert caplog.messages[2:4] == [
        "nut: 1 of 4 quarter turns become classes of the contrastive loss",
        "ring: 4 of 4 quarter turns become classes of the contrastive loss",
    ]


def test_with_a_backbone_that_is_trained_all_turns_do(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(**TRAINED, **{"data.path": nuts_and_rings(tmp_path / "parts")})
    assert classes(settings, monkeypatch) == {(product, turn) for product in (0, 1) for turn in range(4)}


def test_the_head_sees_all_tiles_of_long_pictures(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three squares side by side, of the levels 40, 120 and 200, and a spot that makes each picture another."""
    (tmp_path / "strips").mkdir()
    strip = np.repeat(np.array([40, 120, 200], np.uint8), 32)[None, :, None].repeat(32, axis=0).repeat(3, axis=2)
    for n in range(12):
        spotted = strip.copy()
        spotted[12:18, 8 * n : 8 * n + 6] = 0
        (tmp_path / "strips" / f"{n:03}.png").write_bytes(png(spotted))
    levels: set[int] = set()
    original = quarterturn.trainer.train.draw_examples

    def draw(encoder: Any, batches: Iterator[Tensor], *rest: Any) -> Any:
        kept = [*batches]
        levels.update(int(level) for frames in kept for level in frames.float().flatten(1).median(dim=1).values)
        return original(encoder, iter(kept), *rest)

    monkeypatch.setattr(quarterturn.trainer.train, "draw_examples", draw)
    changes = {"data.path": tmp_path / "strips", "data.fit": "tiles", "projection.steps": 0, "head.frames": 128}
    train(make_settings(**changes), progress=False)
    assert levels >= {40, 120, 200}


class Noting(AdamW):
    """Notes what it was made of, and how large the gradient is in each step."""

    decays: dict[int, float]
    norms: list[float]

    def __init__(self, groups: list[dict[str, Any]], **rest: Any) -> None:
        super().__init__(groups, **rest)
        Noting.norms = []
        Noting.decays = {one.ndim: group["weight_decay"] for group in groups for one in group["params"]}

    def step(self, closure: Any = None) -> Any:
        gradients = [one.grad for group in self.param_groups for one in group["params"] if one.grad is not None]
        Noting.norms.append(math.sqrt(sum(gradient.square().sum().item() for gradient in gradients)))
        return super().step(closure)


def test_adamw_cuts_large_gradients_and_lets_norms_and_biases_keep_their_size(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarterturn.trainer.train, "AdamW", Noting)
    train(make_settings(**{"projection.spa": 1e6, "weight_decay": 0.1}), progress=False)
    assert Noting.norms[:6] == pytest.approx([2] * 6, rel=1e-3)
    assert min(Noting.norms[6:]) < 1.9
    assert Noting.decays == {1: 0.0, 2: 0.1, 4: 0.1}


@pytest.mark.parametrize(
    ("has", "cuda", "precision"),
    [
        (True, False, "bfloat16"),
        (False, False, "float32"),
        (True, True, "bfloat16"),
        (False, True, "float16"),
    ],
)
def test_auto_is_what_the_device_computes_in(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, has: bool, cuda: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    settings = make_settings(**{"device": "auto", "architecture.trained": "last"})
    assert precision_of(settings) == precision
    assert precision_of(settings.model_copy(update={"precision": "float16"})) == "float16"


def test_the_recipe_says_which_precision_it_was(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    for changes in ({"precision": "bfloat16"}, {"architecture.trained": "all"}):
        _, manifest = load_model(train(make_settings(**RAW, **changes), progress=False))
        assert manifest.training["precision"] == "float32"


def test_faults_are_found_before_training(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarterturn.trainer.train, "learning_rate", lambda *_: pytest.fail("training began"))
    with pytest.raises(DataError, match="holds something besides a model"):
        train(make_settings(out=tmp_path.parent))
    with pytest.raises(DataError, match="there is no such folder"):
        train(make_settings(**{"data.path": tmp_path / "nothing"}))
    with pytest.raises(DataError, match=r"model.checkpoint: there is no checkpoint to resume from"):
        train(make_settings(resume=True))
    with pytest.raises(DataError, match=r"weights.pth: cannot be read"):
        train(make_settings(weights=str(tmp_path / "weights.pth")))
    with pytest.raises(ConfigError, match="weights: no package carries those of test_resnet"):
        train(make_settings(weights="package"))
    with pytest.raises(ConfigError, match=r"frames of 80 px cannot be divided .* set 'data.side' to"):
        train(make_settings(**{"data.side": 80}))
    with pytest.raises(ConfigError, match=r"with fit 'letterbox' frames of 96 px cannot .* 'data.fit' to"):
        train(make_settings(**{"data.side": 96, "data.fit": "letterbox"}))
    with pytest.raises(ConfigError, match="the backbone has no layer 'layer5'; did you mean"):
        train(make_settings(**{"architecture.depths": {"deep": {"layers": ["layer5"], "stride": 32}}}))
    with pytest.raises(ConfigError, match=r"raise it, or lower projection\.pictures"):
        train(make_settings(**{"data.cache_gib": 0.0}), progress=False)
    with pytest.raises(ConfigError, match=r"raise it, or lower head\.frames"):
        train(make_settings(**{"data.cache_gib": 0.0, "projection.steps": 0}), progress=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: 'cuda' is set, but torch finds no NVIDIA GPU"):
        train(make_settings(device="cuda"))


def test_a_checkpoint_of_another_recipe_is_refused(make_settings: MakeSettings) -> None:
    with pytest.raises(QuarterturnError, match="training was stopped after 1 step"), at_step(0, ctrl_c):
        train(make_settings(), progress=False)
    changed = make_settings(**{"projection.tau": 0.3, "resume": True})
    with pytest.raises(MismatchError, match=r"model.checkpoint: .* \(projection.tau 0.2 against 0.3\); set them back"):
        train(changed, progress=False)


def test_a_loss_that_is_no_number_stops_the_run(make_settings: MakeSettings) -> None:
    settings = make_settings(**{"optimiser": "sgd", "projection.learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(QuarterturnError, match=r"lower 'projection\.learning_rate' and train again"):
        train(settings, progress=False)
    assert not settings.out.exists()


def test_curves_of_both_stages_are_written(make_settings: MakeSettings, tmp_path: Path) -> None:
    train(make_settings(tensorboard=tmp_path / "curves"), progress=False)
    for stage, names in (("projection", {"loss", "ccm", "spa"}), ("head", {"loss"})):
        curves = EventAccumulator(str(tmp_path / "curves" / stage)).Reload()
        assert {*curves.Tags()["scalars"]} == {*names, "learning_rate", "steps_per_s"}
        assert [point.step for point in curves.Scalars("loss")] == [6]


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, 0.2, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.2 / 11)
    assert rates[9] == pytest.approx(0.2 * 10 / 11)
    assert rates[10] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(0.1, rel=1e-3)
    assert 0.2 * 5e-4 < rates[99] < 0.2 * 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(0, 100, 0.2, 0.0) == pytest.approx(0.2)
    assert all(0 < learning_rate(step, 100, 0.2, 1.0) < 0.2 for step in range(100))
