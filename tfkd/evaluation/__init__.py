"""What a trained model is worth and what it costs: its figures, their table, the curves."""

from tfkd.evaluation.costs import cost, latencies
from tfkd.evaluation.curves import plot_curves
from tfkd.evaluation.prediction import predict
from tfkd.evaluation.scores import quality
from tfkd.evaluation.tables import markdown, table

__all__ = ["cost", "latencies", "markdown", "plot_curves", "predict", "quality", "table"]
