"""Measures: pure functions from class means and head weights to clusters, statistics, masks and experts."""

from nodelens.measures.assigned import assigned_diagonals
from nodelens.measures.clusters import METHODS, Clustering, check_method
from nodelens.measures.heads import (
    HeadSpecialization,
    expected_occupancy,
    head_specialization,
    superclass_occupancy,
)
from nodelens.measures.masks import (
    andc_mask,
    dilution,
    magnitude_mask,
    output_mask,
    random_mask,
    shared_fields,
    threshold_for,
    wanda_mask,
)
from nodelens.measures.nodal import NodalMatrices, check_threshold
from nodelens.measures.nulls import Null, permutation_null
from nodelens.measures.statistics import (
    STATISTICS,
    SignalToNoise,
    SiteStatistics,
    signal_to_noise,
    site_statistics,
    sweep,
)

__all__ = [
    "METHODS",
    "STATISTICS",
    "Clustering",
    "HeadSpecialization",
    "NodalMatrices",
    "Null",
    "SignalToNoise",
    "SiteStatistics",
    "andc_mask",
    "assigned_diagonals",
    "check_method",
    "check_threshold",
    "dilution",
    "expected_occupancy",
    "head_specialization",
    "magnitude_mask",
    "output_mask",
    "permutation_null",
    "random_mask",
    "shared_fields",
    "signal_to_noise",
    "site_statistics",
    "superclass_occupancy",
    "sweep",
    "threshold_for",
    "wanda_mask",
]
