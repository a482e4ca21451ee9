"""The kernels against PyTorch: random sizes, biases, lengths and directions, both types."""

import numpy as np
import pytest

from tests.kernels.cases import KERNELS, Case, run

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

THEIRS = {"rnn tanh": "RNN", "rnn relu": "RNN", "lstm": "LSTM", "gru reset after": "GRU"}
TOLERANCE = {np.float32: 2e-4, np.float64: 1e-11}


def random_run(kind, dtype, rng):
    """A random case, its lengths (N,) or None, and its direction."""
    steps, batch, features, hidden = (int(rng.integers(1, k)) for k in (12, 7, 6, 9))
    lengths = rng.integers(1, steps + 1, batch) if rng.random() < 0.7 else None
    bias, reverse, seed = bool(rng.integers(2)), bool(rng.integers(2)), int(rng.integers(1 << 30))
    return Case.make(kind, steps, batch, features, hidden, bias, dtype, seed, scale=0.7), lengths, reverse


def in_torch(case, lengths, reverse):
    """Outputs, last states, and the gradients of x, first states and weights; the backward half of two directions."""
    (steps, _, features), hidden = case.x.shape, case.g.shape[-1]
    options = {"nonlinearity": case.kind.split()[1]} if "rnn" in case.kind else {}
    options |= {"bias": case.weights[2] is not None, "dtype": getattr(torch, case.x.dtype.name)}
    layer = getattr(torch.nn, THEIRS[case.kind])(features, hidden, bidirectional=reverse, **options)
    parameters = list(layer.parameters())[-sum(w is not None for w in case.weights) :]
    with torch.no_grad():
        for parameter, value in zip(parameters, [w for w in case.weights if w is not None]):
            parameter.copy_(torch.tensor(value))
    x, *first = (torch.tensor(a, requires_grad=True) for a in (case.x, *case.first))
    states = tuple(torch.stack([torch.zeros_like(s)] * reverse + [s]) for s in first)
    packed = x
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, last = layer(packed, states if len(states) == 2 else states[0])
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=steps)
    output, last = output[..., -hidden:], [s[-1] for s in (last if len(states) == 2 else [last])]
    loss = (output * torch.tensor(case.g)).sum() + sum((s * torch.tensor(g)).sum() for s, g in zip(last, case.g_last))
    loss.backward()
    return [a.detach().numpy() for a in (output, *last)], [a.grad.numpy() for a in (x, *first, *parameters)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("seed", range(60))
def test_kernel_is_pytorchs_layer(kind, dtype, seed):
    case, lengths, reverse = random_run(kind, dtype, np.random.default_rng(seed))
    values, gradients = in_torch(case, lengths, reverse)
    found = run(case, lengths, reverse)
    mine = [found.output, *found.last, *(g for g in found.gradients if g is not None)]
    for a, b in zip(mine, [*values, *gradients], strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_every_kernel_that_pytorch_has_is_compared():
    assert set(KERNELS) - set(THEIRS) == {"gru reset before"}
