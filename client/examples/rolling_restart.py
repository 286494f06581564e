"""An orchestrator: replaces one container in many guests, a few at a time, and puts the old one back where the new one is not healthy.

    python client/examples/rolling_restart.py role=web app v2 --rootfs /srv/app-v2 --health 'test -e /tmp/ready' -- serve

In each guest that the selector means, app-v2 is started, and the health check runs in it until it succeeds; then every other app-*
is stopped and deleted. Where the check does not succeed in time, app-v2 is deleted, and the old one has never stopped. When more than
--failures guests have failed, no further guest is touched. Exit status 0 when every guest was moved.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass

from corral import AsyncClient, ContainerSpec, CorralError
from corral.container import Container
from corral.guest import Guest

CHECK_PAUSE_S = 0.2


class UnhealthyError(Exception):
    """The new container did not become healthy, and is gone again."""


@dataclass(frozen=True)
class Rollout:
    """What is to be put where."""

    name: str
    version: str
    spec: ContainerSpec
    health: str
    patience_s: float

    async def move(self, guest: Guest) -> str:
        """Old out, new in; what was done, in words. Raises UnhealthyError, CorralError."""
        replacement = await guest.run(f"{self.name}-{self.version}", spec=self.spec)
        try:
            await self._until_healthy(replacement)
        except BaseException:
            await replacement.delete(force=True)  # roll back: the old one still serves
            raise
        old = await self._running(guest, but=replacement)
        for container in old:
            await container.stop()
            await container.delete()
        return f"{replacement.name} in place of {', '.join(container.name for container in old) or 'nothing'}"

    async def _running(self, guest: Guest, but: Container) -> list[Container]:
        states = (await guest.list()).containers
        mine = [state for state in states if state.id.startswith(f"{self.name}-") and state.instance != but.instance]
        return [guest.container(state.id, state.instance) for state in mine]

    async def _until_healthy(self, container: Container) -> None:
        try:
            async with asyncio.timeout(self.patience_s):
                while True:
                    if (await container.run(["sh", "-c", self.health])).returncode == 0:
                        return
                    await asyncio.sleep(CHECK_PAUSE_S)
        except TimeoutError:
            raise UnhealthyError(f"not healthy after {self.patience_s:g} s") from None
        except CorralError as why:
            raise UnhealthyError(f"it does not run: {why}") from why


async def roll(client: AsyncClient, select: str, rollout: Rollout, window: int, failures_max: int) -> list[str]:
    """Moves every guest selected; the guests that failed."""
    failed: list[str] = []

    async def move(guest: Guest) -> str:
        if len(failed) > failures_max:
            return "left alone: too many have failed"
        try:
            return await rollout.move(guest)
        except UnhealthyError as why:
            failed.append(guest.name)
            return f"rolled back: {why}"

    async for mapped in client.map(select, move, window=window):
        if not mapped.ok:
            failed.append(mapped.guest)
        sys.stdout.write(f"{mapped.guest}: {mapped.value if mapped.ok else mapped.error}\n")
        sys.stdout.flush()
    return failed


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Replace a container in many guests, a few at a time.")
    parser.add_argument("select", help="which guests: role=web, web-*, all")
    parser.add_argument("name", help="the service; its containers are NAME-VERSION")
    parser.add_argument("version", help="the version that is to run")
    parser.add_argument("--rootfs", required=True, help="root file system of the new version, in the guests")
    parser.add_argument("--health", default="true", help="shell command in the container that succeeds once it is healthy")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until it must be healthy")
    parser.add_argument("--window", type=int, default=2, help="guests at a time")
    parser.add_argument("--failures", type=int, default=0, help="so many guests may fail before the rest are left alone")
    parser.add_argument("--broker", help="broker address; default as for the `corral` command")
    parser.add_argument("program", nargs="+", help="what the new container runs, after --")
    given = parser.parse_args()
    spec = ContainerSpec(rootfs=given.rootfs, args=given.program)
    rollout = Rollout(given.name, given.version, spec, given.health, given.patience)

    async def work() -> list[str]:
        async with AsyncClient(given.broker) as client:
            return await roll(client, given.select, rollout, given.window, given.failures)

    return 1 if asyncio.run(work()) else 0


if __name__ == "__main__":
    sys.exit(main())
