"""What an entry of CHANGELOG.md must be: short, and under the heading of a part."""

import re

from corral_docs.places import ROOT

WORDS_MAX = 25


def problems() -> list[str]:
    """Return the entries of CHANGELOG.md that are too long or stand under no part."""
    return [f"CHANGELOG.md: {wrong}" for wrong in wrong_in((ROOT / "CHANGELOG.md").read_text())]


def wrong_in(text: str) -> list[str]:
    """Return what is wrong in the text of a changelog."""
    wrong = []
    part = ""
    for block in re.split(r"^(?=- |#)", text, flags=re.MULTILINE):
        if block.startswith("#"):
            part = block.splitlines()[0] if block.startswith("### ") else ""
        elif block.startswith("- "):
            words = block[2:].partition("\n\n")[0].split()
            if len(words) > WORDS_MAX:
                wrong.append(f"{len(words)} words, {WORDS_MAX} at most: {' '.join(words[:8])} …")
            if not part:
                wrong.append(f"under no part: {' '.join(words[:8])} …")
    return wrong
