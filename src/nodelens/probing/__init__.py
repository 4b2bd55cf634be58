"""Probes at every site of a frozen network, and what they measure."""

from nodelens.probing.data import ProbingData, load_probing_data
from nodelens.probing.measure import Measurement, SiteMeasurement, measure_probes
from nodelens.probing.probes import Probe, Probes
from nodelens.probing.store import MEASURED, MEASURED_UNTRAINED, load_measurements, load_probes, measured_splits
from nodelens.probing.study import (
    MeasureSettings,
    measure,
    measure_network,
    measurements_of,
    recorded_probe,
)
from nodelens.probing.train import ProbeSettings, learnt_flip, probe_epochs, probe_recipe, train_probes

__all__ = [
    "MEASURED",
    "MEASURED_UNTRAINED",
    "MeasureSettings",
    "Measurement",
    "Probe",
    "ProbeSettings",
    "Probes",
    "ProbingData",
    "SiteMeasurement",
    "learnt_flip",
    "load_measurements",
    "load_probes",
    "load_probing_data",
    "measure",
    "measure_network",
    "measure_probes",
    "measured_splits",
    "measurements_of",
    "probe_epochs",
    "probe_recipe",
    "recorded_probe",
    "train_probes",
]
