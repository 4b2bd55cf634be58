"""Which weights of a layer are kept: ANDC pruning (paper, section 3) and what it is compared with.

A mask is a boolean tensor of the weight's shape, True where the weight is kept.
"""

from __future__ import annotations

import math
import sys

import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped
from scipy.stats import hypergeom
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
    _check_labels(out_diagonals, in_diagonals)
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


def shared_fields(
    out_fields: Float64[Tensor, "node_out label"], in_fields: Float64[Tensor, "node_in _label"]
) -> Float64[Tensor, "node_out node_in"]:
    """The threshold at which ANDC removes each weight, where both sites have the same: `max_l min(out_l, in_l)`.

    Args:
        out_fields: `NodalMatrices.diagonal_fields` of the layer's output site.
        in_fields: the same of its input site.

    >>> import torch
    >>> shared_fields(torch.tensor([[0.9, 0.2]]).double(), torch.tensor([[0.5, 1.0]]).double())
    tensor([[0.5000]], dtype=torch.float64)
    """
    _check_labels(out_fields, in_fields)
    strongest = out_fields.new_zeros(len(out_fields), len(in_fields))
    for out, into in zip(out_fields.T, in_fields.T, strict=True):
        torch.maximum(strongest, torch.minimum(out[:, None], into[None, :]), out=strongest)
    return strongest


def threshold_for(dilution: float, fields: Float64[Tensor, "output input"]) -> float:
    """The smallest threshold (give or take a rounding) at which at least that share of the weights is removed.

    Args:
        dilution: wanted share, 0 to 1.
        fields: the threshold at which each weight is removed, from `shared_fields` (or `diagonal_fields`).

    Raises:
        InputError: no threshold between 0 and 1 removes that many, or any threshold removes more.

    >>> import torch
    >>> f"{threshold_for(0.5, torch.tensor([[0.2, 0.4, 0.6, 0.8]]).double()):.6f}"
    '0.400000'
    """
    least, most = (float((fields <= 0).double().mean()), float((fields < 1).double().mean()))
    if not least <= dilution <= most or dilution >= 1:
        raise InputError(
            f"a dilution of {dilution:g} cannot be reached: thresholds between 0 and 1 remove {least:.3f} to {most:.3f}"
        )
    wanted = max(1, math.ceil(dilution * fields.numel() - 1e-9))
    last = float(fields.flatten().kthvalue(wanted).values)
    # A few roundings above: a field is compared with threshold · maximum, and was divided by the maximum here.
    return min(max(last, 1e-9) * (1 + 4 * sys.float_info.epsilon), math.nextafter(1.0, 0.0))


def random_mask(
    weight: Shaped[Tensor, "output input"], removed: int, generator: torch.Generator
) -> Bool[Tensor, "output input"]:
    """Remove so many weights at random (the paper's baseline).

    >>> import torch
    >>> int(random_mask(torch.ones(2, 4), 3, torch.Generator().manual_seed(0)).sum())
    5
    """
    return _without_lowest(torch.rand(weight.shape, dtype=torch.float64, generator=generator), removed)


def magnitude_mask(weight: Float[Tensor, "output input"], removed: int) -> Bool[Tensor, "output input"]:
    """Remove so many weights of the smallest absolute value in the layer.

    >>> import torch
    >>> magnitude_mask(torch.tensor([[0.1, -2.0], [1.0, 0.3]]), 2)
    tensor([[False,  True],
            [ True, False]])
    """
    return _without_lowest(weight.detach().abs(), removed)


def wanda_mask(
    weight: Float[Tensor, "output input"], input_norms: Float[Tensor, " input"], removed: int
) -> Bool[Tensor, "output input"]:
    """Remove so many weights of the smallest `|w| · ‖x‖`, compared within each output (Sun et al. 2024).

    Every output loses the same number; what that leaves over is lost by the outputs whose next weight scores least.

    Args:
        input_norms: root of the summed squares of each input over tokens and images.

    >>> import torch
    >>> wanda_mask(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([4.0, 1.0]), 2)
    tensor([[ True, False],
            [ True, False]])
    """
    return _without_lowest_of_each(weight.detach().abs() * input_norms, removed)


def field_mask(fields: Float[Tensor, "label node"], removed: int) -> Bool[Tensor, "label node"]:
    """Remove so many weights to the labels of the smallest field, compared within each label as by `wanda_mask`.

    Args:
        fields: `own_fields`, what each node says for a label when that label is shown.

    >>> import torch
    >>> field_mask(torch.tensor([[4.0, 2.0], [-3.0, 4.0]]), 2)
    tensor([[ True, False],
            [False,  True]])
    """
    return _without_lowest_of_each(fields, removed)


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


def shared_label_probability(
    out_counts: Int[Tensor, " node_out"], in_counts: Int[Tensor, " node_in"], labels: int
) -> Float64[Tensor, "node_out node_in"]:
    """How probably two nodes share a label if every node's labels are drawn at random, as many as it has.

    Hypergeometric and exact: of L labels, nodes with a and b of them share none with probability
    `C(L - a, b) / C(L, b)`. What ANDC would remove by chance is one less the mean over all pairs of nodes.

    Args:
        out_counts: labels in the diagonal of each node of a layer's output site, 0 to `labels`; a one for each
            output of the layer to the labels.
        in_counts: the same of its input site.

    Raises:
        InputError: a site without nodes, or a node with more labels than there are.

    >>> import torch
    >>> shared_label_probability(torch.tensor([1]), torch.tensor([2, 0]), labels=4)
    tensor([[0.5000, 0.0000]], dtype=torch.float64)
    """
    for counts in (out_counts, in_counts):
        if not counts.numel() or not 0 <= int(counts.min()) <= int(counts.max()) <= labels:
            raise InputError(f"every site needs nodes, and every node 0 to {labels} labels")
    (out, of_out), (into, of_in) = (
        torch.unique(counts.cpu(), return_inverse=True) for counts in (out_counts, in_counts)
    )
    apart = hypergeom.pmf(0, labels, out.numpy()[:, None], into.numpy()[None, :])
    return 1 - torch.from_numpy(apart)[of_out[:, None], of_in[None, :]]


def with_removed(
    mask: Bool[Tensor, "output input"], removed: int, generator: torch.Generator
) -> Bool[Tensor, "output input"]:
    """A mask that removes so many weights: what this one lacks, or removes beyond, is drawn at random.

    >>> import torch
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> with_removed(mask, 1, torch.Generator().manual_seed(0)).equal(mask)
    True
    """
    drawn = torch.rand(mask.shape, dtype=torch.float64, generator=generator)
    return _without_lowest(mask.double() + drawn, removed)


def _without_lowest(scores: Float[Tensor, "output input"], removed: int) -> Bool[Tensor, "output input"]:
    mask = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().argsort(stable=True)[: _checked(removed, scores.numel())]] = False
    return mask.reshape(scores.shape)


def _without_lowest_of_each(scores: Float[Tensor, "output input"], removed: int) -> Bool[Tensor, "output input"]:
    each, left = divmod(_checked(removed, scores.numel()), len(scores))
    rank = scores.argsort(dim=1, stable=True).argsort(dim=1)
    mask = rank >= each
    if left:
        following = torch.where(rank == each, scores, torch.inf)
        outputs = following.amin(dim=1).argsort(stable=True)[:left]
        mask[outputs, following.argmin(dim=1)[outputs]] = False
    return mask


def _checked(removed: int, weights: int) -> int:
    if not 0 <= removed <= weights:
        raise InputError(f"{removed} of {weights} weights cannot be removed")
    return removed


def _check_labels(out: Tensor, into: Tensor) -> None:
    if out.shape[1] != into.shape[1]:
        raise InputError(
            f"the output site has {out.shape[1]} labels but the input site {into.shape[1]}; "
            "measure both sites with the same labels."
        )
