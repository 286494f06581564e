"""A real terminal: raw mode, sizes, detach keys."""

import os
import signal

import pytest

from corral_testkit.cli import Terminal, Up

pytestmark = pytest.mark.runc


def test_a_shell_on_a_terminal_has_its_size_and_follows_it(up: Up) -> None:
    with Terminal(
        "run", "-it", "--rm", "-g", "g1", "--rootfs", up.rootfs, "sh", environment=up.environment, rows=30, columns=100
    ) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"tty >/dev/null && stty size; echo $TERM\r")
        terminal.expect(b"30 100\r\n")
        terminal.expect(b"xterm")
        terminal.resize(44, 132)
        terminal.type(b"sleep 0.9; stty size\r")
        terminal.expect(b"44 132\r\n", within_s=5)
        terminal.type(b"exit 3\r")
        assert terminal.end() == 3


def test_exec_it_gives_a_shell_that_hears_of_a_resize_within_a_second(up: Up) -> None:
    path = up.background("sleep", "60")
    # Without job control the shell and its children are one process group, the one that the terminal signals.
    program = "trap 'stty size' WINCH; echo set; while :; do sleep 0.05; done"
    with Terminal("exec", "-it", path, "sh", "-c", program, environment=up.environment, rows=20, columns=70) as terminal:
        terminal.expect(b"set\r\n")
        terminal.resize(50, 140)
        terminal.expect(b"50 140\r\n", within_s=1.0)
        terminal.type(b"\x03")
        assert terminal.end() == 130
    up.corral("rm", "-f", path)


def test_keys_go_through_raw_and_the_terminal_is_as_before_afterwards(up: Up) -> None:
    with Terminal("run", "-it", "--rm", "-g", "g1", "--rootfs", up.rootfs, "sh", environment=up.environment) as terminal:
        before = terminal.mode()
        terminal.expect(b"# ")
        assert terminal.mode() != before
        terminal.type(b"echo sl'e'eps; sleep 50\r")
        terminal.expect(b"sleeps\r\n")
        terminal.type(b"\x03")
        terminal.expect(b"# ")
        terminal.type(b"echo status $?; exit\r")
        terminal.expect(b"status 130\r\n")
        # The shell's own last status is what it exits with.
        assert terminal.end() == 0
        assert terminal.mode()[:4] == before[:4]


def test_detach_keys_leave_it_running_and_attach_joins_again(up: Up) -> None:
    with Terminal("run", "-it", "-g", "g1", "--name", "shell", "--rootfs", up.rootfs, "sh", environment=up.environment) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"left=behind\r")
        terminal.expect(b"# ")
        terminal.type(b"\x10\x11")
        terminal.expect(b"detached from g1/shell, which goes on")
        assert terminal.end() == 0
    with Terminal("attach", "g1/shell", environment=up.environment, rows=33, columns=111) as terminal:
        terminal.type(b"echo it is $left; stty size\r")
        terminal.expect(b"it is behind\r\n")
        terminal.expect(b"33 111\r\n")
        terminal.type(b"exit 6\r")
        assert terminal.end() == 6
    up.corral("rm", "g1/shell")


def test_a_terminal_that_is_hung_up_detaches(up: Up) -> None:
    terminal = Terminal("run", "-it", "-g", "g1", "--name", "hung-up", "--rootfs", up.rootfs, "sh", environment=up.environment)
    terminal.expect(b"# ")
    os.close(terminal.master)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0
    # sh is the init of its pid namespace, which an unhandled SIGHUP does not end.
    assert up.corral("inspect", "--format", "{status}", "g1/hung-up").stdout == "running\n"
    up.corral("rm", "-f", "g1/hung-up")


def test_a_terminal_that_is_hung_up_detaches_also_where_the_signal_of_it_is_ignored(up: Up) -> None:
    terminal = Terminal(
        *("run", "-it", "-g", "g1", "--name", "nohup", "--rootfs", up.rootfs, "sh"), environment=up.environment, hang_up=signal.SIG_IGN
    )
    terminal.expect(b"# ")
    os.close(terminal.master)
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0
    assert up.corral("inspect", "--format", "{status}", "g1/nohup").stdout == "running\n"
    up.corral("rm", "-f", "g1/nohup")


def test_other_detach_keys_can_be_chosen(up: Up) -> None:
    with Terminal(
        "run", "-it", "--detach-keys", "ctrl-x", "-g", "g1", "--name", "keys", "--rootfs", up.rootfs, "sh", environment=up.environment
    ) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"\x18")
        assert terminal.end() == 0
    up.corral("rm", "-f", "g1/keys")


def test_t_alone_gives_the_process_a_terminal_without_our_input(up: Up) -> None:
    done = up.run("-t", "--rm", "sh", "-c", "test -t 1 && echo a terminal")
    assert (done.returncode, done.stdout) == (0, "a terminal\r\n")


def test_lists_on_a_terminal_are_tables_and_no_color_is_heard(up: Up) -> None:
    path = up.background("sleep", "60", flags=("--name", "shown"))
    with Terminal("ps", environment=up.environment, columns=160) as terminal:
        assert terminal.end() == 0
        assert b"CONTAINER" in terminal.shown
        assert b"g1/shown" in terminal.shown
        assert b"\x1b[" in terminal.shown
    with Terminal("ps", environment={**up.environment, "NO_COLOR": "1"}, columns=160) as terminal:
        assert terminal.end() == 0
        assert b"\x1b[3" not in terminal.shown
    with Terminal("guests", environment=up.environment, columns=160) as terminal:
        assert terminal.end() == 0
        assert b"up" in terminal.shown
    up.corral("rm", "-f", path)
