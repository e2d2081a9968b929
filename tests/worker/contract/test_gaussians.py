from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from quarterturn.worker.contract.gaussians import Gaussian, Moments, stacked


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.integers(0, 5))
def test_a_whitening_in_blocks_is_what_it_was_and_measures_as_a_whole(seed: int, dimensions: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    whitening = np.tril(rng.normal(size=(2, 3, dimensions, dimensions)))
    mean, samples = rng.normal(size=(2, 3, dimensions)), rng.normal(size=(2, 3, count, dimensions))
    gaussian = Gaussian.of(mean.astype(np.float32), whitening.astype(np.float32))
    np.testing.assert_array_equal(gaussian.whitening, whitening.astype(np.float32))
    found = gaussian.distances(samples.astype(np.float32))
    assert found.dtype == np.float32
    expected = np.linalg.norm(np.einsum("vpij,vpnj->vpni", whitening, samples - mean[:, :, None]), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(gaussian[1, :2].distances(samples[1, :2].astype(np.float32)), found[1, :2])


def test_of_128_dimensions_it_keeps_five_eighths() -> None:
    whitening = np.tril(np.ones((4, 128, 128), np.float32))
    gaussian = Gaussian.of(np.zeros((4, 128), np.float32), whitening)
    assert sum(block.size for block in gaussian.blocks) == whitening.size * 5 // 8
    assert not any(np.shares_memory(block, whitening) for block in gaussian.blocks)  # which may go


def test_those_of_several_products_together_are_copies() -> None:
    rng = np.random.default_rng(0)
    several = [
        Gaussian.of(*(rng.normal(size=shape).astype(np.float32) for shape in ((2, 40), (2, 40, 40)))) for _ in range(3)
    ]
    together = stacked(several)
    for c, one in enumerate(several):
        np.testing.assert_array_equal(together[c].mean, one.mean)
        np.testing.assert_array_equal(together[c].whitening, one.whitening)
        assert not np.shares_memory(together.blocks[0], one.blocks[0])


@pytest.mark.parametrize(("count", "dimensions"), [(200, 8), (12, 8), (5, 30), (2, 6)])
def test_gaussians_agree_with_scikit_learn(count: int, dimensions: int) -> None:
    rng = np.random.default_rng(count)
    mixing = rng.normal(size=(2, 3, dimensions, dimensions))
    samples = np.asarray(rng.normal(size=(count, 2, 3, 1, dimensions)) @ mixing + 1, np.float32)[..., 0, :]
    moments = Moments(2, 3, dimensions=dimensions)
    for batch in np.array_split(samples, [1, 1, count // 2]):  # one, none, and two larger ones
        moments.add(batch)
    gaussian = moments.gaussian()
    assert moments.count == count
    assert gaussian.mean.dtype == gaussian.whitening.dtype == np.float32
    assert (gaussian.mean.shape, gaussian.whitening.shape) == ((2, 3, dimensions), (2, 3, dimensions, dimensions))
    for v in range(2):
        for p in range(3):
            oracle = OAS().fit(samples[:, v, p].astype(np.float64))
            np.testing.assert_allclose(gaussian.mean[v, p], oracle.location_, rtol=1e-4, atol=1e-5)
            whitening = gaussian.whitening[v, p].astype(np.float64)
            whitened = whitening @ oracle.covariance_ @ whitening.T
            np.testing.assert_allclose(whitened, np.eye(dimensions), atol=2e-3)


def test_the_whitened_normals_have_unit_variance() -> None:
    samples = np.random.default_rng(3).normal(size=(5000, 6)).astype(np.float32) + 2
    moments = Moments(dimensions=6)
    moments.add(samples)
    gaussian = moments.gaussian()
    whitened = (samples - gaussian.mean) @ gaussian.whitening.T
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(6), atol=0.05)


@pytest.mark.parametrize("count", [1, 10])
def test_normals_that_do_not_vary_give_finite_gaussians(count: int) -> None:
    one = np.random.default_rng(4).normal(size=(1, 2, 4)).astype(np.float32)
    moments = Moments(2, dimensions=4)
    moments.add(np.repeat(one, count, axis=0))
    gaussian = moments.gaussian()
    assert np.isfinite(gaussian.whitening).all()
    np.testing.assert_allclose(gaussian.mean, one[0], rtol=1e-6)
