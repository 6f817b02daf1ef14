"""The database of time zones is the system's; who has none is told what to install."""

from __future__ import annotations

import subprocess
import sys


def test_a_machine_without_time_zones_is_told() -> None:
    script = """
import sys, zoneinfo
sys.modules["tzdata"] = None
zoneinfo.reset_tzpath([])
from eparch.core.deployments import CronSchedule
from eparch.core.errors import ScheduleInvalid
from eparch.core.schedules import check
try:
    check(CronSchedule(cron="0 6 * * *", timezone="Europe/Oslo"))
except ScheduleInvalid as error:
    print(error.message, error.why, error.fix)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "There is no time zone 'Europe/Oslo'." in done.stdout
    assert "no database of time zones" in done.stdout
    assert "pip install tzdata" in done.stdout
