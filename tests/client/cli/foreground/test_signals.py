"""Who insists, and signals that come while a process is being made."""

import asyncio
import os
import signal

import click
import pytest

from corral.cli.foreground.signals import Insistence, SignalInbox


def test_three_within_two_seconds_insist() -> None:
    insistence = Insistence()
    assert [insistence.add(signal.SIGINT, now) for now in (0.0, 0.5, 1.9)] == [False, False, True]


def test_three_within_a_longer_time_do_not() -> None:
    insistence = Insistence()
    assert [insistence.add(signal.SIGTERM, now) for now in (0.0, 1.5, 3.0, 4.5)] == [False] * 4


def test_other_signals_are_no_insistence() -> None:
    insistence = Insistence()
    assert [insistence.add(signal.SIGUSR1, now) for now in (0.0, 0.1, 0.2)] == [False] * 3


def test_signals_that_come_while_it_is_made_are_kept_for_the_process() -> None:
    async def scenario() -> tuple[str, int]:
        with SignalInbox(passed_on=True) as inbox:

            async def making() -> str:
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(0.05)  # lets the loop see the signal
                return "made"

            made = await inbox.during(making(), "it")
            return made, (await inbox.next())[0]

    assert asyncio.run(scenario()) == ("made", signal.SIGUSR1)


def test_insisting_while_it_is_made_gives_up_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        with SignalInbox(passed_on=True) as inbox:

            async def making() -> None:
                for _ in range(3):
                    os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.sleep(0.05)  # pending signals of one number are one
                await asyncio.Event().wait()

            await inbox.during(making(), "g1/web")

    with pytest.raises(click.exceptions.Exit) as given_up:
        asyncio.run(scenario())
    assert given_up.value.exit_code == 130
    assert "gave up on g1/web" in capsys.readouterr().err


def test_an_ignored_signal_stays_ignored() -> None:
    async def scenario() -> bool:
        with SignalInbox(passed_on=True):
            return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert asyncio.run(scenario())
    finally:
        signal.signal(signal.SIGHUP, before)
