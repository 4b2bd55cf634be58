"""Nodal matrices against the outer product written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import NodalMatrices


def random_factors(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(*shape, generator=generator)
    return means, 0.7 * means + torch.randn(*shape, generator=generator)


def brute_force(means: torch.Tensor, weight: torch.Tensor, node: int) -> torch.Tensor:
    """F[i, j] = Σ_p μ_ip W_jp, element by element."""
    labels = len(means)
    mu, w = means[:, node].double().reshape(labels, -1), weight[:, node].double().reshape(labels, -1)
    rows = [
        [sum(mu[i, p].item() * w[j, p].item() for p in range(mu.shape[1])) for j in range(labels)]
        for i in range(labels)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (6, 4, 3)])
def test_matrices_are_the_outer_product_of_means_and_weights(shape: tuple[int, ...]) -> None:
    means, weight = random_factors(*shape)
    matrices = NodalMatrices(means, weight)
    maxima, diagonals = matrices.maxima(), matrices.diagonals(0.3)
    assert (matrices.labels, matrices.nodes, matrices.positions) == (6, 4, (*shape, 1)[2])
    for node in range(4):
        field = brute_force(means, weight, node)
        above = field > 0.3 * field.max()
        assert maxima[node] == field.max()
        torch.testing.assert_close(matrices.field(node), field / field.max(), rtol=1e-15, atol=0)
        assert torch.equal(matrices.clipped(node, 0.3), above)
        assert torch.equal(diagonals[node], above.diagonal())


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6),
    st.sampled_from([0.25, 0.5, 0.3]),
)
@settings(max_examples=100)
def test_a_degenerate_matrix_has_no_nan_and_a_strict_threshold(pairs: list, threshold: float) -> None:
    factors = torch.tensor(pairs, dtype=torch.float32)
    matrices = NodalMatrices(factors[:, :1], factors[:, 1:])
    field = brute_force(factors[:, :1], factors[:, 1:], 0)
    maximum = field.max()
    above = field > threshold * maximum if maximum > 0 else torch.zeros_like(field, dtype=torch.bool)
    assert matrices.maxima()[0] == maximum
    assert torch.equal(matrices.clipped(0, threshold), above)
    assert torch.equal(matrices.diagonals(threshold)[0], above.diagonal())
    assert torch.equal(matrices.field(0), field / maximum if maximum > 0 else field)


def test_an_element_at_the_threshold_is_not_above_it() -> None:
    factor = torch.tensor([[2.0], [1.0]])
    assert NodalMatrices(factor, factor).diagonals(0.25).tolist() == [[True, False]]
    assert NodalMatrices(factor, factor).diagonals(0.2499).tolist() == [[True, True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken_as_they_are(dtype: torch.dtype) -> None:
    means, weight = (factor.to(dtype).requires_grad_() for factor in random_factors(5, 3))
    assert torch.equal(NodalMatrices(means, weight).maxima()[1], brute_force(means, weight, 1).max())


def test_selected_nodes_keep_their_matrices() -> None:
    matrices = NodalMatrices(*random_factors(5, 4))
    assert torch.equal(matrices.select([3, 1]).field(0), matrices.field(3))


def test_many_blocks_of_nodes_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = NodalMatrices(*random_factors(7, 5))
    whole = matrices.diagonals(0.3), matrices.maxima(), matrices.cluster_index(0.3)
    monkeypatch.setattr("nodelens.measures.nodal._BLOCK_ELEMENTS", 14)
    parts = matrices.diagonals(0.3), matrices.maxima(), matrices.cluster_index(0.3)
    assert len(list(matrices.blocks())) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize(
    ("means", "weight", "culprit"),
    [
        (torch.ones(3, 2), torch.ones(2, 3), "weight"),
        (torch.tensor([[1.0], [float("nan")]]), torch.ones(2, 1), "class_means is NaN .* label 1, node 0"),
        (torch.ones(2, 1), torch.tensor([[1.0], [float("inf")]]), "weight is NaN or infinite"),
        (torch.ones(0, 2), torch.ones(0, 2), "empty"),
        (torch.ones(3), torch.ones(3), "class_means"),
        (torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 2), "floating-point"),
        (torch.full((2, 2), 1e200, dtype=torch.float64),) * 2 + ("overflows",),
    ],
)
def test_unusable_factors_are_refused(means: torch.Tensor, weight: torch.Tensor, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        NodalMatrices(means, weight)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.3, 30.0, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    matrices = NodalMatrices(*random_factors(3, 2))
    for measure in (
        matrices.diagonals,
        lambda at: matrices.clipped(0, at),
        lambda at: matrices.clusters(0, at),
    ):
        with pytest.raises(InputError, match="threshold"):
            measure(threshold)


@pytest.mark.parametrize("node", [-1, 2])
def test_a_node_that_does_not_exist_is_refused(node: int) -> None:
    matrices = NodalMatrices(*random_factors(3, 2))
    for measure in (
        matrices.field,
        lambda at: matrices.clipped(at, 0.3),
        lambda at: matrices.clusters(at, 0.3),
    ):
        with pytest.raises(InputError, match=f"node {node} does not exist"):
            measure(node)


def test_an_unknown_cluster_rule_is_refused() -> None:
    with pytest.raises(InputError, match="unknown cluster rule 'largest'; choose greedy or maximum"):
        NodalMatrices(*random_factors(3, 2)).clusters(0, 0.3, method="largest")
