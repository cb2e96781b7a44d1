"""What teacher and student answered: classes, confusions, and how far confidence can be trusted."""

from functools import cached_property

from tfkd.runs.page import charts
from tfkd.runs.page.kept import MATRIX_CLASSES
from tfkd.runs.page.tables import Table

CLASSES = 40  # lines of a table of classes
CONFUSED = 20  # lines of a table of pairs


class Knowledge:
    """What was kept of the answers of a run's teacher and student.

    Args:
        record: `Record`.
        kept: `tfkd.runs.page.kept.Kept`.
    """

    def __init__(self, record, kept):
        self.row, self.kept = record.row(), kept
        self.names = record.data[self.row.data].label_names

    @property
    def models(self):
        """(title, `Answers`) of the models whose answers were kept."""
        kept = self.kept
        found = [(self.row.taught_by or "teacher", kept.teacher), (self.row.name, kept.student)]
        return found + [(self.row.baseline, kept.alone)] * (kept.alone is not None)

    @property
    def classes(self):
        """(lines of the classes, the largest losses first; how many were left out)."""
        kept, lines = self.kept, []
        for n, images in enumerate(kept.images):
            if not images:
                continue
            taught, own = (answers.right[n] / images for answers in (kept.teacher, kept.student))
            alone = kept.alone.right[n] / images if kept.alone is not None else None
            lines.append((own - taught, n, images, taught, own, alone))
        lines.sort(key=lambda line: line[:2])
        return lines[:CLASSES], max(0, len(lines) - CLASSES)

    @cached_property
    def matrices(self):
        """(title, lines of (count, share of the class) by class and answer) for teacher and
        student; none where there are too many classes."""
        size, found = len(self.names), []
        if size > MATRIX_CLASSES:
            return []
        for title, answers in self.models[:2]:
            counts = [[0] * size for _ in range(size)]
            for n, right in enumerate(answers.right):
                counts[n][n] = right
            for label, answer, count in answers.wrong:
                counts[label][answer] = count
            lines = [
                [(count, count / max(1, self.kept.images[n])) for count in line]
                for n, line in enumerate(counts)
            ]
            found.append((title, lines))
        return found

    @property
    def confused(self):
        """Tables of the most confused pairs of classes, of teacher and student."""
        return [
            Table(
                f"The classes that the {title} confuses most",
                ["class", "answer", "count", "of the class"],
                [
                    [
                        *(self.names[label], self.names[answer], f"{count:,}"),
                        f"{self.kept.images[label]:,}",
                    ]
                    for label, answer, count in answers.wrong[:CONFUSED]
                ],
            )
            for title, answers in self.models[:2]
        ]

    @property
    def reliability(self):
        """The diagrams of teacher, student, and student at its temperature."""
        kept = self.kept
        models = [
            ("teacher", 0, kept.teacher.bins),
            (self.row.name, 2, kept.student.bins),
            (f"{self.row.name}, calibrated", 3, kept.student.calibrated),
        ]
        return charts.reliability("Share of right answers over the confidence they have", models)

    @property
    def calibration(self):
        lines = [
            [
                title,
                f"{100 * answers.bins.error:.1f}",
                f"{answers.temperature:.2f}",
                f"{100 * answers.calibrated.error:.1f}",
            ]
            for title, answers in self.models
        ]
        headings = ["model", "calibration error (%)", "temperature", "calibrated (%)"]
        return Table(f"Calibration of seed {self.kept.seed} on the test split", headings, lines)
