"""What a trained model is worth and what it costs: its figures, their table, the curves.

Names load on first use: scores and tables import no TensorFlow.
"""

from typing import TYPE_CHECKING

from tfkd import _lazy

if TYPE_CHECKING:
    from tfkd.evaluation.calibration import fitted_temperature
    from tfkd.evaluation.costs import cost, latencies
    from tfkd.evaluation.curves import plot_curves
    from tfkd.evaluation.detections import mean_average_precision, suppressed
    from tfkd.evaluation.early_exit import (
        early_exit_curve,
        exit_accuracies,
        exit_costs,
        exit_probabilities,
        plot_early_exit,
    )
    from tfkd.evaluation.gains import plot_gains
    from tfkd.evaluation.operations import multiply_adds
    from tfkd.evaluation.own_model import Report, report
    from tfkd.evaluation.predictions import predict, prediction
    from tfkd.evaluation.retrieval import retrieval_average_precision
    from tfkd.evaluation.scores import quality, reliability
    from tfkd.evaluation.tables import MEASURES, markdown, table

_HOMES = {
    "MEASURES": "tfkd.evaluation.tables",
    "Report": "tfkd.evaluation.own_model",
    "cost": "tfkd.evaluation.costs",
    "early_exit_curve": "tfkd.evaluation.early_exit",
    "exit_accuracies": "tfkd.evaluation.early_exit",
    "exit_costs": "tfkd.evaluation.early_exit",
    "exit_probabilities": "tfkd.evaluation.early_exit",
    "fitted_temperature": "tfkd.evaluation.calibration",
    "latencies": "tfkd.evaluation.costs",
    "markdown": "tfkd.evaluation.tables",
    "mean_average_precision": "tfkd.evaluation.detections",
    "multiply_adds": "tfkd.evaluation.operations",
    "plot_curves": "tfkd.evaluation.curves",
    "plot_early_exit": "tfkd.evaluation.early_exit",
    "plot_gains": "tfkd.evaluation.gains",
    "predict": "tfkd.evaluation.predictions",
    "prediction": "tfkd.evaluation.predictions",
    "quality": "tfkd.evaluation.scores",
    "reliability": "tfkd.evaluation.scores",
    "report": "tfkd.evaluation.own_model",
    "suppressed": "tfkd.evaluation.detections",
    "retrieval_average_precision": "tfkd.evaluation.retrieval",
    "table": "tfkd.evaluation.tables",
}

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
    "mean_average_precision",
    "multiply_adds",
    "plot_curves",
    "plot_early_exit",
    "plot_gains",
    "predict",
    "prediction",
    "quality",
    "reliability",
    "report",
    "suppressed",
    "retrieval_average_precision",
    "table",
]
__getattr__, __dir__ = _lazy.attributes(__name__, _HOMES)
