"""exits.py: what a shell would show, and that unknown never looks like success."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_schemas.errors import TABLE
from corral_schemas.exits import Exit, describe, shell_status, start_failure_status
from corral_schemas.frames import pack, unpack

EXITS = st.one_of(
    st.builds(lambda code: Exit(type="exited", code=code), st.integers(0, 255)),
    st.builds(lambda number: Exit(type="signalled", signal=number), st.integers(1, 64)),
    st.builds(lambda reason: Exit(type="start_failed", reason=reason), st.text(max_size=40)),
    st.builds(lambda reason: Exit(type="lost", reason=reason), st.text(max_size=40)),
)


@pytest.mark.guarantee(2)
@given(EXITS)
def test_only_an_exit_with_code_0_looks_like_success(end: Exit) -> None:
    assert (shell_status(end) == 0) == (end.type == "exited" and end.code == 0)
    assert 0 <= shell_status(end) <= 255


@given(EXITS)
def test_an_exit_comes_out_of_the_wire_as_it_went_in(end: Exit) -> None:
    assert unpack(Exit, pack(end)) == end


@pytest.mark.parametrize("number", range(1, 65))
def test_a_signal_shows_as_128_and_the_signal(number: int) -> None:
    end = Exit(type="signalled", signal=number)
    assert shell_status(end) == 128 + number
    assert describe(end).startswith("killed by ")


@pytest.mark.parametrize("code", range(256))
def test_an_exit_code_shows_as_itself(code: int) -> None:
    assert shell_status(Exit(type="exited", code=code)) == code


@pytest.mark.parametrize("code", TABLE)
def test_a_failed_start_shows_as_a_shell_would(code: str) -> None:
    wanted = {"command_not_found": 127, "command_not_executable": 126}.get(code, 125)
    assert start_failure_status(code) == wanted
    assert shell_status(Exit(type="start_failed", reason=f"{code}: the text")) == wanted


@pytest.mark.parametrize("end", [Exit(type="exited"), Exit(type="signalled"), Exit(type="lost"), Exit(type="start_failed")])
def test_an_exit_without_its_value_shows_as_125(end: Exit) -> None:
    assert shell_status(end) == 125


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Exit(type="exited", code=7), "exited 7"),
        (Exit(type="signalled", signal=9, oom_seen=True), "killed by SIGKILL (out of memory)"),
        (Exit(type="signalled", signal=63), "killed by signal 63"),
        (Exit(type="lost", reason="shim died"), "lost: shim died"),
        (Exit(type="start_failed", reason="command_not_found: no /x"), "start failed: command_not_found: no /x"),
    ],
)
def test_an_exit_in_words(end: Exit, words: str) -> None:
    assert describe(end) == words
