"""Fixtures by subject, and what the machine is, in the header of the run."""

from __future__ import annotations

import os
import platform

pytest_plugins = ["fix_server", "fix_hub"]


def pytest_report_header() -> str:
    """What the tests run on."""
    where = os.environ.get("PGHOST", "no server (integration tests are skipped)")
    return f"server: {where}; python {platform.python_version()}; {os.cpu_count()} cores"
