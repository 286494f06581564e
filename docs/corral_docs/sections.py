"""Generated parts of pages that are written by hand."""

import re


def filled(text: str, name: str, made: str) -> str:
    """Return a page with what stands between its marks `<!-- begin NAME … -->` and `<!-- end NAME -->` replaced.

    Raises ValueError if the page has no such marks.
    """
    pattern = re.compile(rf"(<!-- begin {name}\b[^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no part {name!r}")
    return pattern.sub(lambda marks: f"{marks[1]}{made}{marks[2]}", text)
