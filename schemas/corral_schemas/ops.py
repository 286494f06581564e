"""The one map of operations: name → arguments, reply, and what each op is to router, worker and authentication."""

from typing import Literal, NamedTuple

from corral_schemas import bundles, commands, files, queries, stdio
from corral_schemas.base import Message

Role = Literal["observer", "operator"]


class Op(NamedTuple):
    args: type[Message]
    reply: type[Message]
    role: Role
    """Least role that may use it."""
    mutating: bool = False
    """Deduplicated by request id and recorded before it takes effect."""
    ordered: bool = False
    """Takes effect in the order of arrival among the ordered commands of its container."""
    long_poll: bool = False
    """May rightly take long: counted apart from the in-flight limit."""
    broker: bool = False
    """Answered by the broker (with an empty guest)."""
    bulk: bool = False
    """Its replies are full of bytes and travel on the bulk session."""
    upload: bool = False
    """Its arguments are full of bytes: they travel to the guest on the bulk session too, where one stands. Each is a part of what another
    command names, so that the audit log leaves it out."""


OPS: dict[str, Op] = {
    "create": Op(commands.CreateArgs, commands.CreateReply, "operator", mutating=True, ordered=True),
    "start": Op(commands.ContainerTarget, commands.StartReply, "operator", mutating=True, ordered=True),
    "run": Op(commands.RunArgs, commands.CreateReply, "operator", mutating=True, ordered=True),
    "exec": Op(commands.ExecArgs, commands.ExecReply, "operator", mutating=True, ordered=True),
    "kill": Op(commands.KillArgs, commands.KillReply, "operator", mutating=True),
    "stop": Op(commands.StopArgs, commands.StopReply, "operator", mutating=True, long_poll=True),
    "pause": Op(commands.ContainerTarget, stdio.Done, "operator", mutating=True, ordered=True),
    "resume": Op(commands.ContainerTarget, stdio.Done, "operator", mutating=True, ordered=True),
    "update": Op(commands.UpdateArgs, stdio.Done, "operator", mutating=True, ordered=True),
    "delete": Op(commands.DeleteArgs, stdio.Done, "operator", mutating=True, ordered=True),
    "resize": Op(stdio.ResizeArgs, stdio.Done, "operator"),
    "write_stdin": Op(stdio.WriteStdinArgs, stdio.WriteStdinReply, "operator", long_poll=True),
    "close_stdin": Op(stdio.CloseStdinArgs, stdio.Done, "operator"),
    "cancel": Op(commands.CancelArgs, commands.CancelReply, "operator"),
    "state": Op(commands.ContainerTarget, queries.StateReply, "observer"),
    "list": Op(queries.ListArgs, queries.ListReply, "observer"),
    "ps": Op(queries.PsArgs, queries.PsReply, "observer"),
    "stats": Op(commands.ContainerTarget, queries.ContainerStatsReply, "observer"),
    "wait": Op(queries.WaitArgs, queries.WaitReply, "observer", long_poll=True),
    "read_stdio": Op(stdio.ReadStdioArgs, stdio.ReadStdioReply, "observer", long_poll=True, bulk=True),
    "replay": Op(queries.ReplayArgs, queries.ReplayReply, "observer", long_poll=True, bulk=True, broker=True),
    "result": Op(queries.ResultArgs, queries.ResultReply, "observer"),
    "upload": Op(bundles.UploadArgs, bundles.UploadReply, "operator", long_poll=True, bulk=True, upload=True),
    "open_bundle": Op(bundles.OpenBundleArgs, bundles.OpenBundleReply, "operator", long_poll=True, bulk=True),
    "write_bundle": Op(bundles.WriteBundleArgs, stdio.Done, "operator", long_poll=True, bulk=True, upload=True),
    "commit_bundle": Op(bundles.CommitBundleArgs, bundles.BundleReply, "operator", mutating=True, long_poll=True),
    "list_bundles": Op(bundles.ListBundlesArgs, bundles.ListBundlesReply, "observer"),
    "inspect_bundle": Op(bundles.InspectBundleArgs, bundles.InspectBundleReply, "observer", bulk=True),
    "remove_bundle": Op(bundles.RemoveBundleArgs, bundles.RemovedBundlesReply, "operator", mutating=True),
    "collect_bundles": Op(bundles.CollectBundlesArgs, bundles.RemovedBundlesReply, "operator", mutating=True, long_poll=True),
    "read_file": Op(files.ReadFileArgs, files.ReadFileReply, "operator", bulk=True),
    "write_file": Op(files.WriteFileArgs, files.WriteFileReply, "operator", mutating=True, long_poll=True),
    "info": Op(queries.Nothing, queries.InfoReply, "observer", broker=True),
    "guests": Op(queries.Nothing, queries.GuestsReply, "observer", broker=True),
    "forget_guests": Op(queries.ForgetGuestsArgs, queries.ForgetGuestsReply, "operator", broker=True),
    "hello": Op(queries.Nothing, queries.HelloReply, "observer", broker=True),
}
