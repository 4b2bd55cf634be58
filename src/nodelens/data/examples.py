"""Inputs of any kind, which a network is given as they are: tokens of texts, spectra, rows of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int, Int64, Shaped
from torch import Tensor

from nodelens.data.datasets import ImageSet, own_batches
from nodelens.data.sources import hashed
from nodelens.errors import InputError
from nodelens.files import bytes_of


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their labels; what measuring asks of an `ImageSet`.

    Attributes:
        inputs: what the network is given, one per row.
        labels: of each of them.
        label_names: one per label.
        split: what they are called, such as `test`.
        name: of the data set.
        superclass_names: empty when there are none.
        superclass_of_label: an index into `superclass_names` per label; empty when there are none.

    Raises:
        InputError: no inputs, not as many labels, labels that are no integers, or a label that has no name.

    >>> words = Examples(torch.tensor([[4, 7, 0], [5, 0, 0]]), torch.tensor([1, 0]), ("greeting", "question"))
    >>> len(words), words.take(torch.tensor([1]), "short").labels
    (2, tensor([0]))
    """

    inputs: Shaped[Tensor, "_example ..."]
    labels: Int64[Tensor, " example"]
    label_names: Sequence[str]
    split: str = "test"
    name: str = "examples"
    superclass_names: Sequence[str] = ()
    superclass_of_label: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("inputs", "labels"):
            if not isinstance(getattr(self, name), Tensor):
                kind = type(getattr(self, name)).__name__
                raise InputError(f"{name} are a tensor of torch, not a {kind}; give torch.as_tensor({name})")
        if not len(self.labels) or len(self.inputs) != len(self.labels):
            counts = f"{len(self.inputs)} inputs and {len(self.labels)} labels"
            raise InputError(f"the {self.split} examples are {counts}; give one for each")
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise InputError(f"labels are a row of int64, not {self.labels.dtype} of {tuple(self.labels.shape)}")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.label_names):
            raise InputError(f"labels are numbers from 0 to {len(self.label_names) - 1}, as many as there are names")

    def __len__(self) -> int:
        """Number of inputs."""
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the axis of the batch."""
        return tuple(self.inputs.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; a hash of all of them."""
        parts = (self.inputs, self.labels)
        content = [hashlib.blake2b(bytes_of(part)).hexdigest() for part in parts]
        return hashed([str(self.inputs.dtype), *self.inputs.shape, *content])

    def batch(self, positions: Int[np.ndarray, "batch"] | Int[Tensor, "batch"]) -> Shaped[Tensor, "batch ..."]:
        """The inputs at these positions."""
        return self.inputs[torch.as_tensor(positions, device=self.inputs.device)]

    def own_batches(
        self, size: int, title: str = ""
    ) -> Iterator[tuple[slice, Shaped[Tensor, "batch ..."], Int64[Tensor, "batch"]]]:
        """Where they stand, inputs and labels of the batches that this process reads, as those of an `ImageSet`."""
        return own_batches(self, size, title)

    def to(self, device: torch.device) -> Examples:
        """The same, on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))

    def take(self, positions: Int[np.ndarray, "batch"] | Int[Tensor, "batch"], split_name: str) -> Examples:
        """The examples at these positions, in their order."""
        wanted = torch.as_tensor(positions)
        return replace(self, inputs=self.inputs[wanted], labels=self.labels[wanted], split=split_name)


Samples = ImageSet | Examples
"""What can be learnt and measured: images, or inputs of any other kind."""


def label_counts(images: Samples) -> Int[Tensor, " label"]:
    """Images per label.

    Raises:
        InputError: a label never occurs: nothing can be learnt of it, and its mean would be undefined.
    """
    counts = torch.bincount(images.labels, minlength=len(images.label_names))
    absent = [images.label_names[i] for i in torch.nonzero(counts == 0).flatten().tolist()]
    if absent:
        named = ", ".join(map(repr, absent[:5])) + (", …" if len(absent) > 5 else "")
        occur = "1 label never occurs" if len(absent) == 1 else f"{len(absent)} labels never occur"
        raise InputError(f"{occur} in {images.name} {images.split} ({named}); give a split that has every label")
    return counts
