from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from originality.vision.batches import batch_size_for, cosine_distances, in_batches, unit

vectors = arrays(np.float64, (4, 6), elements=st.floats(-10, 10).map(lambda x: round(x, 3)))


@given(vectors)
def test_distances_are_bounded_and_symmetric(rows: np.ndarray) -> None:
    units = unit(rows)
    table = np.stack([cosine_distances(a, list(units)) for a in units])
    assert table.shape == (4, 4) and table.dtype == np.float64
    assert (table >= 0).all() and (table <= 2).all()
    assert np.array_equal(table, table.T)
    for k, row in enumerate(rows):
        if np.abs(row).max() > 0:
            assert table[k, k] < 1e-12


def test_equals_torch() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 7))
    ours = cosine_distances(unit(rows)[0], list(unit(rows)))
    a, b = torch.tensor(rows[:1]), torch.tensor(rows)
    np.testing.assert_allclose(ours, 1 - torch.cosine_similarity(a, b).numpy(), atol=1e-12)


def test_an_overflow_gives_nan() -> None:
    bad = np.array([np.nan, 1.0])
    assert np.isnan(cosine_distances(np.array([1.0, 0.0]), [bad])).all()
    assert np.isnan(unit(np.array([[np.inf, 1.0]]))).any()


@pytest.mark.parametrize("n", [0, 1, 4, 5])
def test_every_pass_has_the_same_shape(n: int) -> None:
    seen = []

    def forward(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return batch.float().mean(dim=(1, 2))

    images = np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3)
    out = in_batches(images, 4, 3, torch.from_numpy, forward)
    assert set(seen) <= {4}
    np.testing.assert_allclose(out, images.mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8)]
)
def test_other_arrays_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, h, w, 3\)"):
        in_batches(images, 1, 3, torch.from_numpy, torch.clone)


def test_batch_follows_the_device() -> None:
    assert batch_size_for(torch.device("cpu")) == 1
    assert batch_size_for(torch.device("cuda")) > 1


def test_passes_shrink_when_memory_runs_out():
    shapes = []

    def forward(batch):
        shapes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch.float().mean(dim=(1, 2))

    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    out = in_batches(images, 8, 3, torch.from_numpy, forward)
    assert np.allclose(out, images.mean(axis=(1, 2)))
    assert shapes == [8, 4, 2, 2, 2]

    def never(_batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(images, 8, 3, torch.from_numpy, never)
