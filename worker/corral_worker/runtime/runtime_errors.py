"""What the runtime says → our codes. One table for all verbs; unknown text is runtime_failed with the text kept."""

import re

from corral_schemas.errors import CorralError, error

_TEXTS: tuple[tuple[str, str], ...] = (
    (r"container with given ID already exists|container with id exists|container `[^`]*` already exists", "container_already_exists"),
    (r"container (`[^`]*` |\S+ )?does not exist|error opening file `[^`]*/status`: No such file", "container_not_found"),
    (r"cannot start an already running container|container still running", "container_still_running"),
    (r"cannot start a container in the paused state", "container_still_running"),
    (r"cannot start a container that has (stopped|run and stopped)", "container_not_running"),
    (r"cannot exec in a paused container|container paused$|container `[^`]*` is paused", "container_invalid_state"),
    (r"cannot open `[^`]*/exec\.fifo`: No such file", "container_invalid_state"),
    (r"cannot exec in a stopped container|cannot exec a container that has (stopped|run and stopped)", "container_not_running"),
    (r"container not paused|container .* is not paused|not paused", "container_invalid_state"),
    (r"container not running( or created)?|container .* is not running|container is not running", "container_not_running"),
    (r"cannot delete container .* that is not stopped|is not in `created` or `stopped` state", "container_not_stopped"),
    (r"invalid id format|invalid container id|container id cannot be empty|in the container id `", "invalid_container_id"),
    (r"chdir to cwd|^chdir (to )?`|cwd must be an absolute path", "bad_request"),
    (r"exec: .*(executable file not found|no such file or directory)|executable file .*not found", "command_not_found"),
    (r"exec: .*(permission denied|is a directory)|exec format error|open executable: ", "command_not_executable"),
    (r"^the path `[^`]*` (exists but it is not executable|is not a regular file)", "command_not_executable"),
    (r"rootfs[` ].*(does not exist|no such file or directory)|invalid rootfs", "bundle_invalid"),
    (r"config\.json|JSON specification file|error loading .*spec|json: cannot unmarshal", "bundle_invalid"),
    (r"no space left on device", "storage_full"),
    (r"too many open files|resource temporarily unavailable|cannot allocate memory", "resource_exhausted"),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), code) for pattern, code in _TEXTS)


def code_for(text: str) -> str:
    """The code for a runtime's error text (runc 1.1 to 1.3, crun 1.x)."""
    for pattern, code in _COMPILED:
        if pattern.search(text):
            return code
    return "runtime_failed"


def error_for(text: str, exit_status: int | None) -> CorralError:
    return error(code_for(text), text or f"the runtime ended with status {exit_status} and said nothing", exit_status=exit_status)
