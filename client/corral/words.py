"""Names for containers and execs that nobody named."""

import secrets

_HOW = """
brave calm clever bright eager fair gentle happy keen kind lively lucky merry mild neat noble proud quick quiet ready sharp shy
sunny swift tame tidy warm wild wise witty
""".split()  # noqa: SIM905 - a list in quotes is easier to read and to mend
_WHO = """
otter badger beaver bison crane deer dolphin falcon ferret finch fox gecko hare heron ibex jackal koala lark lemur lynx marmot
mole newt panda puffin raven robin seal stoat swan tapir trout vole wombat wren
""".split()  # noqa: SIM905


def generated_name() -> str:
    """A container name such as `brave-otter-3f2a9c`; names may collide, instances never do."""
    return f"{secrets.choice(_HOW)}-{secrets.choice(_WHO)}-{secrets.token_hex(3)}"


def generated_exec() -> str:
    """An exec id such as `exec-5d0c9a31`."""
    return f"exec-{secrets.token_hex(4)}"


def new_request_id() -> str:
    """A request id nobody else has: 128 random bits."""
    return secrets.token_hex(16)
