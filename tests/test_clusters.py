"""Both cluster rules against their definitions: a literal greedy pass, and exhaustive search."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.measures import NodalMatrices, clusters
from nodelens.measures.filters import largest_clique, maximum_cliques

Above = list[list[bool]]
METHODS = ["greedy", "maximum"]


def greedy_by_the_book(above: Above) -> list[list[int]]:
    """Open a cluster with the first label left; go once through the others; add what keeps the block full."""
    left = [i for i in range(len(above)) if above[i][i]]
    clusters = []
    while left:
        cluster = [left[0]]
        for label in left[1:]:
            if all(above[label][other] and above[other][label] for other in cluster):
                cluster.append(label)
        left = [label for label in left if label not in cluster]
        clusters.append(cluster)
    return clusters


def largest_possible(above: Above, left: set[int]) -> int:
    """Size of the largest full block among some labels, by trying every subset."""
    for size in range(len(left), 0, -1):
        for subset in combinations(sorted(left), size):
            if all(above[i][j] for i in subset for j in subset):
                return size
    return 0


def check_maximum(above: Above, clusters: list[list[int]]) -> None:
    """Each cluster is a full block, ascending, and as large as any among the labels left before it."""
    left = {i for i in range(len(above)) if above[i][i]}
    for cluster in clusters:
        assert cluster == sorted(cluster)
        assert set(cluster) <= left
        assert all(above[i][j] for i in cluster for j in cluster)
        assert len(cluster) == largest_possible(above, left)
        left -= set(cluster)
    assert not left


def random_matrices(*shape: int, seed: int, correlation: float = 0.7) -> NodalMatrices:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(*shape, generator=generator)
    return NodalMatrices(means, correlation * means + torch.randn(*shape, generator=generator))


def many_clusters() -> NodalMatrices:
    """Diagonals just above threshold, means traded against weights: hardly any two labels join."""
    ordinary = random_matrices(150, 8, seed=2)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(3))
    mean = torch.linspace(0, 1.2, 150).neg().exp()[order]
    weight = 0.302 / mean
    weight[mean == 1] = 1
    return NodalMatrices(
        torch.cat([mean[:, None], -mean[:, None], ordinary.class_means], dim=1),
        torch.cat([weight[:, None], -weight[:, None], ordinary.weight], dim=1),
    )


def as_filters(matrices: NodalMatrices) -> NodalMatrices:
    """The same matrices, through the path that forms them: a second position that adds nothing."""
    zeros = torch.zeros_like(matrices.class_means)
    return NodalMatrices(
        torch.stack([matrices.class_means, zeros], dim=-1), torch.stack([matrices.weight, zeros], dim=-1)
    )


@pytest.mark.parametrize("shape", [(12, 8), (12, 8, 3)])
@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_both_rules_against_their_definitions(shape: tuple[int, ...], threshold: float) -> None:
    matrices = random_matrices(*shape, seed=1)
    for node in range(matrices.nodes):
        above = matrices.clipped(node, threshold).tolist()
        assert matrices.clusters(node, threshold) == greedy_by_the_book(above)
        check_maximum(above, matrices.clusters(node, threshold, "maximum"))


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=7),
    st.sampled_from([0.125, 0.25, 0.3, 0.5]),
)
@settings(max_examples=150)
def test_zeros_ties_duplicates_and_one_label(pairs: list[tuple[int, int]], threshold: float) -> None:
    factors = torch.tensor(pairs, dtype=torch.float32)
    matrices = NodalMatrices(factors[:, :1], factors[:, 1:])
    filters = as_filters(matrices)
    above = matrices.clipped(0, threshold).tolist()
    assert matrices.clusters(0, threshold) == filters.clusters(0, threshold) == greedy_by_the_book(above)
    check_maximum(above, matrices.clusters(0, threshold, "maximum"))
    check_maximum(above, filters.clusters(0, threshold, "maximum"))


def test_a_largest_cluster_may_have_a_thousand_labels() -> None:
    labels = 1100
    apart = (1 << labels) - 2  # all but the first, which comes before them and stands alone
    assert largest_clique([1] + [apart] * (labels - 1), (1 << labels) - 1) == list(range(1, labels))
    # Alike, but for a path along which no two meet: the search goes as deep as there are labels.
    rest = [apart & ~((1 << max(0, i - 1)) | (1 << (i + 1))) for i in range(1, 60)]
    graph = nx.complement(nx.path_graph(range(1, 60)))
    largest = largest_clique([1, *rest], (1 << 60) - 1)
    assert largest == list(range(1, 60, 2))
    assert graph.subgraph(largest).number_of_edges() == len(largest) * (len(largest) - 1) // 2


@pytest.mark.parametrize("method", METHODS)
def test_nodes_side_by_side_are_clustered_as_each_alone(method: str) -> None:
    matrices = many_clusters()
    index = matrices.cluster_index(0.3, method)
    assert index.max() > 32  # more clusters than are looked at first
    for node in range(matrices.nodes):
        clusters = matrices.clusters(node, 0.3, method)
        by_index = [(index[node] == c).nonzero()[:, 0].tolist() for c in range(len(clusters))]
        assert by_index == clusters
        if method == "greedy":
            assert clusters == greedy_by_the_book(matrices.clipped(node, 0.3).tolist())
    assert torch.equal(index >= 0, matrices.diagonals(0.3))


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.125, 0.3, 0.5]),
)
@settings(max_examples=150)
def test_one_by_one_the_largest_clusters_are_those_of_all_nodes_side_by_side(
    pairs: list[tuple[int, int]], threshold: float
) -> None:
    factors = torch.tensor(pairs, dtype=torch.float32)
    matrices = NodalMatrices(factors.flip(0), factors.roll(1, 1))
    found = []
    for peels in (0, 1, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clusters, "_PEELS", peels)
            found.append(matrices.cluster_index(threshold, "maximum"))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])


def test_maximum_does_not_depend_on_how_labels_are_numbered() -> None:
    matrices = random_matrices(60, 6, seed=3)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(4))
    renumbered = NodalMatrices(matrices.class_means[order], matrices.weight[order])
    for node in range(6):
        clusters = [set(c) for c in matrices.clusters(node, 0.1, "maximum")]
        assert clusters == [{int(order[i]) for i in c} for c in renumbered.clusters(node, 0.1, "maximum")]


def test_labels_of_opposite_signs_never_share_a_cluster() -> None:
    factor = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    matrices = NodalMatrices(factor, factor)
    assert matrices.clusters(0, 0.3) == [[0, 2], [1, 3]]
    assert matrices.clusters(0, 0.3, "maximum") == [[0, 2], [1, 3]]  # equally large: the positive one first


@pytest.mark.parametrize("method", METHODS)
def test_the_compact_form_counts_what_the_clusters_hold(method: str) -> None:
    matrices = random_matrices(20, 5, seed=5)
    (clustering,) = matrices.clusterings(0.2, method)
    clusters = [matrices.clusters(node, 0.2, method) for node in range(5)]
    assert clustering.n_clusters.tolist() == [len(c) for c in clusters]
    assert clustering.diagonal.tolist() == [sum(map(len, c)) for c in clusters]
    assert clustering.block_elements.tolist() == [sum(len(s) ** 2 for s in c) for c in clusters]
    assert clustering.sizes.tolist() == [len(s) for c in clusters for s in c]
    assert clustering.members() == [s for c in clusters for s in c]
    assert torch.equal(clustering.appearances, matrices.diagonals(0.2).sum(dim=0))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_largest_cluster_of_a_filter_is_the_first_of_the_largest(share: float) -> None:
    generator = np.random.default_rng(int(10 * share))
    for labels in (1, 5, 9, 24):
        above = generator.random((labels, labels)) < share
        np.fill_diagonal(above, True)
        graph = nx.Graph()
        graph.add_nodes_from(range(labels))
        graph.add_edges_from((i, j) for i, j in np.argwhere(above & above.T).tolist() if i != j)
        cliques = [sorted(clique) for clique in nx.find_cliques(graph)]
        largest = max(map(len, cliques))
        assert maximum_cliques(above)[0] == min(clique for clique in cliques if len(clique) == largest)


@pytest.mark.parametrize("method", METHODS)
def test_a_node_without_a_positive_element_has_no_cluster(method: str) -> None:
    for matrices in (random_matrices(4, 1, seed=0), as_filters(random_matrices(4, 1, seed=0))):
        none = NodalMatrices(matrices.class_means.abs(), -matrices.weight.abs())
        assert none.clusters(0, 0.3, method) == []
        assert (none.cluster_index(0.3, method) == -1).all()
