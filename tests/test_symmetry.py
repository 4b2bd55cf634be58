"""Order parameters against their definitions, and the null against permutations carried out one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.metrics import mutual_info_score
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures import (
    head_appearances,
    head_information,
    head_participation,
    head_specialization,
    symmetry_breaking,
)
from nodelens.measures.resampling import p_value, permutations, resamples
from nodelens.measures.symmetry import shuffled_appearances

APPEARANCES = st.integers(1, 4).flatmap(
    lambda heads: st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=heads, max_size=heads)
)


def random_diagonals(seed: int, nodes: int = 48, labels: int = 20) -> Tensor:
    """Nodes that all come from the same population: some labels are frequent, and each node holds a run of them."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(nodes, labels + 2, generator=generator) < torch.linspace(0.05, 0.4, labels + 2)
    return base[:, 1:-1] | base[:, 2:]


@given(APPEARANCES)
@settings(max_examples=100)
def test_participation_label_by_label(appearances: list[list[int]]) -> None:
    heads = len(appearances)
    columns = [column for column in zip(*appearances, strict=True) if sum(column)]
    found = float(head_participation(torch.tensor(appearances)))
    if heads == 1 or not columns:
        assert math.isnan(found)
    else:
        shares = [(max(column) / sum(column) - 1 / heads) / (1 - 1 / heads) for column in columns]
        assert found == pytest.approx(sum(shares) / len(shares), abs=1e-12)
        assert 0 <= found <= 1 + 1e-12


@given(APPEARANCES)
@settings(max_examples=100)
def test_information_against_scikit_learn(appearances: list[list[int]]) -> None:
    found = float(head_information(torch.tensor(appearances)))
    if not sum(map(sum, appearances)):
        assert math.isnan(found)
    else:
        nats = mutual_info_score(None, None, contingency=np.array(appearances))
        assert found == pytest.approx(nats / math.log(2), abs=1e-9)
        assert 0 <= found <= math.log2(len(appearances)) + 1e-12


def test_the_ends_of_the_order_parameters() -> None:
    experts = 3 * torch.eye(4, dtype=torch.int64)
    assert head_participation(experts) == 1
    assert head_information(experts) == 2
    alike = torch.tensor([[1, 5, 2, 0]] * 3)
    assert head_participation(alike) == pytest.approx(0, abs=1e-15)
    assert head_information(alike) == 0
    assert head_information(torch.tensor([[3, 1, 2]])) == 0
    assert head_participation(torch.zeros(2, 0, dtype=torch.int64)).isnan()


def test_many_appearances_at_once() -> None:
    many = torch.randint(5, (6, 3, 4), generator=torch.Generator().manual_seed(0))
    many[2] = 0
    for of in (head_participation, head_information):
        torch.testing.assert_close(of(many), torch.stack([of(one) for one in many]), equal_nan=True)
        assert of(many).isnan().tolist() == [i == 2 for i in range(6)]


def test_the_null_against_permutations_carried_out_one_by_one() -> None:
    diagonals, ratios = random_diagonals(0), [1.0, 1.5, 2.0]
    found = symmetry_breaking(diagonals, heads=4, ratios=ratios, draws=40, seed=5)
    # A draw says where each node goes.
    orders = [to.argsort() for portion in permutations(48, 40, seed=5, width=4 + 20) for to in portion]

    def quantities(rows: Tensor) -> list[float]:
        owned = [float(head_specialization(rows, 4, ratio).labels_per_head.sum()) for ratio in ratios]
        appearances = head_appearances(rows, 4)
        return [*owned, float(head_participation(appearances)), float(head_information(appearances))]

    observed, null = np.array(quantities(diagonals)), np.array([quantities(diagonals[order]) for order in orders])
    parts = [*(found.owned[i] for i in range(3)), found.participation, found.information]
    for i, part in enumerate(parts):
        assert float(part.observed) == pytest.approx(observed[i])
        assert float(part.mean) == pytest.approx(null[:, i].mean())
        assert float(part.std) == pytest.approx(null[:, i].std(ddof=1))
        assert float(part.low) == pytest.approx(np.quantile(null[:, i], 0.025))
        assert float(part.high) == pytest.approx(np.quantile(null[:, i], 0.975))
        assert float(part.p_value) == pytest.approx((1 + (null[:, i] >= observed[i] - 1e-9).sum()) / 41)
    assert (found.ratios, found.draws) == ((1.0, 1.5, 2.0), 40)


def test_permuted_nodes_keep_their_diagonals_and_each_label_its_appearances() -> None:
    diagonals = random_diagonals(1)
    drawn = torch.cat(list(shuffled_appearances(diagonals, heads=4, draws=30, seed=0)))
    assert torch.equal(drawn.sum(dim=1), diagonals.sum(dim=0).expand(30, -1))
    # Every head has as many nodes as before, and the draws differ.
    assert int(drawn.max()) <= 12
    assert len(torch.unique(drawn, dim=0)) == 30


def test_p_values_are_uniform_where_the_head_does_not_matter() -> None:
    found = [symmetry_breaking(random_diagonals(seed), heads=4, draws=99, seed=seed) for seed in range(300)]
    for name in ("participation", "information"):
        p = [float(getattr(one, name).p_value) for one in found]
        # Uniform on 0.01, 0.02, … 1: half a step lower it is uniform on (0, 1) for the test's purpose.
        assert kstest([value - 0.005 for value in p], "uniform").pvalue > 0.05
    owned = torch.stack([one.owned.p_value for one in found])
    for alpha in (0.05, 0.2, 0.5):
        # A count has ties, which count against the observation: the test may be shy, never bold.
        assert ((owned <= alpha).double().mean(dim=0) <= alpha + 3 * (alpha * (1 - alpha) / 300) ** 0.5).all()


def test_planted_experts_stand_out_and_clusters_alone_do_not() -> None:
    generator = torch.Generator().manual_seed(3)
    expert_of = torch.arange(20) % 4
    owner = torch.arange(48) // 12
    clustered = torch.rand(48, 20, generator=generator) < torch.where(owner[:, None] == expert_of, 0.6, 0.05)
    found = symmetry_breaking(clustered, heads=4, draws=199)
    assert found.information.p_value == found.participation.p_value == 1 / 200
    assert found.owned.observed[20] > found.owned.high[20]
    # The same nodes, shared out among heads at random.
    mixed = symmetry_breaking(clustered[torch.randperm(48, generator=generator)], heads=4, draws=199)
    assert mixed.information.p_value > 0.05
    assert mixed.participation.p_value > 0.05


def test_one_head_has_no_symmetry_to_break() -> None:
    found = symmetry_breaking(random_diagonals(0), heads=1, ratios=[2.0], draws=9)
    assert found.participation.observed.isnan()
    assert found.participation.p_value.isnan()
    assert (found.information.observed, found.information.p_value) == (0, 1)
    assert found.owned.p_value.tolist() == [1.0]


def test_no_appearance_at_all() -> None:
    found = symmetry_breaking(torch.zeros(8, 5, dtype=torch.bool), heads=2, ratios=[1.0], draws=9)
    for part in (found.participation, found.information):
        assert part.observed.isnan()
        assert part.mean.isnan()
        assert part.p_value.isnan()
    assert (found.owned.observed.tolist(), found.owned.p_value.tolist()) == ([0.0], [1.0])


def test_a_single_draw_has_no_spread_and_the_same_seed_gives_the_same_null() -> None:
    diagonals = random_diagonals(2)
    one = symmetry_breaking(diagonals, heads=2, draws=1)
    assert one.information.std == 0
    again = [symmetry_breaking(diagonals, heads=2, draws=20, seed=3).owned.mean for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], symmetry_breaking(diagonals, heads=2, draws=20, seed=4).owned.mean)


def test_unusable_settings_are_refused() -> None:
    diagonals = random_diagonals(0)
    for settings_, sentence in [
        ({"heads": 5}, "5 heads cannot share 48 nodes equally"),
        ({"heads": 0}, "0 heads cannot share 48 nodes equally"),
        ({"heads": 2, "ratios": [0.9]}, r"ratio=0\.9 is out of range"),
        ({"heads": 2, "draws": 0}, "draws=0 is too few"),
    ]:
        with pytest.raises(InputError, match=sentence):
            symmetry_breaking(diagonals, **settings_)


def test_draws_in_portions_are_all_there() -> None:
    portions = list(permutations(10, 100, seed=0, width=2**22 // 300))
    assert [len(portion) for portion in portions] == [30, 30, 30, 10]
    assert all(sorted(order) == list(range(10)) for portion in portions for order in portion.tolist())
    drawn = torch.cat(list(resamples(10, 100, seed=0, width=2**22 // 300)))
    assert drawn.shape == (100, 10)
    assert set(drawn.flatten().tolist()) == set(range(10))


def test_a_p_value_counts_equal_draws_and_the_observation_itself() -> None:
    third = torch.tensor(1 / 3, dtype=torch.float64)
    null = torch.tensor([0.1, 1 / 3 - 1e-17, (0.1 + 0.2) / 0.9, 0.5], dtype=torch.float64)
    assert p_value(third, null) == 4 / 5
    assert p_value(torch.tensor(torch.nan, dtype=torch.float64), null).isnan()
