"""topics.py: a prefix matches what it names and nothing whose name merely begins alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.events import EVENT_KINDS
from corral_schemas.topics import (
    beacon_topic,
    event_prefix,
    event_topic,
    stdio_prefix,
    stdio_topic,
)

NAMES = st.text(alphabet="ab1-._+", min_size=1, max_size=4)
KINDS = st.sampled_from(sorted(EVENT_KINDS))


@given(NAMES, KINDS, NAMES, NAMES)
def test_an_event_prefix_matches_exactly_the_guest_and_kind_it_names(guest: str, kind: str, other_guest: str, name: str) -> None:
    topic = event_topic(other_guest, kind, name, name)
    assert topic.startswith(event_prefix())
    assert topic.startswith(event_prefix(guest)) == (guest == other_guest)
    assert all(topic.startswith(event_prefix(guest, k)) == (guest == other_guest and k == kind) for k in EVENT_KINDS)


@given(NAMES, NAMES, NAMES, NAMES, NAMES, NAMES)
def test_a_stdio_prefix_matches_exactly_what_it_names(g: str, c: str, p: str, g2: str, c2: str, p2: str) -> None:
    topic = stdio_topic(g2, c2, p2, "stdout")
    assert topic.startswith(stdio_prefix())
    assert topic.startswith(stdio_prefix(g)) == (g == g2)
    assert topic.startswith(stdio_prefix(g, c)) == ((g, c) == (g2, c2))
    assert topic.startswith(stdio_prefix(g, c, p)) == ((g, c, p) == (g2, c2, p2))


def test_the_topics_as_they_are_written_down() -> None:
    assert event_topic("vm-1", "exit", "web", "init") == b"event/vm-1/exit/web/init"
    assert event_topic("vm-1", "guest_up") == b"event/vm-1/guest_up//"
    assert beacon_topic("vm-1") == b"event/vm-1/beacon//"
    assert event_prefix("vm-1", "exit") == b"event/vm-1/exit/"
    assert stdio_topic("vm-1", "web", "init", "stderr") == b"stdio/vm-1/web/init/stderr"


@pytest.mark.parametrize("parts", [("", "c", ""), ("", "", "p"), ("g", "", "p")])
def test_a_stdio_prefix_without_its_outer_parts_is_refused(parts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="from the left"):
        stdio_prefix(*parts)


def test_an_event_prefix_of_a_kind_without_a_guest_is_refused() -> None:
    with pytest.raises(ValueError, match="after a guest"):
        event_prefix(kind="exit")
