from __future__ import annotations

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.errors import MinigradError
from minigrad.nn.init import INITIALISERS, generator, initialise

NAMES = ["uniform", "xavier_uniform", "normal", "orthogonal", "identity", "zeros"]


def make(name: str, rows: int, columns: int, blocks: int = 1, seed: int = 0) -> np.ndarray:
    return initialise(name, np.random.default_rng(seed), blocks=blocks, rows=rows, columns=columns)


def test_there_are_six_initialisers() -> None:
    assert list(INITIALISERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5), (5, 3), (1, 1), (1, 4), (4, 1)])
def test_blocks_stand_on_top_of_each_other(name: str, rows: int, columns: int) -> None:
    assert make(name, rows, columns, blocks=3).shape == (3 * rows, columns)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_matrix(name: str) -> None:
    np.testing.assert_array_equal(make(name, 3, 4), make(name, 3, 4))


@pytest.mark.parametrize("name", ["uniform", "xavier_uniform", "normal", "orthogonal"])
def test_every_seed_and_every_block_is_another_matrix(name: str) -> None:
    assert not np.array_equal(make(name, 3, 4), make(name, 3, 4, seed=1))
    first, second = np.split(make(name, 3, 4, blocks=2), 2)
    assert not np.array_equal(first, second)


def test_uniform_fills_one_over_the_root_of_the_rows() -> None:
    values = make("uniform", 100, 50)
    assert 0.0999 < np.abs(values).max() <= 0.1
    assert abs(values.std() - 0.1 / np.sqrt(3)) < 0.001


def test_xavier_uniform_fills_the_root_of_six_over_rows_plus_columns() -> None:
    values = make("xavier_uniform", 100, 50)
    assert 0.1999 < np.abs(values).max() <= 0.2  # sqrt(6 / 150)
    assert abs(values.std() - 0.2 / np.sqrt(3)) < 0.002


def test_normal_keeps_the_length_of_a_vector_on_average() -> None:
    values = make("normal", 400, 100)
    assert abs(values.std() - 0.1) < 0.002
    assert abs(values.mean()) < 0.002
    assert np.abs(values).max() > 0.3  # a tail, unlike the uniform ones
    x = np.random.default_rng(1).standard_normal((100, 200))
    assert ((values @ x) ** 2).mean() == pytest.approx((x**2).mean(), rel=0.05)


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1), (1, 1)])
def test_orthogonal_has_orthonormal_rows_or_columns(rows: int, columns: int) -> None:
    q = make("orthogonal", rows, columns)
    product = q.T @ q if rows >= columns else q @ q.T
    np.testing.assert_allclose(product, np.eye(min(rows, columns)), atol=1e-14)


def test_orthogonal_is_spread_evenly_over_all_such_matrices() -> None:
    # Of a QR factor with its own signs, the diagonal would lean to one side.
    rng = np.random.default_rng(0)
    diagonals = np.array([np.diag(initialise("orthogonal", rng, blocks=1, rows=3, columns=3)) for _ in range(1000)])
    assert np.abs(diagonals.mean(0)).max() < 0.08  # 4 standard errors of 1 / sqrt(3)


def test_identity_has_ones_on_the_diagonal_of_every_block() -> None:
    np.testing.assert_array_equal(make("identity", 2, 3, blocks=2), [[1, 0, 0], [0, 1, 0]] * 2)


def test_zeros_are_zeros() -> None:
    assert not make("zeros", 3, 4, blocks=2).any()


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_every_gate_of_a_cell_gets_an_orthogonal_block_of_its_own(cell: type, gates: int) -> None:
    weight = cell(3, 5, init="orthogonal", rng=np.random.default_rng(0), dtype=np.float64).weight_hh.numpy()
    for block in np.split(weight, gates):
        np.testing.assert_allclose(block.T @ block, np.eye(5), atol=1e-14)


def test_a_relu_cell_from_the_identity_keeps_a_positive_state() -> None:
    cell = nn.RNNCell(1, 3, bias=False, nonlinearity="relu", init="identity")
    h = Tensor([[0.5, 0.0, 2.0]])
    np.testing.assert_array_equal(cell.step(Tensor([[0.0]]), nn.RNNState(h)).h.numpy(), h.numpy())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(MinigradError, match=rf"There is no initialiser 'he'\.\n  Choose one of {', '.join(NAMES)}\."):
        make("he", 2, 2)


def test_a_generator_is_passed_on_and_none_makes_a_fresh_one() -> None:
    rng = np.random.default_rng(0)
    assert generator(rng) is rng
    assert generator(None).random() != generator(None).random()
