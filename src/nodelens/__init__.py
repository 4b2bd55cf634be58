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
    andc_mask,
    assigned_diagonals,
    dilution,
    expected_occupancy,
    head_specialization,
    output_mask,
    permutation_null,
    site_statistics,
    superclass_occupancy,
    sweep,
)
from nodelens.networks import Site, build_network, export_network, load_network, sites
from nodelens.probing import Measurement, SiteMeasurement, measure
from nodelens.pruning.prune import Pruned, prune

__all__ = [
    "HeadSpecialization",
    "InputError",
    "Measurement",
    "NodalMatrices",
    "Null",
    "Pruned",
    "Site",
    "SiteMeasurement",
    "SiteStatistics",
    "andc_mask",
    "assigned_diagonals",
    "build_network",
    "dilution",
    "expected_occupancy",
    "export_network",
    "head_specialization",
    "load_network",
    "measure",
    "output_mask",
    "permutation_null",
    "prune",
    "site_statistics",
    "sites",
    "superclass_occupancy",
    "sweep",
]
