"""Linting: each wrong manifest is found at its line, what can be corrected is, and nothing else moves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from meshdns.inventory.record import Table
from meshdns.kubernetes.finding import RULES
from meshdns.kubernetes.lint import fix, lint
from meshdns.kubernetes.manifest_nodes import ManifestFile
from meshdns.kubernetes.served import Served
from tests.kubernetes import mesh

MANIFESTS = mesh.DATA / "manifests"
RIGHT = sorted(path for folder in ("right", "documented") for path in (MANIFESTS / folder).iterdir())

NAME = """\
# written by hand, keep me
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: edge}   # ours
spec:
    type: ExternalName
    externalName:  %s   # the mesh's echo
"""
PORTS = NAME + "    ports: [%s]\n"
BLOCK_PORTS = (
    NAME + "    ports:\n    - name: first   # 1\n      port: %s\n    -   name: second\n        port: %s  # 2\n"
)
INGRESS = """\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: echo, namespace: edge}
spec:
  rules:
  - http:
      paths:
      - path: /echo
        pathType: Prefix
        backend:
          service:
            name: echo
            port: {%s}   # as the Service has it
"""
ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: edge}
spec:
  rules:
  - backendRefs:
    - name: echo
      port: %s
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: echo, port: %s}}
"""
OTHER = """\
---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {type: ExternalName, externalName: %s}
"""
ECHO = "echo.default.svc.80.mesh"


@dataclass(frozen=True)
class Wrong:
    """found: rule by line. says: what a message or remedy has in it.

    becomes: text by line, None where the line goes; without it nobody can know what is right.
    """

    title: str
    text: str
    found: tuple[tuple[int, str], ...]
    says: str
    becomes: Mapping[int, str | None] | None = None


def line(value: str) -> dict[int, str]:
    return {7: f"    externalName:  {value}   # the mesh's echo"}


WRONG = [
    # the name: how it is written
    Wrong("underscores", NAME % "echo_default_svc_80.mesh", ((7, "underscore"),), f"write {ECHO}", line(ECHO)),
    Wrong("some underscores", NAME % "echo_default.svc.80.mesh", ((7, "underscore"),), f"write {ECHO}", line(ECHO)),
    Wrong("underscores in quotes", NAME % "'my_svc.mesh'", ((7, "underscore"),), "my.svc.mesh", line("'my.svc.mesh'")),
    Wrong("capitals", NAME % "Echo.Default.svc.80.MESH", ((7, "upper-case"),), f"write {ECHO}", line(ECHO)),
    Wrong("capitals as pushed", NAME % "Legacy.App.mesh", ((7, "upper-case"),), "capitals", line("legacy.app.mesh")),
    Wrong("capitals on the internet", NAME % "WWW.example.org", ((7, "upper-case"),), "", line("www.example.org")),
    Wrong("final dot", NAME % f"{ECHO}.", ((7, "trailing-dot"),), "Host and SNI", line(ECHO)),
    Wrong(
        "everything at once",
        NAME % '"Echo_Default_svc_80.mesh."',
        ((7, "trailing-dot"), (7, "upper-case"), (7, "underscore")),
        f"write {ECHO}",
        line(f'"{ECHO}"'),
    ),
    Wrong("a URL", NAME % f"http://{ECHO}:80/bar", ((7, "invalid-name"),), f"write {ECHO}", line(ECHO)),
    Wrong("a port behind the name", NAME % f"{ECHO}:80", ((7, "invalid-name"),), "no scheme, port", line(ECHO)),
    Wrong("a blank at the end", NAME % f"'{ECHO} '", ((7, "invalid-name"),), "blanks", line(f"'{ECHO}'")),
    Wrong(
        "a block of text",
        NAME.replace("  %s   # the mesh's echo\n", " |\n      %s\n") % ECHO,
        ((7, "invalid-name"),),
        "blanks",
        {7: f"    externalName: {ECHO}", 8: None},
    ),
    Wrong(
        "a block of text with a comment",
        NAME.replace("  %s   # the mesh's echo\n", " >-  # ours\n      %s\n") % "my_svc.mesh",
        ((7, "underscore"),),
        "",
        {7: "    externalName: my.svc.mesh  # ours", 8: None},
    ),
    Wrong("behind an anchor", NAME % "&x !!str my_ext.mesh", ((7, "underscore"),), "", line("&x !!str my.ext.mesh")),
    # the name: an address
    Wrong("a VIP", NAME % "240.0.0.3", ((7, "ip-literal"),), f"write {ECHO}", line(ECHO)),
    Wrong("a VIP in a URL", NAME % "http://240.0.0.3:80/", ((7, "ip-literal"),), f"write {ECHO}", line(ECHO)),
    Wrong("an IPv6 address of a VIP", NAME % '"::ffff:f000:3"', ((7, "ip-literal"),), "", line(f'"{ECHO}"')),
    Wrong("an IPv6 address and a port", NAME % "'[fd00::1]:80'", ((7, "ip-literal"),), "fd00::1 is an address"),
    Wrong("an address of nobody", NAME % "192.0.2.1", ((7, "ip-literal"),), "EndpointSlice"),
    Wrong("an address with a final dot", NAME % "192.0.2.1.", ((7, "ip-literal"),), "EndpointSlice"),
    # the name: no such thing
    Wrong("an unknown name", NAME % "echo.defualt.svc.80.mesh", ((7, "unknown-name"),), f"the nearest: {ECHO}"),
    Wrong("a name without its port", NAME % "echo.default.svc.mesh", ((7, "unknown-name"),), ECHO),
    Wrong("the zone", NAME % "mesh", ((7, "unknown-name"),), "mesh is not served"),
    Wrong("a name above others", NAME % "default.svc.80.mesh", ((7, "unknown-name"),), "not served"),
    Wrong(
        "a removed name",
        NAME % "cart.default.svc.80.mesh",
        ((7, "removed-name"),),
        "source kuma removed it at 2026-11-18 11:06:40 UTC, version de5adb2e-1057-4bda-af11-0f410e30a70c",
    ),
    Wrong(
        "a removed name with a dot",
        NAME % "cart.default.svc.80.mesh.",
        ((7, "trailing-dot"), (7, "removed-name")),
        "removed it",
    ),
    Wrong("underscores only", NAME % "under_score.mesh", ((7, "underscore"),), "under.score.mesh is not served; give"),
    Wrong(
        "underscores of another", NAME % "a_b.mesh", ((7, "underscore"),), "a.b.mesh is served, but leads to another"
    ),
    Wrong(
        "underscores and unknown",
        NAME % "no_such.mesh",
        ((7, "underscore"), (7, "unknown-name")),
        "no.such.mesh is not served either",
    ),
    Wrong("a wildcard", NAME % '"*.wild.mesh"', ((7, "invalid-name"),), "a wildcard is no name"),
    Wrong(
        "blanks inside", NAME % "echo default.mesh", ((7, "invalid-name"), (7, "unknown-name")), "lower-case letters"
    ),
    Wrong("a label too long", NAME % f"{'a' * 64}.example", ((7, "invalid-name"),), "64 octets, the limit is 63"),
    Wrong(
        "a name too long", NAME % ("a." * 126 + "mesh"), ((7, "invalid-name"), (7, "unknown-name")), "the limit is 253"
    ),
    Wrong(
        "no name", NAME.replace("    externalName:  %s   # the mesh's echo\n", ""), ((6, "missing-name"),), "needs an"
    ),
    Wrong("an empty name", NAME % '""', ((7, "missing-name"),), "needs an externalName"),
    Wrong("null", NAME % "~", ((7, "missing-name"),), "needs an externalName"),
    # ports
    Wrong(
        "the port that the name spells",
        PORTS % ("echo.default.svc.8080.mesh", "{port: 8080}"),
        ((8, "no-listener"),),
        "port 8080: no listener on 240.0.0.4:8080; listening: 80",
        {8: "    ports: [{port: 80}]"},
    ),
    Wrong(
        "80 where the real port is another",
        PORTS % ("web.svc.mesh.local", "{port: 80}"),
        ((8, "no-listener"),),
        "port 80: no listener on 241.0.0.2:80; listening: 9000",
        {8: "    ports: [{port: 9000}]"},
    ),
    Wrong(
        "80 at a gateway of another mesh",
        PORTS % ("internal.edge.payments.mesh", "{port: 80, name: http}"),
        ((8, "no-listener"),),
        "listening: 8080",
        {8: "    ports: [{port: 8080, name: http}]"},
    ),
    Wrong(
        "one of two ports",
        BLOCK_PORTS % ("orders.svc.mesh.local", 80, 9444),
        ((12, "no-listener"),),
        "listening: 80, 9443",
        {12: "        port: 9443  # 2"},
    ),
    Wrong(
        "two of two ports",
        BLOCK_PORTS % ("orders.svc.mesh.local", 81, 9444),
        ((10, "no-listener"), (12, "no-listener")),
        "write 80 or 9443",
    ),
    Wrong(
        "one port too many",
        PORTS % (ECHO, "{name: a, port: 80}, {name: b, port: 81}"),
        ((8, "no-listener"),),
        "take it out",
    ),
    Wrong(
        "a name that nothing listens for",
        PORTS % ("silent.mesh", "{port: 80}"),
        ((8, "no-listener"),),
        "listening: nothing",
    ),
    Wrong(
        "UDP",
        PORTS % (ECHO, "{port: 80, protocol: UDP}"),
        ((8, "protocol"),),
        "take TCP",
        {8: "    ports: [{port: 80, protocol: TCP}]"},
    ),
    Wrong(
        "UDP and TCP",
        PORTS % (ECHO, "{name: a, port: 80}, {name: b, port: 80, protocol: UDP}"),
        ((8, "protocol"),),
        "the port is there twice",
    ),
    # what leads to the Service
    Wrong(
        "an Ingress to the port that the name spells",
        NAME % "echo.default.svc.8080.mesh" + INGRESS % "number: 8080",
        ((21, "no-listener"),),
        "no listener on 240.0.0.4:8080; listening: 80",
        {21: "            port: {number: 80}   # as the Service has it"},
    ),
    Wrong(
        "an Ingress to another port than the Service's",
        PORTS % (ECHO, "{port: 80}") + INGRESS % "number: 8080",
        ((22, "backend-port"),),
        "port 8080: Service edge/echo has 80",
        {22: "            port: {number: 80}   # as the Service has it"},
    ),
    Wrong(
        "an Ingress and its Service, both wrong",
        PORTS % ("web.svc.mesh.local", "{port: 80}") + INGRESS % "number: 80",
        ((8, "no-listener"), (22, "backend-port")),
        "Service edge/echo has 9000",
        {8: "    ports: [{port: 9000}]", 22: "            port: {number: 9000}   # as the Service has it"},
    ),
    Wrong(
        "an Ingress that is right before its Service is",
        PORTS % ("web.svc.mesh.local", "{port: 80}") + INGRESS % "number: 9000",
        ((8, "no-listener"),),
        "write 9000",
        {8: "    ports: [{port: 9000}]"},
    ),
    Wrong(
        "an Ingress to a name that the one port does not have",
        PORTS % (ECHO, "{port: 80, name: http-80}") + INGRESS % "name: http",
        ((22, "backend-port-name"),),
        "port 'http': Service edge/echo has http-80",
        {22: "            port: {name: http-80}   # as the Service has it"},
    ),
    Wrong(
        "an Ingress to a name where ports have none",
        NAME % ECHO + INGRESS % "name: http",
        ((21, "backend-port-name"),),
        "names no port; write number: 80",
        {21: "            port: {number: 80}   # as the Service has it"},
    ),
    Wrong(
        "an Ingress to no port",
        NAME % ECHO + INGRESS % "",
        ((21, "backend-port"),),
        "names no port of Service edge/echo",
    ),
    Wrong(
        "an Ingress to one of several",
        PORTS % ("orders.svc.mesh.local", "{name: a, port: 80}, {name: b, port: 9443}") + INGRESS % "number: 443",
        ((22, "backend-port"),),
        "write 80 or 9443",
    ),
    Wrong(
        "an Ingress to a name of several",
        PORTS % ("orders.svc.mesh.local", "{name: a, port: 80}, {name: b, port: 9443}") + INGRESS % "name: c",
        ((22, "backend-port-name"),),
        "name a, b",
    ),
    Wrong(
        "an old Ingress",
        PORTS
        % (ECHO, "{port: 80}")
        + "---\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: echo, namespace: edge}\n"
        "spec: {backend: {serviceName: echo, servicePort: http}}\n",
        ((13, "backend-port-name"),),
        "write 80",
        {13: "spec: {backend: {serviceName: echo, servicePort: 80}}"},
    ),
    Wrong(
        "an HTTPRoute and its mirror",
        NAME % ECHO + ROUTE % (8080, 81),
        ((16, "no-listener"), (19, "no-listener")),
        "listening: 80",
        {16: "      port: 80", 19: "      requestMirror: {backendRef: {name: echo, port: 80}}"},
    ),
    # Services among each other
    Wrong("a loop of one", NAME % "echo.edge.svc.cluster.local", ((7, "loop"),), "edge/echo → edge/echo"),
    Wrong(
        "a loop of two",
        NAME % "b.other.svc.cluster.local" + OTHER % ("b", "other", "echo.edge.svc.cluster.local"),
        ((7, "loop"), (12, "loop")),
        "edge/echo → other/b → edge/echo",
    ),
    Wrong(
        "a loop behind another Service",
        NAME % "b.other.svc.k8s.example"
        + OTHER % ("b", "other", "c.other.svc.k8s.example")
        + OTHER % ("c", "other", "b.other.svc.k8s.example"),
        ((12, "loop"), (17, "loop")),
        "other/b → other/c → other/b",
    ),
    Wrong("twice", NAME % ECHO + OTHER % ("echo", "edge", "web.mesh"), ((11, "duplicate"),), "already, at case.yaml:4"),
    # forms of a file
    Wrong(
        "in a List",
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: a}, "
        "spec: {type: ExternalName, externalName: my_svc.mesh}}\n",
        ((4, "underscore"),),
        "my.svc.mesh",
        {
            4: "- {apiVersion: v1, kind: Service, metadata: {name: a}, "
            "spec: {type: ExternalName, externalName: my.svc.mesh}}"
        },
    ),
    Wrong(
        "in JSON",
        '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},\n'
        ' "spec": {"type": "ExternalName", "externalName": "My_Svc.mesh",\n'
        '          "ports": [{"port": 8080}]}}\n',
        ((2, "upper-case"), (2, "underscore"), (3, "no-listener")),
        "my.svc.mesh",
        {
            2: ' "spec": {"type": "ExternalName", "externalName": "my.svc.mesh",',
            3: '          "ports": [{"port": 80}]}}',
        },
    ),
    Wrong(
        "in JSON indented by tabs",
        '{\n\t"apiVersion": "v1",\n\t"kind": "Service",\n\t"metadata": {"name": "a"},\n'
        '\t"spec": {"type": "ExternalName",\t"externalName": "my_svc.mesh"}\n}\n',
        ((5, "underscore"),),
        "",
        {5: '\t"spec": {"type": "ExternalName",\t"externalName": "my.svc.mesh"}'},
    ),
    Wrong(
        "behind letters of several octets",
        "# ☎ 😀 ßüö\n" + NAME % "my_svc.mesh",
        ((8, "underscore"),),
        "",
        {8: "    externalName:  my.svc.mesh   # the mesh's echo"},
    ),
    Wrong(
        "through an alias",
        "kind: List\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: a}, "
        "spec: &s {type: ExternalName, externalName: my_svc.mesh}}\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: *s}\n",
        ((3, "underscore"),),
        "my.svc.mesh",
        {
            3: "- {apiVersion: v1, kind: Service, metadata: {name: a}, "
            "spec: &s {type: ExternalName, externalName: my.svc.mesh}}"
        },
    ),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with mesh.served(mesh.keep(tmp_path_factory.mktemp("kept"), mesh.usual())) as known:
        yield known


def corrected(case: Wrong) -> str:
    lines: list[str | None] = [*case.text.split("\n")]
    for number, new in (case.becomes or {}).items():
        lines[number - 1] = new
    return "\n".join(text for text in lines if text is not None)


def test_the_table_is_long_enough() -> None:
    assert len(WRONG) >= 25
    assert len(RIGHT) >= 10
    assert {rule for case in WRONG for _, rule in case.found} == set(RULES)


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.title)
def test_what_is_wrong_is_found_at_its_line(served: Served, case: Wrong) -> None:
    linted = lint([ManifestFile("case.yaml", case.text)], served)
    assert [(each.line, each.rule) for each in linted.findings] == list(case.found)
    assert any(case.says in f"{each.message}; {each.remedy}" for each in linted.findings)
    assert all(each.remedy for each in linted.findings)


@pytest.mark.parametrize("case", [case for case in WRONG if case.becomes], ids=lambda case: case.title)
def test_what_can_be_corrected_is_clean_then_and_nothing_else_moved(served: Served, case: Wrong) -> None:
    fixed = fix([ManifestFile("case.yaml", case.text)], served)
    assert fixed.files[0].text == corrected(case)
    assert fixed.left.findings == ()
    assert lint(fixed.files, served).findings == ()
    assert {(each.line, each.rule) for each in fixed.fixed} >= set(case.found)


@pytest.mark.parametrize("case", [case for case in WRONG if not case.becomes], ids=lambda case: case.title)
def test_what_only_a_person_can_know_stays_reported(served: Served, case: Wrong) -> None:
    fixed = fix([ManifestFile("case.yaml", case.text)], served)
    spelling = {"trailing-dot", "upper-case"}
    assert {each.rule for each in fixed.left.findings} == {rule for _, rule in case.found} - spelling
    assert yaml.safe_load_all(fixed.files[0].text)
    assert fixed.files == fix(fixed.files, served).files


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_what_is_right_stays_byte_for_byte(served: Served, path: Path) -> None:
    file = ManifestFile(path.name, path.read_bytes().decode())
    assert lint([file], served).findings == ()
    assert fix([file], served).files == (file,)


@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("case", [case for case in WRONG if case.becomes], ids=lambda case: case.title)
def test_other_line_endings_stay(served: Served, case: Wrong, before: str) -> None:
    fixed = fix([ManifestFile("case.yaml", before + case.text.replace("\n", "\r\n"))], served)
    assert fixed.files[0].text == before + corrected(case).replace("\n", "\r\n")


def test_all_files_are_judged_together(served: Served) -> None:
    service = ManifestFile("service.yaml", NAME % ECHO)
    ingress = ManifestFile("ingress.yaml", INGRESS % "number: 8080")
    linted = lint([ingress, service], served)
    assert [(each.path, each.line, each.rule) for each in linted.findings] == [("ingress.yaml", 14, "no-listener")]


def test_a_namespace_is_that_of_the_caller_where_none_is_named(served: Served) -> None:
    text = NAME.replace(", namespace: edge", "") % ECHO + INGRESS % "number: 8080"
    assert lint([ManifestFile("a.yaml", text)], served).findings == ()
    assert len(lint([ManifestFile("a.yaml", text)], served, namespace="edge").findings) == 1


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: [\n", 3, "not YAML: "),
        ("a: {{ .name }}-b\nb: 1\n", 1, "not YAML: "),
        ("a: 1\n---\nb: 'open\n", 4, "not YAML: "),
        ("a: 1\nb: \x00\n", 2, "U+0000"),
        ("[" * 600 + "]" * 600, None, "nested too deeply"),
        ("a: *nowhere\n", 1, "not YAML: "),
    ],
    ids=["open", "template", "second document", "control character", "deep", "alias"],
)
def test_what_is_not_yaml_is_named_and_the_rest_is_judged(
    served: Served, text: str, line: int | None, problem: str
) -> None:
    bad, good = ManifestFile("bad.yaml", text), ManifestFile("good.yaml", NAME % "my_svc.mesh")
    linted = lint([bad, good], served)
    assert [each.rule for each in linted.findings] == ["underscore"]
    (error,) = linted.unusable
    assert (error.path, error.faults[0].line) == ("bad.yaml", line)
    assert problem in str(error)
    assert fix([bad, good], served).files == (bad, ManifestFile("good.yaml", NAME % "my.svc.mesh"))


def test_a_mapping_that_holds_itself_ends(served: Served) -> None:
    text = "&a\nkind: List\nitems: [*a, *a]\n<<: *a\n"
    assert lint([ManifestFile("a.yaml", text)], served).findings == ()


def test_services_that_are_named_when_they_are_made_are_judged(served: Served) -> None:
    text = (NAME % "my_svc.mesh").replace("name: echo", "generateName: echo-")
    assert [each.rule for each in lint([ManifestFile("a.yaml", f"{text}---\n{text}")], served).findings] == [
        "underscore",
        "underscore",
    ]


def test_before_a_source_has_delivered_unknown_names_say_so(tmp_path: Path) -> None:
    pushes = [("extra", "sha", mesh.table(mesh.record("web.mesh", "10.0.0.1", source="extra")))]
    with mesh.served(mesh.keep(tmp_path, pushes, sources=("kuma", "extra"))) as served:
        (finding,) = lint([ManifestFile("a.yaml", NAME % "echo.mesh")], served).findings
    assert finding.rule == "unknown-name"
    assert "source kuma has never delivered" in finding.message


def test_ports_of_a_source_that_names_none_are_not_judged(tmp_path: Path) -> None:
    pushes = [("kuma", "v1", Table({"web.mesh": mesh.record("web.mesh", "240.0.0.1")}))]
    with mesh.served(mesh.keep(tmp_path, pushes, sources=("kuma",))) as served:
        text = PORTS % ("web.mesh", "{port: 1}") + INGRESS % "number: 1"
        assert lint([ManifestFile("a.yaml", text)], served).findings == ()
