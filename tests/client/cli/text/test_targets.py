"""GUEST/NAME[/EXEC] and --guest."""

import click
import pytest

from corral.cli.text.targets import container_only, parse_target


@pytest.mark.parametrize(
    ("text", "guest", "expected"),
    [
        ("web", "", ("", "web", "")),
        ("g1/web", "", ("g1", "web", "")),
        ("g1/web/sh", "", ("g1", "web", "sh")),
        ("web", "g1", ("g1", "web", "")),
        ("g1/web", "g1", ("g1", "web", "")),
        ("web/sh", "g1", ("g1", "web", "sh")),
        ("g1/web/sh", "g1", ("g1", "web", "sh")),
    ],
)
def test_a_word_names_guest_container_and_process(text: str, guest: str, expected: tuple[str, str, str]) -> None:
    target = parse_target(text, guest)
    assert (target.guest, target.container, target.process) == expected
    assert target.text == text


@pytest.mark.parametrize(("text", "guest"), [("", ""), ("/", ""), ("a/", ""), ("a//b", ""), ("a/b/c/d", ""), ("g2/web/sh", "g1")])
def test_a_word_of_another_shape_is_refused(text: str, guest: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_target(text, guest)


def test_a_process_is_refused_where_a_container_is_wanted() -> None:
    with pytest.raises(click.BadParameter, match="names a process"):
        container_only(parse_target("g1/web/sh"))
    assert container_only(parse_target("g1/web")).container == "web"
