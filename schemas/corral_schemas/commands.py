"""Commands that change something: their arguments and replies."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from corral_schemas.base import ContainerName, Count, Instance, Message, Pid, PinnedInstance, ProcessName, RequestId, TimeNs
from corral_schemas.containers import ContainerSpec, OciProcess
from corral_schemas.cursor import Place
from corral_schemas.exits import Exit
from corral_schemas.limits import STOP_GRACE_S, TIMEOUT_S_MAX
from corral_schemas.stdio import ProcessTarget, StdioOptions

SIGTERM, SIGKILL = 15, 9


class ContainerTarget(Message, frozen=True, kw_only=True):
    """Names one container."""

    container: ContainerName
    instance: PinnedInstance = ""


class CreateArgs(Message, frozen=True, kw_only=True):
    """Makes a container, from a bundle or from a spec (exactly one of them)."""

    container: ContainerName
    bundle: Annotated[str, Meta(description="OCI bundle directory in the guest")] = ""
    spec: Annotated[ContainerSpec | None, Meta(description="What the worker makes a bundle from")] = None
    stdio: Annotated[StdioOptions, Meta(description="How init gets its streams")] = StdioOptions()


class CreateReply(Message, frozen=True, kw_only=True):
    container: ContainerName
    instance: Instance
    process_instance: Instance
    pid: Pid
    place: Annotated[Place | None, Meta(description="Place in the journal right after the created event: follow on from here")] = None
    exit: Annotated[Exit | None, Meta(description="Of run: init's exit, where it is recorded already; absent says nothing")] = None


class RunArgs(CreateArgs, frozen=True, kw_only=True):
    """create and start in one; answered when started, or with the start failure (nothing is left then)."""

    auto_delete: Annotated[bool, Meta(description="Delete it after its exit and the end of its output")] = False


class StartReply(Message, frozen=True, kw_only=True):
    pid: Pid
    started_ns: TimeNs


class ExecArgs(Message, frozen=True, kw_only=True):
    """Runs one more process in a container."""

    container: ContainerName
    instance: PinnedInstance = ""
    process: Annotated[ProcessName, Meta(description="Exec id, chosen by the client, unique in the container")]
    spec: Annotated[OciProcess, Meta(description="What to run")]
    stdio: Annotated[StdioOptions, Meta(description="How the process gets its streams")] = StdioOptions()
    ignore_paused: Annotated[
        bool, Meta(description="In a paused container: begin once it is resumed, without holding up other commands; false: refuse")
    ] = False


class ExecReply(Message, frozen=True, kw_only=True):
    container: ContainerName
    instance: Instance
    process: ProcessName
    process_instance: Instance
    pid: Pid
    started_ns: TimeNs
    place: Annotated[Place | None, Meta(description="Place in the journal right after the exec_started event")] = None
    exit: Annotated[Exit | None, Meta(description="Its exit, where it is recorded already; absent says nothing")] = None


class KillArgs(ProcessTarget, frozen=True, kw_only=True):
    """Sends a signal to one process, or with `all` to every process of the container. Never waits behind another command."""

    signal: Annotated[int, Meta(description="Signal number; 0 sends nothing and asks whether it could be sent", ge=0, le=64)] = SIGTERM
    all: Annotated[bool, Meta(description="To every process in the container; it is no error if there is none left")] = False


class KillReply(Message, frozen=True, kw_only=True):
    outcome: Annotated[
        Literal["delivered", "already_exited"],
        Meta(
            description="already_exited: of `all`, no process was left to get it. "
            "Without `all` that is container_not_running or process_not_found, with details.outcome"
        ),
    ]


class StopArgs(ContainerTarget, frozen=True, kw_only=True):
    """SIGTERM (or `signal`), then SIGKILL after the grace time; answered at the exit of init."""

    signal: Annotated[int, Meta(description="Signal number", ge=1, le=64)] = SIGTERM
    grace_ms: Annotated[int, Meta(description="Milliseconds until SIGKILL", ge=0, le=TIMEOUT_S_MAX * 1000)] = int(STOP_GRACE_S * 1000)


class StopReply(Message, frozen=True, kw_only=True):
    exit: Annotated[Exit, Meta(description="How init ended")]


class UpdateArgs(ContainerTarget, frozen=True, kw_only=True):
    """Changes a container's resources."""

    resources: Annotated[dict[str, Any], Meta(description="OCI `linux.resources`, as `runc update --resources` takes it")]


class DeleteArgs(ContainerTarget, frozen=True, kw_only=True):
    """Deletes a stopped or created container, or with `process` frees the id of an exec that has exited."""

    process: Annotated[ProcessName, Meta(description="Exec id to free; empty: the container")] = ""
    force: Annotated[bool, Meta(description="SIGKILL whatever runs in it first")] = False


class CancelArgs(Message, frozen=True, kw_only=True):
    """Gives up another command."""

    id: RequestId
    epoch: Annotated[str, Meta(description="The guest's epoch as known when that command was first sent; empty: unstated")] = ""
    age_ms: Annotated[Count, Meta(description="Time since that command was first sent, when the cancel was")] = 0


class CancelReply(Message, frozen=True, kw_only=True):
    outcome: Annotated[
        Literal["cancelled", "too_late", "unknown"],
        Meta(description="`cancelled`: it will never take effect; `too_late`: it is done or cannot be stopped; `unknown`: no such id"),
    ]
