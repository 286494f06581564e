"""One SVG per growth curve, from the JSON of a run: `python benchmarks/plots.py REPORT.json DIRECTORY`. Needs matplotlib."""

import importlib.util
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

GROWTH = re.compile(r"(?P<count>\d+) (?P<what>guests|containers|subscribers): (?P<figure>.+)")

Curve = dict[int, dict[str, Any]]
"""How many → the figure."""


def curves(report: dict[str, Any]) -> dict[tuple[str, str], Curve]:
    """(what grows, figure) → its points."""
    found: dict[tuple[str, str], Curve] = defaultdict(dict)
    for table in report["tables"]:
        for figure in table["figures"]:
            if match := GROWTH.fullmatch(figure["name"]):
                found[match["what"], match["figure"]][int(match["count"])] = figure
    return dict(found)


def plot(what: str, name: str, curve: Curve, directory: Path) -> Path:
    """Median with p10 to p90, the baseline dashed; both axes logarithmic. Returns the file."""
    from matplotlib.figure import Figure

    counts = sorted(curve)
    points = [curve[count] for count in counts]
    drawing = Figure(figsize=(5, 3.2), layout="constrained")
    axes = drawing.add_subplot()
    axes.plot(counts, [point["median"] for point in points], marker="o", label="Corral")
    axes.fill_between(counts, [point["p10"] for point in points], [point["p90"] for point in points], alpha=0.2)
    if all(point["baseline_summary"] for point in points):
        axes.plot(counts, [point["baseline_summary"]["median"] for point in points], "--", marker="x", label=points[0]["baseline"])
        axes.legend(fontsize="small")
    axes.set(xscale="log", yscale="log", xlabel=what, ylabel=points[0]["unit"], title=name)
    axes.grid(visible=True, which="both", alpha=0.3)
    path = directory / (re.sub(r"[^a-z0-9]+", "-", f"{what} {name}".lower()).strip("-") + ".svg")
    drawing.savefig(path)
    return path


def main() -> int:
    """Exit status: 0 plotted, 1 without matplotlib, 2 usage."""
    if len(sys.argv) != 3:
        print("usage: plots.py REPORT.json DIRECTORY", file=sys.stderr)
        return 2
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: matplotlib is missing (pip install matplotlib)", file=sys.stderr)
        return 1
    report, directory = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for (what, name), curve in curves(report).items():
        if len(curve) > 1:
            print(plot(what, name, curve, directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
