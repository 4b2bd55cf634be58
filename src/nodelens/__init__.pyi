"""The public names; `nodelens/__init__.py` loads each when it is first used."""

from .data.examples import Examples
from .errors import InputError
from .heads.accuracies import HeadAccuracies, SilencedHeads, head_accuracies, head_sites, silenced_heads
from .measures import (
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
    own_head_p_value,
    permutation_null,
    rank_agreement,
    ratio_sweep,
    site_statistics,
    superclass_occupancy,
    sweep,
    symmetry_breaking,
)
from .networks import Site, adapt, build_network, export_network, load_network, sites
from .probing import Measurement, ProbeSettings, SiteMeasurement, measure, probe_recipe
from .pruning.compact import compact
from .pruning.prune import Pruned, prune

__version__: str

__all__ = [
    "Examples",
    "HeadAccuracies",
    "HeadSpecialization",
    "InputError",
    "Measurement",
    "NodalMatrices",
    "Null",
    "ProbeSettings",
    "Pruned",
    "SilencedHeads",
    "Site",
    "SiteMeasurement",
    "SiteStatistics",
    "SymmetryBreaking",
    "accuracy_difference",
    "adapt",
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
    "own_head_p_value",
    "permutation_null",
    "probe_recipe",
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
