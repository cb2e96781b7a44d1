import pytest
from rich.console import Console

from tfkd.evaluation import markdown, table
from tfkd.evaluation.tables import parts

# Accuracies 93.1, 94.0, 95.5: mean 94.2, squared deviations 1.21 + 0.04 + 1.69 = 2.94,
# sample standard deviation (2.94 / 2) ** 0.5 = 1.212 (with n instead of n - 1: 0.99).
ROWS = {
    "teacher": {"accuracy": 0.98612, "parameters": 1712345, "seed": 7},
    "distilled": [
        {"accuracy": accuracy, "agreement": 0.9, "parameters": 12345}
        for accuracy in (0.931, 0.940, 0.955)
    ],
}


def printed(rows, width=80, **options):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table(rows, **options))
    return [line.strip() for line in capture.get().splitlines() if line.strip()]


def test_markdown_word_for_word():
    assert markdown(ROWS) == (
        "|                            |   teacher |    distilled |\n"
        "|----------------------------|----------:|-------------:|\n"
        "| accuracy (%)               |      98.6 |   94.2 ± 1.2 |\n"
        "| agreement with teacher (%) |         – |   90.0 ± 0.0 |\n"
        "| parameters                 | 1,712,345 | 12,345       |\n"
    )


def test_the_longer_side_goes_down():
    rows = {name: {"accuracy": 0.5, "cross_entropy": 1.25} for name in ("one", "two", "three")}
    assert markdown(rows) == (
        "| model | accuracy (%) | cross-entropy (nats) |\n"
        "|-------|-------------:|---------------------:|\n"
        "| one   |         50.0 |                1.250 |\n"
        "| two   |         50.0 |                1.250 |\n"
        "| three |         50.0 |                1.250 |\n"
    )


def test_terminal_shows_the_same_cells_in_line():
    lines = printed(ROWS, title="Digits")
    assert lines[0] == "Digits"
    for line, row in zip(lines[3:], markdown(ROWS).splitlines()[2:], strict=True):
        assert line.split() == row.replace("|", " ").split()
    assert len({line.index("±") for line in lines if "±" in line}) == 1


def test_three_models_with_every_figure_fit_in_80_columns():
    figures = {
        "accuracy": 1.0,
        "cross_entropy": 0.12345,
        "calibration_error": 0.012,
        "agreement": 1.0,
        "parameters": 1234567,
        "file_bytes": 4938272,
        "latency_ms": 12.345,
        "latency_p95_ms": 23.456,
    }
    vgg16 = figures | {"parameters": 138357544, "file_bytes": 553467096}
    rows = {"teacher": vgg16, "alone": [figures] * 3, "distilled": [figures] * 3}
    assert printed(rows, width=80) == printed(rows, width=200)
    text = "\n".join(printed(rows, width=80))
    assert "…" not in text
    for cell in (
        "138,357,544",
        "553,467.1",
        "1,234,567",
        "4,938.3",
        "100.0 ± 0.0",
        "0.123 ± 0.000",
        "12.35 ± 0.00",
    ):
        assert cell in text


def test_a_seed_without_a_figure_is_left_out_of_its_mean():
    assert markdown({"m": [{"accuracy": 0.25}, {"seed": 1}]}).endswith("| m     |         25.0 |\n")


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="expected rows with some of accuracy"):
        table({"teacher": {"seed": 1}})


def test_a_narrow_console_gets_every_figure_in_tables_below():
    lines = printed(ROWS, width=40, title="Digits")
    assert [line for line in lines if line in ("teacher", "distilled")] == ["teacher", "distilled"]
    assert all(len(line) <= 40 for line in lines)
    cells = [line.split()[-1] for line in lines if line.startswith("parameters")]
    assert cells == ["1,712,345", "12,345"] and lines.count("Digits") == 1


@pytest.mark.parametrize("width", range(34, 100, 3))
def test_no_figure_is_cut_at_any_width(width):
    rows = {f"a model {n}": {"accuracy": 0.9, "parameters": 123456, "gain": 0.1} for n in range(4)}
    for shown in (ROWS, rows):
        lines = printed(shown, width=width)
        assert all(len(line) <= width for line in lines) and "…" not in "".join(lines)


def test_parts_fit_beside_the_names():
    assert parts(10, [8, 8, 8], 43) == [[1, 2, 3]]  # 10 + 3 · (3 + 8)
    assert parts(10, [8, 8, 8], 42) == [[1, 2], [3]]
    assert parts(90, [8, 50, 8], 40) == [[1], [2], [3]]  # the names take half of it
