"""The section on many VMs in docs/deploy.md, typed as it stands."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from corral_testkit.readme import ANYTHING, BUSYBOX, Session, agrees, blocks
from corral_testkit.vms import VmFleet
from corral_vm.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "deploy.md").read_text().partition("## Many VMs\n")[2].partition("\n## ")[0]
PATIENCE_S = 180.0
BEFORE = [f"cd {ROOT}", "unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES"]
AFTER = ["cd $OLDPWD"]


@pytest.mark.timeout(480)
def test_the_session_with_many_vms_shows_what_the_page_shows(vms: VmFleet) -> None:
    for machine in vms.machines.values():
        machine.cut_power()  # the cores are for the session's guests; the next test starts these again
    typed, before = [], [*BEFORE, f"export SUITE={vms.image.suite}"]
    with Session(patience_s=PATIENCE_S) as session, contextlib.ExitStack() as whatever_happens:
        whatever_happens.callback(Fleet(lambda _: None).down)  # before the session ends, which waits for all that it started
        session.run(BUSYBOX)
        for block in blocks(SECTION):
            if "another terminal" in block.note:
                ((command, _),) = block.commands
                watching = session.start(command)
                continue
            typed += block.commands
            shown = session.run([*before, *(command for command, _ in block.commands), *AFTER])
            for (command, wanted), lines in zip(block.commands, shown[len(before) :], strict=False):
                assert agrees(wanted, lines), f"{command}\n" + "\n".join(lines)
            if "make vm-plug GUEST=vm2" in [command for command, _ in block.commands]:
                watching.wait_for([ANYTHING, "TIME vm2 guest_down silent", ANYTHING, "TIME vm2 exit job/init exited 7"])
    assert typed[-1][0] == "make vm-down"
    assert not (ROOT / "build" / "vm" / "up").exists()
