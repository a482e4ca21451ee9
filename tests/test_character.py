"""The character model: what it is made of, what it draws, what it refuses to be restored from."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.character import CELLS, CharacterModel
from minigrad.errors import CheckpointError, DataError, MinigradError, NonFiniteError

ABC = ("\n", "a", "b", "c")


def made(characters: Any = ABC, cell: str = "lstm", **options: Any) -> CharacterModel:
    return CharacterModel(characters, cell, rng=np.random.default_rng(0), **{"hidden": 5, "embedding": 3, **options})


def text_of(model: CharacterModel, length: int, prompt: str = "", **options: Any) -> str:
    return "".join(itertools.islice(model.sample(prompt, **options), length))


# What it computes


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding", [0, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_its_parameters_carry_the_cells_name(cell: str, embedding: int, layers: int) -> None:
    model = made(cell=cell, embedding=embedding, layers=layers)
    names = [name for name, _ in model.named_parameters()]
    assert names[0] == ("embedding.weight" if embedding else f"{cell}.weight_ih_l0")
    assert names[-2:] == ["output.weight", "output.bias"]
    assert f"{cell}.weight_hh_l{layers - 1}" in names
    assert model.layer.input_size == (embedding or 4)


def test_one_hot_vectors_pick_columns() -> None:
    """Without an embedding the first layer adds a column of weight_ih a character."""
    model = made(cell="rnn", embedding=0)
    scores, state = model(np.array([[2]]))
    w = {name: p.numpy() for name, p in model.named_parameters()}
    h = np.tanh(w["rnn.weight_ih_l0"][:, 2] + w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])
    np.testing.assert_allclose(state.numpy()[0, 0], h, rtol=1e-5)
    np.testing.assert_allclose(scores.numpy()[0, 0], w["output.weight"] @ h + w["output.bias"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_two_chunks_with_the_state_between_are_one(cell: str) -> None:
    model = made(cell=cell, layers=2)
    ids = np.array([[0, 1], [1, 2], [3, 3], [2, 0]])
    whole, last = model(ids)
    first, state = model(ids[:1])
    second, end = model(ids[1:], state)
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), rtol=1e-5, atol=1e-7)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (last, end)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_its_loss_is_the_cross_entropy(reduction: str) -> None:
    model = made()
    ids, targets = np.array([[0, 1], [1, 2], [3, 3]]), np.array([[1, 2], [3, 3], [2, 0]])
    loss, _ = model.loss(ids, targets, reduction=reduction)
    z = model(ids)[0].numpy().astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    each = -np.log(np.take_along_axis(p, targets[..., np.newaxis], -1))
    assert loss.item() == pytest.approx(each.mean() if reduction == "mean" else each.sum(), rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_loss_is_that_of_the_last_target(cell: str, layers: int) -> None:
    model = made(cell=cell, layers=layers)
    ids, target = np.array([[0, 1], [1, 2], [3, 3]]), np.array([2, 0])
    expected = nn.cross_entropy(model(ids)[0][-1], target)
    assert model.last_loss(ids, target).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_scale_sets_every_weight_and_no_bias() -> None:
    model = made(cell="rnn", hidden=50, embedding=0, scale=0.01)
    for name, p in model.named_parameters():
        if "bias" in name:
            assert not p.numpy().any()
        else:
            assert p.numpy().std() == pytest.approx(0.01, rel=0.25)
    weight = dict(model.named_parameters())["rnn.weight_hh_l0"].numpy()
    assert weight.std() == pytest.approx(0.01, rel=0.05)


def test_the_same_generator_gives_the_same_model() -> None:
    first, again = made(layers=2).state_dict(), made(layers=2).state_dict()
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(MinigradError, match=r"cell='elman'.\n  Choose one of rnn, lstm, gru"):
        made(cell="elman")


def test_characters_have_places() -> None:
    assert made().ids("cab\n").tolist() == [3, 1, 2, 0]
    assert made().ids("").shape == (0,)
    with pytest.raises(DataError, match="knows 4 characters, and 'é' is none of them"):
        made().ids("caé")


# What it draws


def test_the_same_seed_draws_the_same_text() -> None:
    draws = [text_of(made(), 60, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert set(draws[0]) <= set(ABC)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_first_character_follows_the_softmax(temperature: float) -> None:
    model, prompt = made(cell="rnn", hidden=8), "cab"
    for p in model.parameters():
        p.data = p.numpy() * 2  # far from uniform
    z = model(model.ids(prompt)[:, np.newaxis])[0].numpy()[-1, 0].astype(np.float64) / temperature
    expected = np.exp(z) / np.exp(z).sum()
    assert expected.max() - expected.min() > 0.01
    rng, draws = np.random.default_rng(7), 800
    drawn = [next(model.sample(prompt, temperature=temperature, rng=rng)) for _ in range(draws)]
    counts = np.array([drawn.count(c) for c in ABC])
    chi_square = ((counts - draws * expected) ** 2 / (draws * expected)).sum()
    assert chi_square < 16.27  # 3 degrees of freedom: beyond with probability 0.001


def test_each_draw_is_read_before_the_next() -> None:
    """Character after character, the model sees what it has written itself."""
    model = made(hidden=8)
    written = text_of(model, 12, "b", temperature=0)
    read = "b"
    for character in written:
        scores, _ = model(model.ids(read)[:, np.newaxis])
        assert character == ABC[int(scores.numpy()[-1, 0].argmax())]
        read += character


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-9])
def test_a_temperature_near_zero_takes_the_likeliest(temperature: float) -> None:
    model = made()
    assert text_of(model, 20, temperature=temperature) == text_of(model, 20, temperature=0)


def test_an_enormous_temperature_draws_evenly() -> None:
    drawn = text_of(made(cell="rnn"), 400, temperature=1e300, rng=np.random.default_rng(0))
    assert all(70 < drawn.count(c) < 130 for c in ABC)


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_an_impossible_temperature_is_refused_at_once(temperature: float) -> None:
    with pytest.raises(MinigradError, match="Give a finite number from 0"):
        made().sample(temperature=temperature)


def test_an_unknown_prompt_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="'X' is none"):
        made().sample("aXb")


def test_without_a_prompt_it_starts_after_a_line_end_or_its_first_character() -> None:
    assert text_of(made(), 9, temperature=0) == text_of(made(), 9, "\n", temperature=0)
    assert text_of(made("bca"), 9, temperature=0) == text_of(made("bca"), 9, "b", temperature=0)


def test_one_character_can_be_drawn_for_ever() -> None:
    assert text_of(made("a"), 5) == "aaaaa"


@pytest.mark.parametrize("training", [True, False])
def test_drawing_leaves_the_mode_and_the_masks_alone(training: bool) -> None:
    model = made(layers=2, dropout=0.9)
    model.train(training)
    before = model.layer.rng.bit_generator.state
    first, again = (text_of(model, 30, temperature=0) for _ in range(2))
    assert first == again  # dropout is off
    assert model.layer.training is training
    assert model.layer.rng.bit_generator.state == before


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_overflow_are_said_to(temperature: float) -> None:
    model = made()
    model.output.weight.data = np.full((4, 5), 3e38, np.float32)
    model.output.bias.data = np.full(4, 3e38, np.float32)
    for p in model.layer.parameters():
        p.data = np.abs(p.numpy()) * 1000
    with pytest.raises(NonFiniteError, match="the model's scores are not finite"):
        text_of(model, 3, temperature=temperature)


# Restored


def saved(**options: Any) -> dict[str, Any]:
    model = made(**options)
    return {"model": model.saved(), "training": {"weights": model.state_dict()}}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options", [{}, {"embedding": 0}, {"layers": 3, "dropout": 0.5}, {"hidden": 1, "embedding": 1}], ids=str
)
def test_a_restored_model_is_the_same(cell: str, options: dict[str, Any]) -> None:
    state = saved(cell=cell, **options)
    model = CharacterModel.restored(state)
    assert (model.characters, model.settings) == (ABC, state["model"]["settings"])
    assert text_of(model, 20, temperature=0) == text_of(made(cell=cell, **options), 20, temperature=0)


def changed(path: str, new: Any) -> dict[str, Any]:
    state = saved()
    *above, name = path.split("/")
    place: Any = state
    for key in above:
        place = place[key]
    place[name] = new
    return state


BAD: list[tuple[str, Any]] = [
    ("model", None), ("model", []), ("model", {}), ("training", None), ("training", {}), ("training/weights", None),
    ("training/weights", {}), ("training/weights", []), ("training/weights", {"a": 1}),
    ("training/weights/output.bias", None), ("training/weights/output.bias", np.zeros(5, np.float32)),
    ("training/weights/output.bias", np.zeros((4, 1), np.float32)), ("training/weights/output.bias", np.zeros(4)),
    ("training/weights/output.bias", np.zeros(4, np.complex64)), ("training/weights/output.bias", np.zeros(4, int)),
    ("training/weights/output.bias", np.array([0, 0, 0, np.nan], np.float32)),
    ("training/weights/output.bias", np.array([0, 0, 0, np.inf], np.float32)),
    ("training/weights/more", np.zeros(4, np.float32)),
    ("model/characters", ""), ("model/characters", "aabc"), ("model/characters", "abc"), ("model/characters", "abcde"),
    ("model/characters", ["\\n", "a", "b", "c"]), ("model/characters", 4), ("model/characters", None),
    ("model/characters", "abcd" * 10**6), ("model/settings", {}), ("model/settings", None), ("model/settings", "x"),
    ("model/settings/extra", 1), ("model/settings/rng", 1), ("model/settings/scale", "x"),
    *[("model/settings/hidden", x) for x in (10**9, -5, 0, 4, 6, 5.0, "5", None, True, [5], 10**300)],
    *[("model/settings/layers", x) for x in (10**9, -1, 0, 2, 1.0, "1", None, 10**300)],
    *[("model/settings/embedding", x) for x in (10**9, -3, 0, 2, "3", None, 3.0, 10**300)],
    *[("model/settings/dropout", x) for x in (-1, 1, 2.0, math.nan, 0.5, "0", None, [])],
    *[("model/settings/cell", x) for x in ("gru", "rnn", "", "LSTM", None, 1, [], {})],
]  # fmt: skip


@pytest.mark.parametrize(("path", "new"), BAD, ids=[f"{path}={new!r:.30}" for path, new in BAD])
def test_a_model_that_does_not_fit_together_is_refused(path: str, new: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        CharacterModel.restored(changed(path, new))
    message = str(caught.value)
    assert message.startswith("the model in this file does not fit together: ")
    assert message.endswith("\n  Give a file that minigrad train saved.")
    assert message.count("\n") == 1
