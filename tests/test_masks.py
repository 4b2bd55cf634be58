"""Masks against the definition, weight by weight."""

import pytest
import torch

from nodelens.errors import InputError
from nodelens.measures import andc_mask, dilution, output_mask


def random_diagonals(nodes: int, labels: int, seed: int) -> torch.Tensor:
    return torch.rand(nodes, labels, generator=torch.Generator().manual_seed(seed)) < 0.2


def test_a_weight_is_kept_iff_its_nodes_share_a_label() -> None:
    out, into = random_diagonals(9, 7, seed=0), random_diagonals(6, 7, seed=1)
    shared = [[any(out[o, k] and into[i, k] for k in range(7)) for i in range(6)] for o in range(9)]
    assert andc_mask(out, into).tolist() == shared


def test_many_shared_labels_do_not_wrap_around() -> None:
    everything = torch.ones(1, 512, dtype=torch.bool)
    assert andc_mask(everything, everything).tolist() == [[True]]


def test_an_output_keeps_the_nodes_that_hold_its_label() -> None:
    diagonals = random_diagonals(5, 4, seed=2)
    mask = output_mask(diagonals)
    assert all(mask[j, k] == diagonals[k, j] for j in range(4) for k in range(5))


def test_dilution_is_the_share_removed() -> None:
    assert dilution(torch.tensor([[True, False], [False, False]])) == 0.75
    assert dilution(torch.ones(3, 3, dtype=torch.bool)) == 0.0


def test_diagonals_of_other_labels_and_empty_masks_are_refused() -> None:
    with pytest.raises(InputError, match="7 labels but in_diagonals 8"):
        andc_mask(random_diagonals(2, 7, seed=0), random_diagonals(2, 8, seed=0))
    with pytest.raises(InputError, match="empty"):
        dilution(torch.ones(0, 3, dtype=torch.bool))
