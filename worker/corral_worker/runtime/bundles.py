"""The bundle given to the runtime: always one of our own, made from a user's bundle or from a spec, so that what Corral needs of it holds.

Corral needs: its own cgroup, below the one that a bundle names (a container without one would land under its caller's), an oom score that
is not inherited from the shim, `terminal` as the command says, and an absolute root path.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral_schemas.commands import CreateArgs
from corral_schemas.containers import OciProcess
from corral_schemas.errors import error
from corral_schemas.limits import FRAME_BYTES_MAX
from corral_worker.bundle_store.store import Image
from corral_worker.runtime.bundle_policy import check_policy
from corral_worker.runtime.containment import ANYWHERE, Roots, confine_config, confined, is_bind
from corral_worker.runtime.host_files import name_mounts
from corral_worker.runtime.images import needs_layer, resolved_spec
from corral_worker.runtime.named_cgroup import cgroup_below
from corral_worker.runtime.namespaces import with_shared_memory
from corral_worker.runtime.oci import config_from_spec, hostname_of, with_term
from corral_worker.runtime.oci_names import check_spelling
from corral_worker.runtime.overlay import make_layer
from corral_worker.runtime.security import check_allowed


@dataclass(frozen=True)
class Bundle:
    """What the worker has to know of a bundle it made."""

    bundle_path: str
    rootfs_path: str
    oci_version: str
    args: list[str]
    cgroup: str
    shares_pid_namespace: bool
    """No pid namespace of its own: when init ends the kernel does not end the rest, so the shim does."""


def make_bundle(
    args: CreateArgs,
    directory: Path,
    cgroup: str,
    roots: Roots = ANYWHERE,
    *,
    image: Image | None = None,
    overlays: bool = False,
    systemd_cgroups: bool = False,
    privileged: bool = False,
    pid_namespace: str = "",
) -> Bundle:
    """Writes `directory`/config.json; with `roots` nothing from outside them is taken in. `image`: the bundle that the spec names.
    `overlays`: whether a layer of the container's own can be one (else it is a copy). `privileged`: whether a spec may ask for more than
    docker's default. `pid_namespace`: of the container whose processes a spec wants to share.

    Raises bundle_invalid or bad_request (only the directory is left then), OSError on a full disk."""
    if bool(args.bundle) == (args.spec is not None):
        raise error("bad_request", "give either a bundle or a spec, not both and not neither")
    hostname = ""
    spec = None if args.spec is None else resolved_spec(args.spec, image)
    layer = spec is not None and needs_layer(spec, overlays=overlays)
    if spec is not None:
        check_allowed(spec, roots, privileged=privileged)
        hostname = hostname_of(spec, args.container)
        config = config_from_spec(spec, hostname, tty=args.stdio.tty, layered=layer, pid_namespace=pid_namespace)
        source = directory
    else:
        source = confined(Path(args.bundle), roots, "bundle")
        config = read_config(source)
        check_spelling(config)
        config["process"]["terminal"] = args.stdio.tty
        _resolve_binds(config, source)
    # a bundle that was pushed is named by no path: there is nothing to confine
    rootfs = _rootfs(config, source) if image is not None else confined(_rootfs(config, source), roots, "rootfs")
    confine_config(config, roots)
    if roots and not privileged:
        check_policy(config)
    config["root"]["path"] = str(rootfs)
    linux = config.setdefault("linux", {})
    linux["cgroupsPath"] = cgroup_below(linux.get("cgroupsPath"), cgroup, roots, systemd=systemd_cgroups)
    config["process"].setdefault("oomScoreAdj", 0)
    if args.stdio.tty:
        config["process"]["consoleSize"] = {"height": args.stdio.rows, "width": args.stdio.columns}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if spec is not None:  # mounts of the worker's own: what a caller names has been held to the roots above
        config["mounts"] = with_shared_memory(spec, config["mounts"])
        config["mounts"] += name_mounts(spec, hostname, directory, rootfs, layered=layer)
    if layer:
        top = make_layer(directory, rootfs, overlays=overlays)
        config["root"]["path"] = str(top)
        rootfs = rootfs if overlays else top
    (directory / "config.json").write_text(json.dumps(config))
    return Bundle(
        bundle_path=str(source),
        rootfs_path=str(rootfs),
        oci_version=str(config.get("ociVersion", "")),
        args=list(config["process"].get("args", [])),
        cgroup=linux["cgroupsPath"],
        shares_pid_namespace=not _has_own_pid_namespace(linux),
    )


def read_config(bundle: Path) -> dict[str, Any]:
    """A bundle's config.json. Raises bundle_invalid, saying what is wrong with it."""
    path = bundle / "config.json"
    if not bundle.is_absolute():
        raise error("bundle_invalid", f"bundle {str(bundle)!r} is not an absolute path", bundle=str(bundle))
    try:
        if path.stat().st_size > FRAME_BYTES_MAX:
            raise error("bundle_invalid", f"{path} is larger than {FRAME_BYTES_MAX} bytes", bundle=str(bundle))
        config = json.loads(path.read_bytes())
    except OSError as why:
        raise error("bundle_invalid", f"{path}: {why.strerror}", bundle=str(bundle)) from why
    except (ValueError, RecursionError) as why:
        raise error("bundle_invalid", f"{path} is not JSON: {why}", bundle=str(bundle)) from why
    _check_shape(config, path)
    return config  # type: ignore[no-any-return]


def _check_shape(config: Any, path: Path) -> None:
    """What we and the runtime rely on; the rest is the runtime's to judge."""
    expected = {"process": dict, "root": dict}
    if not isinstance(config, dict):
        raise error("bundle_invalid", f"{path} holds no object", bundle=str(path.parent))
    for member, kind in expected.items():
        if not isinstance(config.get(member), kind):
            raise error("bundle_invalid", f"{path} has no `{member}` object", bundle=str(path.parent))
    if not isinstance(config["root"].get("path"), str):
        raise error("bundle_invalid", f"{path} has no root.path", bundle=str(path.parent))
    args = config["process"].get("args")
    if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
        raise error("bundle_invalid", f"{path} has no process.args (a list of strings)", bundle=str(path.parent))
    if not isinstance(config.get("linux", {}), dict):
        raise error("bundle_invalid", f"{path}: `linux` is no object", bundle=str(path.parent))


def _rootfs(config: dict[str, Any], source: Path) -> Path:
    rootfs = source / str(config["root"]["path"])
    if not rootfs.is_dir():
        raise error("bundle_invalid", f"rootfs {rootfs} is not a directory", rootfs=str(rootfs))
    return rootfs


def _resolve_binds(config: dict[str, Any], source: Path) -> None:
    """A bind mount may name its source relative to the bundle: the runtime would look for it beside our copy of config.json."""
    mounts = config.get("mounts")
    for mount in mounts if isinstance(mounts, list) else []:
        if isinstance(mount, dict) and is_bind(mount) and isinstance(named := mount.get("source", ""), str):
            mount["source"] = os.path.normpath(source / named)


def _has_own_pid_namespace(linux: dict[str, Any]) -> bool:
    namespaces = linux.get("namespaces") or []
    return any(isinstance(one, dict) and one.get("type") == "pid" and not one.get("path") for one in namespaces)


def exec_process(bundle: Path, spec: OciProcess, user: dict[str, Any] | None, *, tty: bool, rows: int, columns: int) -> dict[str, Any]:
    """The OCI process object for an exec: the container's own, with what the spec says in place of it. user: None: the container's."""
    base: dict[str, Any] = dict(json.loads((bundle / "config.json").read_bytes())["process"])
    base.pop("consoleSize", None)
    base.update(args=spec.args, terminal=tty, env=with_term([*base.get("env", []), *spec.env], tty=tty))
    if tty:
        base["consoleSize"] = {"height": rows, "width": columns}
    if spec.cwd:
        base["cwd"] = spec.cwd
    if user is not None:
        base["user"] = user
    base.update(spec.oci)
    base["oomScoreAdj"] = spec.oci.get("oomScoreAdj", base.get("oomScoreAdj", 0))
    return base
