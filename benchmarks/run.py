"""Measures Corral beside its baselines and prints tables; `python benchmarks/run.py --quick|--full [ROW…]`."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from corral import keep_large_blocks
from kit.bare_runc import become_subreaper
from kit.bench import Bench, Row, make_bench
from kit.figures import Figure, MissingError
from kit.machine import about, weather
from kit.scratch import temporary_directory
from kit.tables import figure_lines, heading
from rows import TOPICS

REPORTS = Path(__file__).parent.parent / "build"
ROW_S_MAX = 420.0
"""A row that takes longer has got stuck."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 measured (or named what is missing), 1 a row failed, 2 usage."""
    options = _options(arguments)
    become_subreaper()
    keep_large_blocks()  # as `corral logs` does, and any program that reads so much
    with temporary_directory() as directory:
        try:
            bench = make_bench(options.full, Path(directory))
        except MissingError as why:
            print(f"nothing can be measured: missing {why}", file=sys.stderr)
            return 1
        report, failed = asyncio.run(_measure(bench, options.rows, options.seconds_max))
    path = options.json or REPORTS / f"bench-{report['mode']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nJSON: {path}")
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    known = [name for rows in TOPICS.values() for name in rows]
    parser = argparse.ArgumentParser(description="Measures Corral beside bare runc, raw pipes and raw ZeroMQ, in the same run.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes: all rows in about 5 minutes (default)")
    how.add_argument("--full", action="store_true", help="everything, as in last-run.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where everything, samples included, is written [build/bench-MODE.json]")
    parser.add_argument("--seconds-max", type=float, default=0.0, help="begin no further row after so long; they are named (0: no limit)")
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"rows or topics; all when none is given. Topics: {', '.join(TOPICS)}. Rows: {', '.join(known)}",
    )
    options = parser.parse_args(arguments)
    if bad := [name for name in options.rows if name not in known and name not in TOPICS]:
        parser.error(f"no row or topic {bad[0]!r}; there are: {', '.join([*TOPICS, *known])}")
    return options


async def _measure(bench: Bench, wanted: list[str], seconds_max: float) -> tuple[dict[str, Any], bool]:
    begun = time.monotonic()
    report: dict[str, Any] = {"mode": "full" if bench.full else "quick", "machine": about(), "tables": []}
    print(f"Corral benchmarks, {report['mode']}: " + ", ".join(f"{key} {value}" for key, value in report["machine"].items() if value))
    failed = False
    for topic, rows in TOPICS.items():
        chosen = {name: row for name, row in rows.items() if not wanted or name in wanted or topic in wanted}
        if not chosen:
            continue
        sky = weather(bench.directory)
        print("\n" + heading(topic, sky), flush=True)
        table: dict[str, Any] = {"topic": topic, "weather": sky.as_json(), "figures": [], "left_out": {}, "seconds": {}}
        report["tables"].append(table)
        for name, row in chosen.items():
            if seconds_max and time.monotonic() - begun > seconds_max:
                table["left_out"][name] = f"not begun: {seconds_max:g} s were over"
                print(f"{name}: left out, {seconds_max:g} s were over")
                continue
            row_begun = time.monotonic()
            figures, why, broken = await _row(bench, row)
            table["seconds"][name] = time.monotonic() - row_begun
            failed = failed or broken
            if why:
                table["left_out"][name] = why
                print(f"{name}: left out, {why}", flush=True)
            for figure in figures:
                table["figures"].append({"row": name, **figure.as_json()})
                print(figure_lines(name, figure), flush=True)
    report["seconds"] = time.monotonic() - begun
    return report, failed


async def _row(bench: Bench, row: Row) -> tuple[list[Figure], str, bool]:
    """Its figures; or why there are none, and whether that is a failure."""
    try:
        async with asyncio.timeout(ROW_S_MAX):
            return await row(bench), "", False
    except MissingError as why:
        return [], f"missing: {why}", False
    except Exception as why:  # noqa: BLE001 - the other rows are still measured; the exit status tells
        return [], f"FAILED: {type(why).__name__}: {why}", True


if __name__ == "__main__":
    sys.exit(main())
