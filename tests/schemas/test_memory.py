"""Memory kept for large messages goes back to the kernel when they stop."""

import subprocess
import sys

from corral_schemas.memory import KeptMemory

ONE_TO_ANOTHER = """
import resource, threading
from corral_schemas.memory import give_back, keep_large_blocks

def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
def message(): bytearray(1 << 20)

keep_large_blocks()
counts = []
def thread():
    for _ in range(50):
        before = faults()
        message()
        counts.append(faults() - before)
running = threading.Thread(target=thread)
running.start(); running.join()
several = [bytearray(1 << 20) for _ in range(32)]
del several
kept = resident()
give_back()
print(sorted(counts)[25], kept - resident())
"""


def test_a_message_uses_the_memory_of_the_last_one_in_every_thread_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", ONE_TO_ANOTHER], capture_output=True, text=True, check=True, timeout=30)
    faults, given_back_kib = map(int, done.stdout.split())
    assert faults < 10, "a fresh mapping of 1 MiB costs 256 page faults"
    assert given_back_kib > 20 << 10


def test_it_is_given_back_once_after_five_quiet_seconds() -> None:
    given: list[float] = []
    memory = KeptMemory(lambda: given.append(now_s))
    for now_s, size_bytes in [(0.0, 100), (10.0, 1 << 20), (14.0, 100), (14.5, 1 << 20), (19.0, 100), (19.5, 100), (40.0, 100)]:
        memory.used(size_bytes, now_s)
        memory.turn(now_s)
    assert given == [19.5]
