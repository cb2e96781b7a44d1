"""What distillation does unless told otherwise, in one place for Python, command line and search.

Chosen by `python -m benchmarks defaults` on the validation splits of many settings; what they were
chosen over, and by how much, is in `benchmarks/README.md`.
"""

STUDENT_LOSS_WEIGHT = 0.3  # of the labels; distillation has the rest of 1
# Of `tfkd.losses.AnnealedDistillation`: entropy of the targets as a share of a uniform guess's.
SOFTNESS, FINAL_SOFTNESS = 0.8, 0.05
STUDENT_TEMPERATURE = 1.3
# Of the row that has no teacher (Szegedy et al. 2016, arXiv:1512.00567).
LABEL_SMOOTHING = 0.1
