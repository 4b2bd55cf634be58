"""Site statistics against small matrices worked out by hand, full matrices and the paper's Tables 1 and 2."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import STATISTICS, NodalMatrices, signal_to_noise, site_statistics, sweep

METHODS = ["greedy", "maximum"]
TABLE_1 = {7: (2.9, 14.6, 417.2), 6: (1.8, 6.8, 299.5), 5: (2.0, 6.9, 318.5), 4: (2.2, 7.8, 346.9)} | {
    3: (2.5, 9.1, 411.9),
    2: (2.8, 9.5, 475.4),
    1: (2.8, 9.3, 517.5),
}
"""C_s, diag and n of each block; N_M = 256, N_l = 100."""
TABLE_2 = {7: (37.4, 0.73, 10.6, 3.28), 6: (17.6, 0.15, 7.6, 2.25), 5: (17.7, 0.18, 8.1, 2.12)} | {
    4: (20.1, 0.24, 8.8, 2.20),
    3: (23.3, 0.36, 10.5, 2.13),
    2: (24.5, 0.44, 12.1, 1.94),
    1: (23.8, 0.43, 13.2, 1.74),
}
"""signal, noise_I, noise_E and SNR of each block, truncated by the paper rather than rounded."""


def correlated(*shape: int, seed: int = 0) -> NodalMatrices:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(*shape, generator=generator)
    return NodalMatrices(means, 0.7 * means + torch.randn(*shape, generator=generator))


def by_full_matrices(matrices: NodalMatrices, threshold: float, method: str) -> dict:
    """Every statistic from (labels, labels) arrays and lists of clusters."""
    n, field = matrices.nodes, torch.zeros(matrices.labels, dtype=torch.float64)
    clusters = [matrices.clusters(node, threshold, method) for node in range(n)]
    noise = 0
    for node, own in enumerate(clusters):
        outside = matrices.clipped(node, threshold)
        for cluster in own:
            block = torch.tensor(cluster)
            field[block] += matrices.field(node)[block][:, block].sum(dim=0)
            outside[block[:, None], block] = False
        noise += int(outside.sum())
    sizes = [len(cluster) for own in clusters for cluster in own]
    return {
        "n_clusters": len(sizes) / n,
        "cluster_size": sum(sizes) / len(sizes) if sizes else 0.0,
        "diagonal": sum(sizes) / n,
        "noise": noise / n,
        "label_field": field,
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(15, 7), (15, 7, 2), (1, 3), (3, 1)])
def test_statistics_against_full_matrices(shape: tuple[int, ...], method: str) -> None:
    matrices = correlated(*shape)
    statistics = site_statistics(matrices, 0.2, method)
    expected = by_full_matrices(matrices, 0.2, method)
    torch.testing.assert_close(statistics.label_field, expected.pop("label_field"))
    assert {name: getattr(statistics, name) for name in expected} == expected
    assert torch.equal(statistics.appearances, matrices.diagonals(0.2).sum(dim=0))


@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 4).map(lambda row: [float(x) for x in row]), min_size=1, max_size=6),
    st.sampled_from([0.25, 0.3, 0.5]),
    st.sampled_from(METHODS),
)
@settings(max_examples=100)
def test_outer_products_and_formed_matrices_agree(rows: list, threshold: float, method: str) -> None:
    factors = torch.tensor(rows)
    means, weight = factors[:, :2], factors[:, 2:]
    zeros = torch.zeros_like(means)
    fast = site_statistics(NodalMatrices(means, weight), threshold, method)
    filters = NodalMatrices(torch.stack([means, zeros], -1), torch.stack([weight, zeros], -1))
    formed = site_statistics(filters, threshold, method)
    assert all(not math.isnan(value) for value in fast.scalars().values())
    assert torch.equal(fast.appearances, formed.appearances)
    if method == "greedy":  # of equally large clusters, either may be the maximum one
        assert fast.to_dict() == formed.to_dict()
        torch.testing.assert_close(fast.label_field, formed.label_field)


def test_two_nodes_worked_out_by_hand() -> None:
    # Node 0: labels 0 and 1 form one full block; label 2 is silent. Node 1: label 2 alone, with one element
    # of noise: input 0 drives output 2.
    means = torch.tensor([[1.0, 0.5], [1.0, 0.0], [0.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    statistics = site_statistics(NodalMatrices(means, weight))
    assert (statistics.nodes, statistics.labels, statistics.threshold) == (2, 3, 0.3)
    assert (statistics.n_clusters, statistics.cluster_size) == (1.0, 1.5)
    assert (statistics.diagonal, statistics.noise) == (1.5, 0.5)
    assert statistics.appearances.tolist() == [1, 1, 1]
    assert statistics.label_field.tolist() == [2.0, 2.0, 1.0]
    assert statistics.signal == 1.5 * 2 / 3
    assert statistics.noise_internal == pytest.approx(0.5 / 2 * 1.0)
    assert statistics.noise_external == pytest.approx(0.5 * 2 / 9)
    assert statistics.snr == pytest.approx(1 / (0.25 + 1 / 9))
    assert statistics.snr_min == pytest.approx(statistics.snr)
    assert statistics.snr_approximation == pytest.approx(1.5 * 1.0 * 3 / 0.5)


def test_minimal_snr_is_that_of_the_rarest_label() -> None:
    statistics = site_statistics(correlated(10, 200))
    rarest = int(statistics.appearances.min())
    internal = (statistics.cluster_size - 1) / 9 * rarest
    assert 0 < rarest < statistics.signal
    assert statistics.snr_min == pytest.approx(rarest / (internal + statistics.noise_external))


@pytest.mark.parametrize("block", TABLE_1)
def test_table_2_follows_from_table_1(block: int) -> None:
    ratio = signal_to_noise(*TABLE_1[block], nodes=256, labels=100)
    signal, internal, external, snr = TABLE_2[block]
    assert math.floor(ratio.noise_external * 10) / 10 == external
    # The other columns go back to a C_s and a diag of one digit: the next digit may be anything.
    assert ratio.signal == pytest.approx(signal, abs=0.1 * 256 / 100)
    assert ratio.noise_internal == pytest.approx(internal, abs=0.1 * signal / 99 + 0.01)
    assert ratio.snr == pytest.approx(snr, abs=0.03)
    assert math.floor(signal / (internal + ratio.noise_external) * 100) / 100 == pytest.approx(snr, abs=0.0101)


def test_without_noise_the_ratio_is_infinite_and_without_signal_zero() -> None:
    one_label = site_statistics(NodalMatrices(torch.ones(1, 1), torch.ones(1, 1)))
    assert (one_label.signal, one_label.noise_internal, one_label.snr) == (1.0, 0.0, math.inf)
    nothing = site_statistics(NodalMatrices(torch.zeros(2, 1), torch.zeros(2, 1)))
    assert set(nothing.scalars().values()) == {0.0}
    assert nothing.label_field.tolist() == [0.0, 0.0]


def test_statistics_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = correlated(20, 9)
    whole = site_statistics(matrices, 0.1)
    monkeypatch.setattr("nodelens.measures.nodal._BLOCK_ELEMENTS", 40)
    monkeypatch.setattr("nodelens.measures.rows._PIECE", 3)
    parts = site_statistics(matrices, 0.1)
    assert parts.to_dict() == whole.to_dict()
    assert torch.equal(parts.appearances, whole.appearances)


def test_a_sweep_measures_at_each_threshold() -> None:
    matrices = correlated(12, 5)
    swept = sweep(matrices, [0.2, 0.4], "maximum")
    assert [s.to_dict() for s in swept] == [site_statistics(matrices, at, "maximum").to_dict() for at in (0.2, 0.4)]
    assert swept[0].diagonal >= swept[1].diagonal


def test_statistics_show_themselves_as_a_table() -> None:
    html = site_statistics(correlated(5, 3))._repr_html_()
    assert html.count("<tr>") == len(STATISTICS)
    assert "5 labels" in html
    assert html.count("<img ") == 1


@pytest.mark.parametrize("bad", [{"threshold": 1.5}, {"method": "best"}])
def test_unusable_settings_are_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=r"threshold|unknown cluster rule 'best'"):
        site_statistics(correlated(4, 2), **bad)
