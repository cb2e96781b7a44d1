"""The PyTorch side: the same networks and a loop in the manner of MDistiller's trainer.

Imports no TensorFlow: it runs in a process of its own, in turns with the Keras ways. Tensors are
channels-last, which on a CPU is the faster layout (MDistiller's default, contiguous, takes 1.5
times as long); images are gathered from memory by index, which costs less than the worker
processes of a `DataLoader` do.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.constants import (
    BATCH,
    BLOCKS,
    CLASSES,
    HINT_CHANNELS,
    STEM,
    STUDENT_LOSS_WEIGHT,
    TEACHER_WIDTHS,
    TEMPERATURE,
)

_loops = {}


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = _convolution(3, STEM)
        blocks, channels = [], STEM
        for wider, stride in BLOCKS:
            depthwise = _convolution(channels, channels, stride=stride, groups=channels)
            blocks.append(nn.Sequential(depthwise, _convolution(channels, wider, kernel=1)))
            channels = wider
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x, ends = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            ends.append(x)
        return self.head(x.mean((2, 3))), [ends[2], ends[4]]


class Teacher(nn.Module):
    def __init__(self, width):
        super().__init__()
        plan = [(width, width), (2 * width, HINT_CHANNELS[0]), (4 * width, HINT_CHANNELS[1])]
        stages, channels = [], 3
        for number, (inner, end) in enumerate(plan):
            pool = [nn.MaxPool2d(2)] if number else []
            stages.append(
                nn.Sequential(*pool, _convolution(channels, inner), _convolution(inner, end))
            )
            channels = end
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        ends = []
        for stage in self.stages:
            x = stage(x)
            ends.append(x)
        return self.head(x.mean((2, 3))), ends[1:]


def parameters(kind, times=None):
    """All numbers of a network, moving statistics included: what `count_params` counts in Keras."""
    model = Student() if kind == "student" else Teacher(TEACHER_WIDTHS[times])
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.ndim)]
    return sum(tensor.numel() for tensor in tensors)


def seconds_per_step(times, hints, steps):
    """Trains on and returns the mean seconds of a step, the first one left out.

    Args:
        times: cost of the teacher in students; None trains the student alone.
        hints: whether features are imitated besides the logits.
        steps: how many steps to run.
    """
    if (times, hints) not in _loops:
        _loops[times, hints] = Loop(times, hints)
    return _loops[times, hints].run(steps)


class Loop:
    def __init__(self, times, hints):
        torch.manual_seed(0)
        layout = {"memory_format": torch.channels_last}
        self.student = Student().to(**layout).train()
        self.teacher = None if times is None else Teacher(TEACHER_WIDTHS[times]).to(**layout).eval()
        self.hints = hints
        self.optimizer = torch.optim.Adam(self.student.parameters())
        draw = np.random.default_rng(0)
        self.images = torch.from_numpy(draw.integers(0, 256, (16 * BATCH, 3, 32, 32), np.uint8))
        self.images = self.images.contiguous(**layout)
        self.labels = torch.from_numpy(draw.integers(0, CLASSES, len(self.images)))

    def run(self, steps):
        ends = []
        for step in range(steps):
            if step % 16 == 0:
                order = torch.randperm(len(self.images))
            chosen = order[step % 16 * BATCH :][:BATCH]
            self.step(self.images[chosen], self.labels[chosen])
            ends.append(time.perf_counter())
        return (ends[-1] - ends[0]) / (steps - 1)

    def step(self, images, labels):
        images = images.float() / 127.5 - 1.0
        logits, features = self.student(images)
        loss = functional.cross_entropy(logits, labels)
        if self.teacher is not None:
            with torch.no_grad():
                taught, taught_features = self.teacher(images)
            divergence = functional.kl_div(
                functional.log_softmax(logits / TEMPERATURE, dim=1),
                functional.softmax(taught / TEMPERATURE, dim=1),
                reduction="batchmean",
            )
            loss = STUDENT_LOSS_WEIGHT * loss
            loss = loss + (1 - STUDENT_LOSS_WEIGHT) * TEMPERATURE**2 * divergence
            if self.hints:
                for of, into in zip(taught_features, features, strict=True):
                    loss = loss + (1 - STUDENT_LOSS_WEIGHT) * functional.mse_loss(into, of)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()  # as MDistiller logs it


def _convolution(channels, filters, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    )
