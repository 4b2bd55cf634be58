"""Measures: pure functions from class means and head weights to clusters, statistics, masks and experts."""

from nodelens.measures.agreement import Agreement, HeadAgreement, rank_agreement
from nodelens.measures.assigned import assigned_diagonals
from nodelens.measures.clusters import METHODS, Clustering, check_method
from nodelens.measures.differences import (
    AccuracyDifference,
    TwoBlockAccuracy,
    accuracy_difference,
    accuracy_in_two_blocks,
    own_head_p_value,
)
from nodelens.measures.heads import (
    RATIOS,
    HeadSpecialization,
    check_heads,
    check_ratio,
    head_appearances,
    head_specialization,
    ratio_sweep,
)
from nodelens.measures.masks import (
    andc_mask,
    dilution,
    field_mask,
    magnitude_mask,
    output_mask,
    random_mask,
    shared_fields,
    shared_label_probability,
    threshold_for,
    wanda_mask,
    with_removed,
)
from nodelens.measures.nodal import NodalMatrices, check_threshold
from nodelens.measures.nulls import Null, permutation_null, permutation_nulls
from nodelens.measures.sharing import SharedLabels, shared_labels
from nodelens.measures.statistics import (
    STATISTICS,
    SignalToNoise,
    SiteStatistics,
    signal_to_noise,
    site_statistics,
    sweep,
)
from nodelens.measures.superclasses import (
    OccupancyTest,
    expected_occupancy,
    head_occupancy,
    occupancy_test,
    superclass_occupancy,
)
from nodelens.measures.symmetry import (
    BesideChance,
    SymmetryBreaking,
    head_information,
    head_participation,
    symmetry_breaking,
)

__all__ = [
    "METHODS",
    "RATIOS",
    "STATISTICS",
    "AccuracyDifference",
    "Agreement",
    "BesideChance",
    "Clustering",
    "HeadAgreement",
    "HeadSpecialization",
    "NodalMatrices",
    "Null",
    "OccupancyTest",
    "SharedLabels",
    "SignalToNoise",
    "SiteStatistics",
    "SymmetryBreaking",
    "TwoBlockAccuracy",
    "accuracy_difference",
    "accuracy_in_two_blocks",
    "andc_mask",
    "assigned_diagonals",
    "check_heads",
    "check_method",
    "check_ratio",
    "check_threshold",
    "dilution",
    "expected_occupancy",
    "field_mask",
    "head_appearances",
    "head_information",
    "head_occupancy",
    "head_participation",
    "head_specialization",
    "magnitude_mask",
    "occupancy_test",
    "output_mask",
    "own_head_p_value",
    "permutation_null",
    "permutation_nulls",
    "random_mask",
    "rank_agreement",
    "ratio_sweep",
    "shared_fields",
    "shared_label_probability",
    "shared_labels",
    "signal_to_noise",
    "site_statistics",
    "superclass_occupancy",
    "sweep",
    "symmetry_breaking",
    "threshold_for",
    "wanda_mask",
    "with_removed",
]
