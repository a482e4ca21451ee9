"""Which sequences of a record are the layers and directions of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..bptt.record import Record, SequenceRecord
from ..engine import Array
from ..errors import DrawError

__all__ = ["Layers", "above", "layers_of", "one_sample", "titles", "walk"]

Layers = list[list[SequenceRecord]]
"""From the bottom up; of each layer its directions."""


def layers_of(record: Record, names: Sequence[str] | None = None) -> Layers:
    """The layers of a network: those of these names, from the bottom up, or all.

    Raises:
        RecordError: There is no sequence, or none of such a name.
        DrawError: Without names: the sequences are no layers of one network. With names: they differ in length.
    """
    found = [record.sequence(name) for name in dict.fromkeys(names or ())] or list(record.sequences.values())
    layers: Layers = []
    for s in found or [record.sequence()]:
        other = layers[-1][0] if layers else s
        if other.reverse != s.reverse and len(layers[-1]) == 1 and _plain(s) == _plain(other):
            layers[-1].append(s)
        else:
            layers.append([s])
    listed = ", ".join(f"{s.name} (T={s.steps})" for s in found)
    if len({s.steps for s in found}) > 1:
        raise DrawError(
            f"One picture shows layers over the same time steps; found {listed}.\n  Give sequence=, one of these names."
        )
    if not names and len(found) > 1:
        scopes = {s.scope[:-1] if s.scope[-1:] == (walk(s),) else s.scope for s in found}
        if len(scopes) > 1 or [_plain(layer[0]) for layer in layers] != [f"l{k}" for k in range(len(layers))]:
            raise DrawError(
                f"The names of these sequences do not tell how they are stacked: {listed}.\n"
                "  Give sequence=, one of these names, or several as a list from the bottom up."
            )
    return layers


def above(record: Record, s: SequenceRecord) -> str | None:
    """What stands above a sequence's layer, as far as the names tell; None: nothing but the loss."""
    try:
        layers = layers_of(record)
    except DrawError:
        return None
    k = next(k for k, layer in enumerate(layers) if s.name in [x.name for x in layer])
    return walk(layers[k + 1][0]) if k + 1 < len(layers) else None


def walk(s: SequenceRecord) -> str:
    """What `unroll` was told to call it: `l0_reverse`, whatever stands around it in the record."""
    return s.name.partition(" #")[0].rpartition("/")[2]


def _plain(s: SequenceRecord) -> str:
    """The same for both directions."""
    return walk(s).removesuffix("_reverse")


def titles(sequences: Sequence[SequenceRecord]) -> dict[str, str]:
    """By their names in the record: what to call them, and the way they go."""
    unique = len({walk(s) for s in sequences}) == len(sequences)
    return {s.name: f"{walk(s) if unique else s.name} {'←' if s.reverse else '→'}" for s in sequences}


def one_sample(record: Record, layers: Layers, sample: int) -> tuple[Record, Layers]:
    """The record of one sample alone, as far as norms a sample tell, and its layers.

    Raises:
        DrawError: There is no such sample.
    """
    batch = len(layers[0][0].lengths)
    if not 0 <= sample < batch:
        raise DrawError(f"There is no sample {sample} in a batch of N={batch}.\n  Give a number from 0 to {batch - 1}.")

    def cut(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array[:, [sample]] for name, array in arrays.items()}

    def of(s: SequenceRecord) -> SequenceRecord:
        return dataclasses.replace(
            s, lengths=s.lengths[[sample]], states=cut(s.states), gates=cut(s.gates), gradients=cut(s.gradients),
            initial={name: array[[sample]] for name, array in s.initial.items()},
            initial_gradients={name: array[[sample]] for name, array in s.initial_gradients.items()},
            arrivals={state: cut(parts) for state, parts in s.arrivals.items()}, gate_norms=cut(s.gate_norms),
            inputs=s.inputs[:, [sample]],
            input_norms=None if s.input_norms is None else s.input_norms[:, [sample]],
        )  # fmt: skip

    losses = None if record.losses is None else np.full_like(record.losses, np.nan)  # they are the batch's
    return dataclasses.replace(record, losses=losses), [[of(s) for s in layer] for layer in layers]
