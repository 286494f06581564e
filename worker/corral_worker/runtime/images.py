"""A spec made whole with what the image it names says: docker's rules for entrypoint, command, environment, user and directory."""

import msgspec

from corral_schemas.containers import ContainerSpec
from corral_schemas.errors import error
from corral_worker.bundle_store.store import Image


def may_need_layer(spec: ContainerSpec) -> bool:
    """Whether the container gets a layer of its own if the guest can mount one."""
    return spec.overlay or bool(spec.image)


def needs_layer(spec: ContainerSpec, *, overlays: bool) -> bool:
    """Whether the container gets a layer of its own. A bundle is never written to: what may write gets one.

    A read-only container gets one too, where it costs no copy: the runtime makes the places of mounts in it.
    """
    return spec.overlay or (overlays and bool(spec.image))


def resolved_spec(spec: ContainerSpec, image: Image | None) -> ContainerSpec:
    """The spec with a rootfs and a program, whatever it was made from. Raises bad_request."""
    if bool(spec.rootfs) == (image is not None):
        raise error("bad_request", "a spec names a rootfs or an image: give exactly one of them")
    given = spec.entrypoint if spec.entrypoint is not None else []
    if image is None:
        program = [*given, *spec.args]
        _check_program(program, "the spec names no program")
        return msgspec.structs.replace(spec, args=program)
    config = image.config
    entrypoint = config.entrypoint if spec.entrypoint is None else given
    # an entrypoint of the spec's own takes the image's arguments away with the image's entrypoint
    program = [*entrypoint, *(spec.args or (config.cmd if spec.entrypoint is None else []))]
    _check_program(program, f"neither the spec nor the image {spec.image} says what to run")
    return msgspec.structs.replace(
        spec,
        rootfs=str(image.rootfs),
        args=program,
        env=merged_env(config.env, spec.env),
        cwd=spec.cwd or config.cwd,
        user=spec.user or config.user,
        overlay=spec.overlay or spec.writable,
        writable=False,
    )


def merged_env(first: list[str], then: list[str]) -> list[str]:
    """Variables of both; a later one replaces an earlier one of its name, in that one's place."""
    found = {text.partition("=")[0]: text for text in first}
    found |= {text.partition("=")[0]: text for text in then}
    return list(found.values())


def _check_program(program: list[str], why: str) -> None:
    if not program or not program[0]:
        raise error("bad_request", f"{why}; give args")
