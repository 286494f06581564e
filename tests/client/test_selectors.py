"""Selectors: what they mean, and what is said of those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral import InvalidError
from corral.selectors import parse_selector
from corral_schemas.queries import GuestInfo

FLEET = {
    "g1": {},
    "g2": {"role": "db"},
    "web-1": {"role": "web", "zone": "a"},
    "web-2": {"role": "web", "zone": "b"},
    "db-1": {"role": "db", "zone": "b"},
}
GUESTS = [GuestInfo(guest=name, up=True, worker="", labels=labels) for name, labels in FLEET.items()]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("all", "db-1 g1 g2 web-1 web-2"),
        ("g1,g2", "g1 g2"),
        (" g1 , g2 ", "g1 g2"),
        ("web-*", "web-1 web-2"),
        ("web-[2-9]", "web-2"),
        ("?1", "g1"),
        ("role=web", "web-1 web-2"),
        ("role==web", "web-1 web-2"),
        ("role=web,zone!=b", "web-1"),
        ("zone!=b", "g1 g2 web-1"),
        ("role in (web,db)", "db-1 g2 web-1 web-2"),
        ("role in ( web , db ),zone=b", "db-1 web-2"),
        ("role notin (web,db)", "g1"),
        ("web-*,zone=a", "web-1"),
        ("g1,web-*,zone!=a", "g1 web-2"),
        ("all,role=db", "db-1 g2"),
        ("g1,all", "db-1 g1 g2 web-1 web-2"),
        ("in", ""),
        ("nobody", ""),
    ],
)
def test_a_selector_means_these_guests(text: str, meant: str) -> None:
    assert [info.guest for info in parse_selector(text).select(GUESTS)] == meant.split()


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 0, "a guest name, a pattern or a label is expected at the end"),
        ("g1,", 3, "is expected at the end"),
        (",g1", 0, "instead of ','"),
        ("role=", 5, "a value for role is expected at the end"),
        ("role in web", 8, r"'\(' is expected instead of 'web'"),
        ("role in (web", 12, r"'\)' is expected at the end"),
        ("role in ()", 9, "a value is expected"),
        ("g1 g2", 3, "',' is expected instead of 'g2'"),
        ("a!b", 1, "unexpected '!'"),
        ("g/1", 0, "neither a guest name nor a pattern"),
        ("=web", 0, "instead of '='"),
        ("x" * 70_000, 0, "longer than"),
    ],
)
def test_where_a_selector_goes_wrong_is_said(text: str, position: int, why: str) -> None:
    with pytest.raises(InvalidError, match=why) as caught:
        parse_selector(text)
    assert caught.value.details["position"] == position


def test_a_name_that_no_guest_has_is_told_with_the_nearest() -> None:
    assert parse_selector("web-1,web-22,ab*").unknown(GUESTS) == {"web-22": ["web-2", "web-1"]}


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selector = parse_selector(text)
    except InvalidError as why:
        assert 0 <= why.details["position"] <= len(text)
    else:
        selector.select(GUESTS)


@given(st.sets(st.sampled_from(sorted(FLEET)), min_size=1))
def test_names_mean_exactly_those_named(names: set[str]) -> None:
    assert {info.guest for info in parse_selector(",".join(sorted(names))).select(GUESTS)} == names
