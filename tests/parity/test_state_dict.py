"""Weights cross to PyTorch and back, with the lines that the README gives for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import nn, optim
from minigrad.errors import MinigradError, ShapeError

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
torch.set_num_threads(1)


class Ours(nn.Module):
    def __init__(self, hidden: int = 6) -> None:
        rng = np.random.default_rng(0)
        self.embedding = nn.Embedding(11, 5, rng=rng)
        self.lstm = nn.LSTM(5, hidden, num_layers=2, bidirectional=True, rng=rng)
        self.output = nn.Linear(2 * hidden, 11, rng=rng)

    def forward(self, ids: Any) -> Any:
        return self.output(self.lstm(self.embedding(ids))[0])


class Theirs(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 5)
        self.lstm = torch.nn.LSTM(5, 6, num_layers=2, bidirectional=True)
        self.output = torch.nn.Linear(12, 11)

    def forward(self, ids: Any) -> Any:
        return self.output(self.lstm(self.embedding(ids))[0])


IDS = np.random.default_rng(1).integers(0, 11, (8, 3))


def trained_there() -> Any:
    """PyTorch's model after three updates."""
    model = Theirs()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(torch.tensor(IDS[:-1])).reshape(-1, 11)
        torch.nn.functional.cross_entropy(logits, torch.tensor(IDS[1:].ravel())).backward()
        optimizer.step()
    return model


def trained_here() -> Ours:
    model = Ours()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        model.zero_grad()
        nn.cross_entropy(model(IDS[:-1]), IDS[1:]).backward()
        optimizer.step()
    return model


def assert_same_bits(ours: Ours, theirs: Any) -> None:
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, p in theirs.state_dict().items():
        mine = ours.state_dict()[name]
        assert mine.dtype == p.numpy().dtype == np.float32
        assert mine.tobytes() == p.numpy().tobytes(), name


@pytest.mark.parametrize(
    "crossing",
    [
        lambda theirs: theirs.state_dict(),
        lambda theirs: {name: p.detach().numpy() for name, p in theirs.state_dict().items()},  # the README's
        lambda theirs: {name: p.detach().numpy() for name, p in theirs.named_parameters()},
    ],
)
def test_weights_trained_in_pytorch_load_here_bit_for_bit(crossing: Any) -> None:
    ours, theirs = Ours(), trained_there()
    ours.load_state_dict(crossing(theirs))
    assert_same_bits(ours, theirs)
    np.testing.assert_allclose(ours(IDS).numpy(), theirs(torch.tensor(IDS)).detach().numpy(), rtol=0, atol=1e-5)


def test_weights_trained_here_load_in_pytorch_bit_for_bit() -> None:
    ours, theirs = trained_here(), Theirs()
    theirs.load_state_dict({name: torch.from_numpy(p) for name, p in ours.state_dict().items()})
    assert_same_bits(ours, theirs)
    np.testing.assert_allclose(ours(IDS).numpy(), theirs(torch.tensor(IDS)).detach().numpy(), rtol=0, atol=1e-5)


def test_there_and_back_again_is_the_same_bits() -> None:
    ours, theirs, back = trained_here(), Theirs(), Ours()
    theirs.load_state_dict({name: torch.from_numpy(p) for name, p in ours.state_dict().items()})
    back.load_state_dict(theirs.state_dict())
    for name, p in ours.state_dict().items():
        assert back.state_dict()[name].tobytes() == p.tobytes()


def test_what_was_loaded_is_a_copy_on_both_sides() -> None:
    ours, theirs = Ours(), trained_there()
    ours.load_state_dict(theirs.state_dict())
    before = ours.state_dict()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(1.0)
    for name, p in ours.state_dict().items():
        np.testing.assert_array_equal(p, before[name])
    theirs.load_state_dict({name: torch.from_numpy(p) for name, p in before.items()})
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(1.0)
    for name, p in ours.state_dict().items():
        np.testing.assert_array_equal(p, before[name])


def test_training_goes_on_here_with_what_pytorch_left() -> None:
    ours, theirs = Ours(), trained_there()
    ours.load_state_dict(theirs.state_dict())
    nn.cross_entropy(ours(IDS[:-1]), IDS[1:]).backward()
    logits = theirs(torch.tensor(IDS[:-1])).reshape(-1, 11)
    theirs.zero_grad()
    torch.nn.functional.cross_entropy(logits, torch.tensor(IDS[1:].ravel())).backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=0, atol=1e-6)


def assert_untouched(ours: Ours, state: Any, error: Any, words: str) -> None:
    """The state is refused in these words, and no weight has changed."""
    before = ours.state_dict()
    with pytest.raises(error, match=words):
        ours.load_state_dict(state)
    for name, p in ours.state_dict().items():
        np.testing.assert_array_equal(p, before[name])


def test_a_tensor_that_requires_a_gradient_is_refused() -> None:
    state = dict(trained_there().named_parameters())
    assert_untouched(Ours(), state, (RuntimeError, MinigradError), r"requires grad.*detach\(\)")


def test_a_name_that_is_not_here_is_refused() -> None:
    state = trained_there().state_dict()
    state["lstm.weight_ih_l2"] = state.pop("lstm.weight_ih_l1")
    words = r"missing \['lstm\.weight_ih_l1'\], unknown \['lstm\.weight_ih_l2'\](.|\n)*exactly these names"
    assert_untouched(Ours(), state, ShapeError, words)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    words = r"lstm\.weight_ih_l0 has shape \(24, 5\), the module's is \(28, 5\)"
    assert_untouched(Ours(hidden=7), trained_there().state_dict(), ShapeError, words)
