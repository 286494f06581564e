"""A figure: samples, what they are compared with, and how that is said. Nothing is measured here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class MissingError(Exception):
    """A row cannot run here; the text says what is missing."""


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample below which this share of the others lies (nearest rank, from 0.0 to 1.0). Raises ValueError for no samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(samples: Sequence[float]) -> float:
    """The middle, or the mean of the two in the middle. Raises ValueError for no samples."""
    if not samples:
        raise ValueError("no samples")
    ordered, half = sorted(samples), len(samples) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of a table."""

    name: str
    unit: str
    samples: list[float]
    baseline: str = ""
    """What `baseline_samples` were taken of, in the same run, in turns with `samples`."""
    baseline_samples: list[float] = field(default_factory=list)
    target: str = ""
    """What is to be reached, in words."""
    ratio_max: float | None = None
    ratio_min: float | None = None
    value_max: float | None = None
    value_min: float | None = None
    p99_max: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the baseline's median."""
        return median(self.samples) / median(self.baseline_samples) if self.baseline_samples else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        limits = [(self.ratio_max, self.ratio, 1), (self.ratio_min, self.ratio, -1), (self.value_max, median(self.samples), 1)]
        limits += [(self.value_min, median(self.samples), -1), (self.p99_max, quantile(self.samples, 0.99), 1)]
        judged = [sign * value <= sign * limit for limit, value, sign in limits if limit is not None and value is not None]
        return all(judged) if judged else None

    def as_json(self) -> dict[str, Any]:
        """Everything, samples included."""
        return {
            "name": self.name,
            "unit": self.unit,
            **_summary(self.samples),
            "baseline": self.baseline,
            "baseline_summary": _summary(self.baseline_samples) if self.baseline_samples else None,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "note": self.note,
            "samples": self.samples,
            "baseline_samples": self.baseline_samples,
        }


def _summary(samples: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(samples),
        "median": median(samples),
        "p10": quantile(samples, 0.1),
        "p90": quantile(samples, 0.9),
        "p99": quantile(samples, 0.99),
        "min": min(samples),
        "max": max(samples),
    }
