"""What a trained model is worth and what it costs: its figures, their table, the curves."""

from tfkd.evaluation.calibration import fitted_temperature
from tfkd.evaluation.costs import cost, latencies
from tfkd.evaluation.curves import plot_curves
from tfkd.evaluation.early_exit import (
    early_exit_curve,
    exit_accuracies,
    exit_costs,
    exit_probabilities,
    plot_early_exit,
)
from tfkd.evaluation.gains import plot_gains
from tfkd.evaluation.multiply_adds import multiply_adds
from tfkd.evaluation.own_model import Report, report
from tfkd.evaluation.prediction import predict, prediction
from tfkd.evaluation.scores import quality
from tfkd.evaluation.tables import MEASURES, markdown, table

__all__ = [
    "MEASURES",
    "Report",
    "cost",
    "early_exit_curve",
    "exit_accuracies",
    "exit_costs",
    "exit_probabilities",
    "fitted_temperature",
    "latencies",
    "markdown",
    "multiply_adds",
    "plot_curves",
    "plot_early_exit",
    "plot_gains",
    "predict",
    "prediction",
    "quality",
    "report",
    "table",
]
