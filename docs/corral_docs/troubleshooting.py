"""The part of troubleshooting.md on error codes: cause and action from troubleshooting.toml, checked against the table of errors."""

import tomllib

from corral_docs.places import DOCS
from corral_schemas import errors

_TITLES = {
    errors.NotFoundError: "Not found: name another",
    errors.StateError: "State: look, then decide",
    errors.InvalidError: "Invalid: correct the request",
    errors.RetryError: "Retry: the same may succeed later",
    errors.DeadlineError: "Deadline: the result can still be asked for",
    errors.UnauthorizedError: "Unauthorized: another key is needed",
    errors.OutcomeUnknownError: "Outcome unknown: decide",
    errors.RuntimeFailedError: "Runtime failed: read the text",
    errors.ResyncError: "Resync: take a fresh list",
}


def entries() -> dict[str, dict[str, str]]:
    """Return code → cause and action."""
    found: dict[str, dict[str, str]] = tomllib.loads((DOCS / "troubleshooting.toml").read_text())
    return found


def problems() -> list[str]:
    """Return the codes that have no entry, and the entries that have no code."""
    known = entries()
    wrong = [f"troubleshooting.toml: no cause and action for {code}" for code in errors.TABLE if code not in known]
    wrong += [f"troubleshooting.toml: {code} is no error code" for code in known if code not in errors.TABLE]
    wrong += [f"troubleshooting.toml: {code} needs cause and action" for code, entry in known.items() if set(entry) != {"cause", "action"}]
    return wrong


def tables() -> str:
    """Return a table for each class of errors."""
    known = entries()
    parts = []
    for kind, title in _TITLES.items():
        rows = [(code, known[code]) for code, row in errors.TABLE.items() if row.kind is kind and code in known]
        parts += [f"### {title}\n\n| Code | Cause | Action |\n|---|---|---|\n"]
        parts += [f"| `{code}` | {entry['cause']} | {entry['action']} |\n" for code, entry in rows] + ["\n"]
    return "".join(parts)
