"""A few cycles, as `make cycles` does them by the thousand."""

from __future__ import annotations

import pytest

from chaos.cycles import JOBS, cycles, report

CYCLES = 40


@pytest.mark.guarantee(20)
@pytest.mark.runc
@pytest.mark.timeout(180)
def test_containers_made_used_and_deleted_leave_nothing_and_no_part_of_corral_grows() -> None:
    findings = cycles(CYCLES, until_tidied=False)
    print(report(findings, JOBS))
    assert findings.judge() == []
    assert {part: len(samples) for part, samples in findings.samples.items()} == dict.fromkeys(("worker", "broker", "zygote"), 10)
