from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from quarterturn.engine_build.golden import NEEDED, Golden, parity, render_frames
from quarterturn.worker.contract.embeddings import Embeddings

FRAMES, VIEWS = 6, 4
SHAPES = {"frame": (16,), "places.middle": (9, 5), "places.deep": (4, 7), "logits": (9,)}
Array = npt.NDArray[np.float32]


def random_embeddings(seed: int) -> Embeddings:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(FRAMES, VIEWS, *shape)).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def golden() -> Golden:
    return Golden(render_frames(8, FRAMES), random_embeddings(3))


@pytest.fixture(params=SHAPES)
def output(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def changed(golden: Golden, output: str, where: Any, values: Any) -> Embeddings:
    """The golden embeddings, but for one output of one frame and view, or one number of it."""
    copy = golden.embeddings[output].copy()
    copy[where] = values
    return {**golden.embeddings, output: copy}


def turned_by(angle: float, vector: Array) -> Array:
    """A vector as long as the given one at this angle, in radians, to it; both of any shape."""
    noise = np.random.default_rng(4).normal(size=vector.shape)
    across = noise - vector * np.sum(noise * vector) / np.sum(vector**2)
    across *= np.sqrt(np.sum(vector**2) / np.sum(across**2))
    return np.asarray(np.cos(angle) * vector + np.sin(angle) * across, np.float32)


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.0447, 1.0, 3.0])
def test_one_vector_at_an_angle_decides(golden: Golden, output: str, angle: float) -> None:
    """Of one output of one frame and view, all places together."""
    found = changed(golden, output, (2, 1), turned_by(angle, golden.embeddings[output][2, 1]))
    assert parity(found, golden.embeddings) == pytest.approx(np.cos(angle), abs=1e-6)


def test_a_place_counts_by_its_share_of_the_vector(golden: Golden) -> None:
    """Nine places of the same length, one of them turned by 60 degrees: (8 + 1/2) / 9."""
    alike = np.ones((FRAMES, VIEWS, 9, 5), np.float32)
    wanted = Golden(golden.frames, {"places.middle": alike})
    found = changed(wanted, "places.middle", (0, 3, 4), turned_by(np.pi / 3, alike[0, 3, 4]))
    assert parity(found, wanted.embeddings) == pytest.approx(17 / 18, abs=1e-6)


@pytest.mark.parametrize("length", [0.0, 0.9, 1.1])
def test_another_length_counts_against_an_output(golden: Golden, output: str, length: float) -> None:
    found = {**golden.embeddings, output: golden.embeddings[output] * np.float32(length)}
    assert parity(found, golden.embeddings) < 0.999


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_not_a_number_passes_no_limit(golden: Golden, output: str, number: float) -> None:
    assert parity(changed(golden, output, (0, 0, 0), number), golden.embeddings) == -1 < min(NEEDED.values())
    broken = changed(golden, output, (0, 0, 0), number)
    assert parity(broken, broken) == -1, "nor does torch's"


def test_it_is_a_cosine_of_double_precision(golden: Golden, output: str) -> None:
    """Numbers whose squares are beyond float32, and a difference that is below it."""
    scale = 1e30
    wanted = {name: (values * scale).astype(np.float32) for name, values in golden.embeddings.items()}
    assert parity(wanted, wanted) == 1
    first = wanted[output][0, 0].copy()
    first.flat[0] *= np.float32(1 + 1e-4)
    found = changed(Golden(golden.frames, wanted), output, (0, 0), first)
    share = float(wanted[output][0, 0].flat[0] / scale) ** 2 / np.sum((wanted[output][0, 0] / scale) ** 2)
    assert 1 - parity(found, wanted) == pytest.approx(share * 1e-8 / 2, rel=0.01)


def test_confused_views_frames_and_outputs_are_found(golden: Golden, output: str) -> None:
    """Even where the others cannot tell, because nothing differs in them."""
    wanted = {name: np.ones_like(values) for name, values in golden.embeddings.items()}
    wanted[output] = golden.embeddings[output]
    assert parity(wanted, wanted) == 1
    views, frames = wanted[output].copy(), wanted[output].copy()
    views[3, [1, 2]] = views[3, [2, 1]]
    frames[[0, 5]] = frames[[5, 0]]
    for confused in (views, frames):
        assert parity({**wanted, output: confused}, wanted) < 0.9
    places = {name: values[:, :, ::-1] for name, values in wanted.items()}
    assert parity(places, wanted) < 0.9


def test_zeros_can_be_met_exactly_and_no_other_way(golden: Golden, output: str) -> None:
    """The logits of a head that was never trained."""
    wanted = {**golden.embeddings, output: np.zeros_like(golden.embeddings[output])}
    assert parity(wanted, wanted) == 1
    assert parity(golden.embeddings, wanted) == -1


def test_rendered_frames_are_the_same_every_time_and_differ_in_every_view() -> None:
    frames = render_frames(32, 8)
    assert frames.shape == (8, 32, 32, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, render_frames(32, 8))
    looks = [np.rot90(side, turns).astype(float) for f in frames for side in (f, np.fliplr(f)) for turns in range(4)]
    differences = [np.abs(a - b).mean() for i, a in enumerate(looks) for b in looks[:i]]
    assert min(differences) > 10


def test_golden_frames_are_saved_with_their_embeddings(golden: Golden, tmp_path: Path) -> None:
    golden.save(tmp_path)
    saved = safetensors.numpy.load_file(tmp_path / "golden.safetensors")
    assert set(saved) == {"frames", *SHAPES}
    np.testing.assert_array_equal(saved.pop("frames"), golden.frames)
    loaded = Golden.load(tmp_path)
    np.testing.assert_array_equal(loaded.frames, golden.frames)
    assert loaded.embeddings.keys() == golden.embeddings.keys()
    for name, values in golden.embeddings.items():
        np.testing.assert_array_equal(saved[name], values)
        np.testing.assert_array_equal(loaded.embeddings[name], values)
