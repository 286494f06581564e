"""Docker's flags that Corral does not have: for each, one sentence that says what to use."""

_BUNDLE = "write it into the config.json of a bundle and give --bundle DIR"
_DIRECTORIES = "nothing is pulled from a registry: bring images to guests with `corral bundle push`, then give --image NAME"
_RESOURCES = "give --memory, --cpus or --pids-limit, or afterwards `corral update --resources JSON`"
_HEALTH = "check it from outside with `corral exec` and look at the status it ends with"
_JQ = "filter the JSON Lines instead, for example with `| jq -c 'select(.status == \"running\")'`"

_MAKING = {
    **dict.fromkeys(("-p", "--publish", "-P", "--publish-all", "--expose"), "ports are not published: use --network host"),
    **dict.fromkeys(
        ("--device-cgroup-rule", "--gpus"),
        _BUNDLE,
    ),
    **dict.fromkeys(("--userns", "--cgroupns", "--domainname"), _BUNDLE),
    **dict.fromkeys(("--annotation", "--isolation"), _BUNDLE),
    **dict.fromkeys(
        ("--dns", "--dns-option", "--dns-search", "--add-host"), "mount a file over it: -v SRC:/etc/resolv.conf:ro or /etc/hosts"
    ),
    **dict.fromkeys(("--link", "--ip", "--ip6", "--mac-address", "--network-alias"), "there is only --network none or --network host"),
    **dict.fromkeys(
        ("--memory-swappiness", "--kernel-memory"),
        _RESOURCES,
    ),
    **dict.fromkeys(("--cpu-period", "--cpu-quota", "--blkio-weight", "--device-read-bps", "--device-write-bps"), _RESOURCES),
    **dict.fromkeys(("--pull", "--platform", "--disable-content-trust", "-q", "--quiet"), _DIRECTORIES),
    **dict.fromkeys(("--health-cmd", "--health-interval", "--health-retries", "--health-timeout", "--no-healthcheck"), _HEALTH),
    **dict.fromkeys(("--cidfile", "--pidfile"), "`corral run -d` prints the name, `corral inspect` has the instance and the pid"),
    **dict.fromkeys(("--log-driver", "--log-opt"), "the guest keeps all output: read it with `corral logs`"),
    **dict.fromkeys(("-l", "--label", "--label-file"), "containers have no labels, guests have: choose a telling --name"),
    **dict.fromkeys(("-a", "--attach"), "both streams always come; use -d for none and -i for stdin"),
    **dict.fromkeys(("--stop-signal", "--stop-timeout"), "say it when stopping: `corral stop --signal SIG --time SECONDS`"),
    "--restart": "nothing is restarted behind your back: follow `corral events --kind exit` and run it again",
    "--volumes-from": "name the directories again with -v SRC:DST[:ro]",
    "--volume-driver": "use -v SRC:DST[:ro] with a directory in the guest",
    "--init": "put an init such as tini into the rootfs and first in CMD",
    "--runtime": "the runtime is the guest's: `corral worker --runtime PATH`",
    "--no-rm": "that is the default: --rm asks for the opposite",
}

FLAGS: dict[str, dict[str, str]] = {
    "run": _MAKING,
    "create": _MAKING,
    "exec": {"--privileged": "give the process its rights with --process-json FILE"},
    "attach": {},
    "logs": {"--details": "`corral inspect` shows what there is to know", "--until": "cut it off with --timestamps and a filter of yours"},
    "ps": {
        **dict.fromkeys(("-f", "--filter"), _JQ),
        **dict.fromkeys(("-n", "--last", "-l", "--latest"), "take the first lines: containers are listed newest first"),
        **dict.fromkeys(("-s", "--size"), "Corral does not measure file systems; `corral stats` shows memory and output"),
        "--no-trunc": "JSON Lines are never cut: use --json",
    },
    "inspect": {
        **dict.fromkeys(("-s", "--size"), "Corral does not measure file systems"),
        "--type": "CONTAINER is always a container or a process",
    },
    "stats": {
        "--no-trunc": "JSON Lines are never cut: use --json",
        "-a": "a stopped container uses nothing",
        "--all": "a stopped container uses nothing",
    },
    "delete": {
        **dict.fromkeys(("-v", "--volumes"), "Corral makes no volumes: directories mounted with -v stay as they are"),
        **dict.fromkeys(("-l", "--link"), "there are no links"),
    },
    "update": {
        "--restart": _MAKING["--restart"],
        **dict.fromkeys(
            ("--memory-swap", "--memory-reservation", "--cpu-shares", "-c", "--cpuset-cpus", "--cpuset-mems"), "use --resources JSON"
        ),
        **dict.fromkeys(("--cpu-period", "--cpu-quota", "--blkio-weight", "--kernel-memory"), "use --resources JSON"),
    },
    "start": {
        "--checkpoint": "Corral has no checkpoints",
        "--checkpoint-dir": "Corral has no checkpoints",
    },
    "events": {"--until": "use --no-follow to end at what there is now"},
}


def sentence(command: str, flag: str) -> str | None:
    """What to say of docker's `flag` at `command`; None where it is no flag of docker's that Corral lacks."""
    advice = FLAGS.get(command, {}).get(flag)
    return f"{flag} is docker's and not Corral's: {advice}" if advice else None
