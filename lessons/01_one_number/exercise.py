"""Exercise 1: write the two lines that make an engine: the chain rule of a product, and the sum over uses."""

from __future__ import annotations

from minigrad.course import hole, practise


class Number:
    """A value and how it was made. `op` is "+", "*", or "" for a number that was given."""

    def __init__(self, value: float, op: str = "", parents: tuple[Number, ...] = ()) -> None:
        self.value, self.op, self.parents = value, op, parents

    def __add__(self, other: Number) -> Number:
        return Number(self.value + other.value, "+", (self, other))

    def __mul__(self, other: Number) -> Number:
        return Number(self.value * other.value, "*", (self, other))


def pull_back(node: Number, gradient: float) -> tuple[float, ...]:
    """What the node hands to each of its parents, if the loss moves by `gradient` when the node moves by 1."""
    if node.op == "+":
        return gradient, gradient
    a, b = node.parents
    part_a, part_b = hole("the parts of the gradient of a * b for a and for b, from gradient, a.value and b.value")
    return part_a, part_b


def backward(order: list[Number]) -> dict[Number, float]:
    """The gradient of order[0] with respect to every node; each node comes after all nodes that use it."""
    gradients = {order[0]: 1.0}
    for node in order:
        if node.parents:
            for parent, part in zip(node.parents, pull_back(node, gradients[node]), strict=True):
                gradients[parent] = hole("the sum of what parent has so far (gradients.get(parent, 0.0)) and part")
    return gradients


if __name__ == "__main__":
    practise(__file__)
