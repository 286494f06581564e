"""Writes what is derived from the contract: json/*.json, asyncapi.json, and the generated parts of PROTOCOL.md and reference/*.md.

Run from a source checkout as `python -m corral_schemas.document`; with `--check` nothing is written and stale files are named.
"""

import json
import sys
from pathlib import Path
from typing import Any

from corral_schemas.document.asyncapi import asyncapi
from corral_schemas.document.catalogue import messages
from corral_schemas.document.json_schema import json_schema
from corral_schemas.document.pages import PAGES
from corral_schemas.document.protocol import page_text

SCHEMAS = Path(__file__).resolve().parents[2]


def files() -> dict[Path, str]:
    """Every derived file → what it should hold."""
    made = {SCHEMAS / "json" / f"{name}.json": _json(json_schema(kind)) for name, kind in messages().items()}
    made[SCHEMAS / "asyncapi.json"] = _json(asyncapi())
    return made | {SCHEMAS / page: page_text(page, (SCHEMAS / page).read_text()) for page in PAGES}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """Files that differ from what they should hold, and files in json/ that nothing makes."""
    wanted = files()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return wrong + [path for path in sorted((SCHEMAS / "json").glob("*")) if path not in wanted]


def main(arguments: list[str]) -> int:
    """Exit status: 0 fine, 1 something is stale (with --check)."""
    wrong = stale()
    if "--check" in arguments:
        sys.stdout.writelines(f"stale: {path}\n" for path in wrong)
        return 1 if wrong else 0
    wanted = files()
    for path in wrong:
        if path in wanted:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()
        sys.stdout.write(f"wrote: {path}\n" if path in wanted else f"removed: {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
