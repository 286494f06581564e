"""Small things about text that people read. Light: every command line loads it."""


def one_line(text: str) -> str:
    """Line breaks and other control characters made visible, so that one failure stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.strip())


def count_text(count: int, noun: str) -> str:
    """`1 guest`, `2 guests`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
