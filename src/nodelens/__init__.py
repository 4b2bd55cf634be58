"""See what every node of a trained network has learned to recognise.

>>> import torch
>>> import nodelens as nl
>>> m = nl.NodalMatrices(class_means=torch.eye(3, 2), weight=torch.eye(3, 2))
>>> m.clusters(node=0, threshold=0.3)
[[0]]
>>> nl.site_statistics(m, threshold=0.3).diagonal
1.0
"""

from nodelens.errors import InputError
from nodelens.measures import (
    HeadSpecialization,
    NodalMatrices,
    Null,
    SiteStatistics,
    SymmetryBreaking,
    accuracy_difference,
    andc_mask,
    assigned_diagonals,
    dilution,
    expected_occupancy,
    head_occupancy,
    head_specialization,
    occupancy_test,
    output_mask,
    permutation_null,
    rank_agreement,
    ratio_sweep,
    site_statistics,
    superclass_occupancy,
    sweep,
    symmetry_breaking,
)
from nodelens.networks import Site, build_network, export_network, load_network, sites
from nodelens.probing import (
    HeadAccuracies,
    Measurement,
    SilencedHeads,
    SiteMeasurement,
    head_accuracies,
    head_sites,
    measure,
    silenced_heads,
)
from nodelens.pruning.compact import compact
from nodelens.pruning.prune import Pruned, prune

__all__ = [
    "HeadAccuracies",
    "HeadSpecialization",
    "InputError",
    "Measurement",
    "NodalMatrices",
    "Null",
    "Pruned",
    "SilencedHeads",
    "Site",
    "SiteMeasurement",
    "SiteStatistics",
    "SymmetryBreaking",
    "accuracy_difference",
    "andc_mask",
    "assigned_diagonals",
    "build_network",
    "compact",
    "dilution",
    "expected_occupancy",
    "export_network",
    "head_accuracies",
    "head_occupancy",
    "head_sites",
    "head_specialization",
    "load_network",
    "measure",
    "occupancy_test",
    "output_mask",
    "permutation_null",
    "prune",
    "rank_agreement",
    "ratio_sweep",
    "silenced_heads",
    "site_statistics",
    "sites",
    "superclass_occupancy",
    "sweep",
    "symmetry_breaking",
]
