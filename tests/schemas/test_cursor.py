"""cursor.py: a cursor survives being text, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.cursor import Cursor, Place, cursor_from_text, cursor_to_text
from corral_schemas.errors import CorralError

PLACES = st.builds(lambda epoch, seq: Place(epoch=epoch, seq=seq), st.text(max_size=20), st.integers(0, (1 << 63) - 1))
CURSORS = st.builds(lambda places: Cursor(places=places), st.dictionaries(st.text(max_size=20), PLACES, max_size=8))


@given(CURSORS)
def test_a_cursor_comes_back_from_its_text(cursor: Cursor) -> None:
    assert cursor_from_text(cursor_to_text(cursor)) == cursor


@given(CURSORS)
def test_the_text_is_safe_in_a_url_and_on_a_command_line(cursor: Cursor) -> None:
    text = cursor_to_text(cursor)
    assert text.startswith("c1.") and text.replace("-", "").replace("_", "").replace(".", "").isalnum()


@given(CURSORS)
def test_equal_cursors_have_equal_texts(cursor: Cursor) -> None:
    shuffled = Cursor(places=dict(reversed(cursor.places.items())))
    assert cursor_to_text(shuffled) == cursor_to_text(cursor)


@given(CURSORS, st.text(max_size=20), PLACES)
def test_advancing_changes_one_guest_only(cursor: Cursor, guest: str, place: Place) -> None:
    before = dict(cursor.places)
    assert cursor.advanced(guest, place).places == {**before, guest: place}
    assert cursor.places == before


@pytest.mark.parametrize(
    "text", ["", "c1", "c1.", "c2.gA", "c1.é", "c1.gA gA", "c1.oWE", "c1.gQ", "c1.gaFhkqFl_w", "c1.gaH_kqFlAQ", "c1.\n"]
)
def test_text_that_is_no_cursor_is_a_bad_request(text: str) -> None:
    with pytest.raises(CorralError) as caught:
        cursor_from_text(text)
    assert caught.value.code == "bad_request"


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_a_bad_request(text: str) -> None:
    for candidate in (text, "c1." + text):
        try:
            assert isinstance(cursor_from_text(candidate), Cursor)
        except CorralError as why:
            assert why.code == "bad_request"


def test_a_cursor_written_by_an_older_version_is_still_read() -> None:
    assert cursor_from_text("c1.gaR2bS0xkrA1ZjFkOGE5MGMzYjI3ZTY0Kg") == Cursor(places={"vm-1": Place(epoch="5f1d8a90c3b27e64", seq=42)})
