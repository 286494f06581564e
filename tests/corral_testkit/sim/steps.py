"""Scenario steps as commands of the protocol."""

from __future__ import annotations

from corral_schemas.base import Message
from corral_schemas.commands import CancelArgs, ContainerTarget, CreateArgs, DeleteArgs, ExecArgs, KillArgs, RunArgs, StopArgs, UpdateArgs
from corral_schemas.containers import ContainerSpec, OciProcess
from corral_schemas.queries import ListArgs, Nothing, PsArgs, ResultArgs
from corral_schemas.stdio import ResizeArgs, StdioOptions
from corral_testkit.sim.scenario import Step

CAP_BYTES = 128 << 10


def args_of(step: Step, rootfs: str) -> Message:
    """The arguments of a step that is one command."""
    name, details = step.container, step.details
    match step.op:
        case "create":
            return CreateArgs(container=name, spec=_spec(step, rootfs), stdio=_stdio(step))
        case "run":
            return RunArgs(container=name, spec=_spec(step, rootfs), stdio=_stdio(step), auto_delete=bool(details.get("auto_delete")))
        case "exec":
            assert step.script is not None
            return ExecArgs(container=name, process=step.process, spec=OciProcess(args=step.script.args()), stdio=_stdio(step))
        case "kill":
            return KillArgs(container=name, process=step.process, signal=details["signal"], all=bool(details.get("all")))
        case "stop":
            return StopArgs(container=name, grace_ms=details["grace_ms"])
        case "delete":
            return DeleteArgs(container=name, force=details["force"])
        case "update":
            return UpdateArgs(container=name, resources={"cpu": {"shares": 10}})
        case "cancel":
            return CancelArgs(id=f"request-{details['of']}")
        case "result":
            return ResultArgs(id=f"request-{details['of']}")
        case "resize":
            return ResizeArgs(container=name, rows=24, columns=80)
        case "list":
            return ListArgs()
        case "ps":
            return PsArgs(container=name)
        case "info" | "guests":
            return Nothing()
    return ContainerTarget(container=name)  # start, pause, resume, state, stats


def _spec(step: Step, rootfs: str) -> ContainerSpec:
    assert step.script is not None
    return ContainerSpec(rootfs=rootfs, args=step.script.args())


def _stdio(step: Step) -> StdioOptions:
    assert step.script is not None
    return StdioOptions(stdin=step.script.until_eof, cap_bytes=CAP_BYTES)
