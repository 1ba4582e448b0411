"""The marker ``needs``: a test names the real parts that it uses, and is skipped with a way to get them.

``MESHDNS_REQUIRE`` turns the skip into a failure: ``all``, or the names of parts with commas between them.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.parts import PARTS

# How long an example takes says how busy the machine is. What Hypothesis chooses by itself, in CI too, stays.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse words that are no part's name: such a test would never run anywhere."""
    unknown = {
        f"{item.nodeid}: needs({name!r})"
        for item in items
        for marker in item.iter_markers("needs")
        for name in marker.args
        if name not in PARTS
    }
    if unknown:
        raise pytest.UsageError("\n".join((*sorted(unknown), f"the parts are {', '.join(PARTS)} (tests/parts.py)")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail before any fixture of the test is made."""
    names = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in dict.fromkeys(names) if not PARTS[name].present()]
    if not missing:
        return
    reason = "needs " + ", ".join(f"{name}: {PARTS[name].hint}" for name in missing)
    required = set(os.environ.get("MESHDNS_REQUIRE", "").split(","))
    if "all" in required or required.intersection(missing):
        pytest.fail(f"{reason} (MESHDNS_REQUIRE={os.environ['MESHDNS_REQUIRE']})", pytrace=False)
    pytest.skip(reason)
