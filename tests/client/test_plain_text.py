"""Text for people."""

from corral.plain_text import count_text, one_line


def test_what_there_is_one_of_is_not_called_by_its_plural() -> None:
    assert [count_text(count, "guest") for count in (0, 1, 2)] == ["0 guests", "1 guest", "2 guests"]


def test_control_characters_are_made_visible_and_the_text_stays_on_one_line() -> None:
    assert one_line(" two\nlines\x1b[31m ") == "two\\nlines\\x1b[31m"
