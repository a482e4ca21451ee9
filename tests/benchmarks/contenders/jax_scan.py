"""JAX on the CPU: the whole step compiled, the time loop a `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..problem import Problem, Result, optional

jax: Any = optional("jax")


def _scanned(problem: Problem, weights: Any, inputs: Any, nudges: Any) -> Any:
    """The outputs of all steps; a nudge, zero, is added to every h_t before anything uses it."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    zeros = jnp.zeros((problem.size.batch, problem.size.hidden), inputs.dtype)

    def rnn(state: Any, now: Any) -> Any:
        a, nudge = now
        h = jnp.tanh(a + state @ weight_hh.T + bias_hh) + nudge
        return h, h

    def lstm(state: Any, now: Any) -> Any:
        (h, c), (a, nudge) = state, now
        i, f, g, o = jnp.split(a + h @ weight_hh.T + bias_hh, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c) + nudge
        return (h, c), h

    def gru(state: Any, now: Any) -> Any:
        a, nudge = now
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (jnp.split(b, 3, axis=-1) for b in (a, state @ weight_hh.T + bias_hh))
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * state + nudge
        return h, h

    body, first = {"RNN": (rnn, zeros), "LSTM": (lstm, (zeros, zeros)), "GRU": (gru, zeros)}[problem.cell]
    return jax.lax.scan(body, first, (inputs @ weight_ih.T + bias_ih, nudges))[1]


def layer(problem: Problem) -> Callable[[], Result]:
    """The gradient of every weight."""
    inputs, weights = jax.numpy.asarray(problem.inputs), [jax.numpy.asarray(w) for w in problem.weights]

    def loss(weights: Any) -> Any:
        steps, batch, _, hidden = problem.size
        output = _scanned(problem, weights, inputs, jax.numpy.zeros((steps, batch, hidden), inputs.dtype))
        return (output * output).sum()

    compiled = jax.jit(jax.value_and_grad(loss))

    def step() -> Result:
        value, gradients = jax.block_until_ready(compiled(weights))
        return Result(float(value), gradients)

    return step


def with_norms(problem: Problem) -> Callable[[], Result]:
    """The same, and ‖dL/dh_t‖: what reaches a nudge is what reaches h_t."""
    inputs, weights = jax.numpy.asarray(problem.inputs), [jax.numpy.asarray(w) for w in problem.weights]
    steps, batch, _, hidden = problem.size
    nudges = jax.numpy.zeros((steps, batch, hidden), inputs.dtype)

    def loss(weights: Any, nudges: Any) -> Any:
        output = _scanned(problem, weights, inputs, nudges)
        return (output * output).sum()

    def differentiated(weights: Any, nudges: Any) -> Any:
        value, (gradients, arrived) = jax.value_and_grad(loss, (0, 1))(weights, nudges)
        return value, gradients, jax.numpy.linalg.norm(arrived, axis=-1)

    compiled = jax.jit(differentiated)

    def step() -> Result:
        value, gradients, norms = jax.block_until_ready(compiled(weights, nudges))
        return Result(float(value), gradients, norms)

    return step
