"""What is left at the end: in the guests, of shims, of stdin."""

from __future__ import annotations

from corral_testkit.sim.validators.evidence import Evidence, Findings, name_of
from corral_testkit.sim.witness import generated


def nothing_is_left_running(evidence: Evidence) -> Findings:
    """G14, G15: what runs is in the list, and has a shim; every shim has a container."""
    for name, guest in evidence.guests.items():
        listed = {state.instance: state for state in evidence.truths[name].containers}
        for instance, container in guest.kernel.containers.items():
            living = [one for one in container.processes if not one.ended]
            if living and instance not in listed:
                yield f"G14 {name}: {living[0].life.token} runs, but no container of instance {instance} is listed"
            if living and instance not in guest.shims:
                yield f"G16 {name}: {living[0].life.token} runs without a shim"
        for instance, shim in guest.shims.items():
            if instance not in listed:
                yield f"G20 {name}: the shim of {shim.name} {instance} lives, but there is no such container"
        for instance, state in listed.items():
            there = guest.kernel.containers.get(instance)
            real = there.status if there is not None else "stopped"
            if state.status in ("created", "running", "paused") and real != state.status:
                yield f"G16 {name}: {state.id} is listed as {state.status}, but it is {real}"


def stdin_came_once(evidence: Evidence) -> Findings:
    """G13: every byte of stdin once and in order."""
    for life in evidence.witness.lives:
        if life.stdin and bytes(life.stdin) != generated(sum(map(ord, life.token)), 0, len(life.stdin)):
            yield f"G13 stdin of {name_of(life, life.instance)} is not what was written"
