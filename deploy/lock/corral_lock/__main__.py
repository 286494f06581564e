"""python -m corral_lock check | install | renew [NAME …] | lowest | latest"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from corral_lock import environments, locks


def main(words: Sequence[str]) -> int:
    match list(words):
        case ["check"]:
            locks.check()
        case ["install"]:
            environments.install()
        case ["renew", *names]:
            environments.renew(names)
        case ["lowest" | "latest" as kind]:
            environments.make_other(kind)
        case _:
            sys.stderr.write(f"usage: {__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except locks.LockError as error:
        sys.stderr.write(f"lock: {error}\n")
        sys.exit(1)
