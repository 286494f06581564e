"""A runtime that cannot freeze a container at once, as runc on a busy machine: it says so and thaws again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from corral import CorralError
from corral_testkit.system import CorralSystem
from corral_worker.commands.handlers.change import FREEZE_TRIES

pytestmark = pytest.mark.runc

FAILS_TO_FREEZE = """#!/bin/sh
log=
for word; do
    [ "$log" = next ] && log=$word
    [ "$word" = --log ] && log=next
    if [ "$word" = pause ] && read left <{left} && [ $left -gt 0 ]; then
        echo $((left - 1)) >{left}
        echo '{{"level":"error","msg":"unable to freeze"}}' >>$log
        exit 1
    fi
done
exec runc "$@"
"""


def test_a_pause_that_did_not_freeze_is_tried_again_and_given_up_in_the_end(
    new_corral: Callable[..., CorralSystem], tmp_path: Path
) -> None:
    wrapper, left = tmp_path / "runc", tmp_path / "left"
    wrapper.write_text(FAILS_TO_FREEZE.format(left=left))
    wrapper.chmod(0o755)
    left.write_text("0\n")
    system = new_corral(worker_options=("--runtime", str(wrapper)))
    container = system.client().guest(system.names[0]).run("c", spec=system.spec("sleep", "1000"))
    left.write_text(f"{FREEZE_TRIES - 1}\n")
    container.pause()
    assert (container.state().status, left.read_text()) == ("paused", "0\n")
    container.resume()
    left.write_text(f"{FREEZE_TRIES}\n")
    with pytest.raises(CorralError, match="unable to freeze") as failure:
        container.pause()
    assert (failure.value.code, container.state().status, left.read_text()) == ("runtime_failed", "running", "0\n")
    container.delete(force=True)
