"""What all speed benchmarks share; imports neither TensorFlow nor PyTorch."""

BATCH = 128
IMAGE = (32, 32, 3)
CLASSES = 10
# Chosen of 1, 2, 4 and 8 on validation accuracy, with a seed that no table uses.
TEMPERATURE = 2.0
STUDENT_LOSS_WEIGHT = 0.1

# MobileNet's separable blocks: (channels, stride).
STEM = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1))

# Teacher's layer → student's layer: the ends of the stages of 16 x 16 and of 8 x 8 pixels.
HINTS = {"stage2_out": "block3_out", "stage3_out": "block5_out"}
HINT_CHANNELS = (128, 256)

# Widths at which the teacher costs so many times the student's multiply-adds.
TEACHER_WIDTHS = {1: 10, 10: 68, 50: 196}
