"""Which weights of a layer join nodes that share a label: ANDC pruning (paper, section 3)."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from nodelens.errors import InputError


def andc_mask(
    out_diagonals: Bool[Tensor, "node_out label"], in_diagonals: Bool[Tensor, "node_in _label"]
) -> Bool[Tensor, "node_out node_in"]:
    """Keep the weight between two nodes iff their diagonals share at least one label (Fig. 6).

    Raises:
        InputError: the two sites were measured with different numbers of labels.

    >>> import torch
    >>> andc_mask(torch.tensor([[True, False], [True, True]]), torch.tensor([[False, True]]))
    tensor([[False],
            [ True]])
    """
    if out_diagonals.shape[1] != in_diagonals.shape[1]:
        raise InputError(
            f"out_diagonals has {out_diagonals.shape[1]} labels but in_diagonals {in_diagonals.shape[1]}; "
            "measure both sites with the same labels."
        )
    # In float32 a sum of ones never returns to zero, as it would in uint8 at 256 shared labels.
    return out_diagonals.float() @ in_diagonals.float().T > 0


def output_mask(diagonals: Bool[Tensor, "node label"]) -> Bool[Tensor, "label node"]:
    """Keep the weight from a node to an output iff the node's diagonal holds the output's label.

    >>> import torch
    >>> output_mask(torch.tensor([[True, False]]))
    tensor([[ True],
            [False]])
    """
    return diagonals.T.contiguous()


def dilution(mask: Bool[Tensor, "*layer"]) -> float:
    """Share of the weights that a mask removes, 0 to 1 (Table 3).

    Raises:
        InputError: the mask is empty.

    >>> import torch
    >>> dilution(torch.tensor([True, False, False, False]))
    0.75
    """
    if mask.numel() == 0:
        raise InputError(f"a mask of shape {tuple(mask.shape)} is empty; it has no share of removed weights.")
    return 1 - int(mask.count_nonzero()) / mask.numel()
