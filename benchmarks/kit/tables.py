"""How figures are printed."""

from kit.bench import rounded
from kit.figures import Figure, median, quantile
from kit.machine import Weather

WIDTHS = (9, 44, 14, 10, 18, 10, 8, 11, 5)


def heading(topic: str, sky: Weather) -> str:
    """A table's head: what it is about, the weather, the columns."""
    columns = _line(["row", "figure", "unit", "median", "p10 … p90", "baseline", "ratio", "to reach", "met"])
    return f"== {topic} ==  ({sky.line()})\n{columns}\n{'-' * len(columns)}"


def figure_lines(row: str, figure: Figure) -> str:
    """One figure, and below it what there is to say about it."""
    spread = f"{rounded(quantile(figure.samples, 0.1))} … {rounded(quantile(figure.samples, 0.9))}"
    baseline = rounded(median(figure.baseline_samples)) if figure.baseline_samples else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    first = _line([row, figure.name, figure.unit, rounded(median(figure.samples)), spread, baseline, ratio, figure.target, met])
    about = [f"baseline: {figure.baseline}"] if figure.baseline else []
    if figure.p99_max is not None:
        about.append(f"p99 {rounded(quantile(figure.samples, 0.99))}")
    about += [figure.note] if figure.note else []
    return first + (f"\n{'':{WIDTHS[0] + 1}}  {'; '.join(about)}" if about else "")


def _line(cells: list[str]) -> str:
    aligned = [
        f"{cell:<{width}}" if index < 3 or index > 6 else f"{cell:>{width}}"
        for index, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    return " ".join(aligned).rstrip()
