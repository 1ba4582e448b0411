"""One door for each library, and no I/O where rules stand: read from every module's own imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "meshdns"


def imported(path: Path) -> set[str]:
    """Give the roots of what the module at *path* imports, anywhere in it."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


MODULES = {path.relative_to(PACKAGE).as_posix(): imported(path) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("dnslib", ["wire/"]),
        ("lmdb", ["store/"]),
        ("grpc", ["xds/client.py", "publisher/server.py"]),
        ("google", ["xds/decode/", "publisher/resources/"]),
        ("envoy", ["xds/decode/", "publisher/resources/"]),
        ("asyncio_dgram", ["transport/udp.py", "upstream/exchange.py"]),
        ("cachetools", ["upstream/cache.py"]),
        ("ctypes", ["processes/spare_memory.py", "transport/mmsg.py"]),
        ("kubernetes", ["kubernetes/client.py"]),
    ],
)
def test_a_library_has_one_door(library: str, doors: list[str]) -> None:
    inside = [module for module, roots in MODULES.items() if library in roots]
    assert [module for module in inside if not module.startswith(tuple(doors))] == []


RULES = [
    "zone/", "wire/", "inventory/",
    "resolver/admission.py", "resolver/rate_limit.py", "resolver/answer.py",
    "upstream/asking.py", "upstream/checking.py", "upstream/line.py", "upstream/outstanding.py",
    "upstream/replying.py", "upstream/selection.py", "upstream/special.py",
    "xds/session.py", "xds/decode/", "xds/backoff.py",
    "store/difference.py", "store/guard.py", "store/merge.py",
    "publisher/session.py", "publisher/names.py", "publisher/vips.py",
]  # fmt: skip
EFFECTS = {"asyncio", "threading", "selectors", "select", "subprocess", "random", "secrets", "multiprocessing", "http"}


@pytest.mark.parametrize("rule", RULES)
def test_where_rules_stand_nothing_waits_sends_or_draws(rule: str) -> None:
    inside = {module: roots for module, roots in MODULES.items() if module.startswith(rule)}
    assert inside, rule
    assert {module: roots & EFFECTS for module, roots in inside.items() if roots & EFFECTS} == {}


CALLS = {("time", "time"), ("time", "monotonic"), ("socket", "socket"), ("os", "environ"), ("os", "getenv")}


@pytest.mark.parametrize("rule", RULES)
def test_where_rules_stand_no_clock_is_read_and_no_socket_made(rule: str) -> None:
    """A clock may be named as what an argument is when nobody gives one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.relative_to(PACKAGE).as_posix().startswith(rule):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                assert not (isinstance(owner, ast.Name) and (owner.id, node.func.attr) in CALLS), (path, node.lineno)
