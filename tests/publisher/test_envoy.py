"""A real Envoy takes what it would be sent: every resource, in one configuration, validated without starting."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource

from meshdns.publisher.packed import CLUSTER, ENDPOINT, LISTENER
from meshdns.publisher.snapshot import build_snapshot
from tests.parts import ENVOY
from tests.publisher.meshes import PROTOCOL, dataplane, external, view
from tests.publisher.sent import EMBEDDED, node, opened
from tests.publisher.test_resources import RICH

TLS = {"enabled": True, "serverName": "api.example.com"}
MORE = [
    external("secure", "api.example.com:443", tls=TLS, tags={PROTOCOL: "http2"}),
    dataplane("own", "own", 8081, tags={PROTOCOL: "http"}, servicePort=18081, serviceAddress="127.0.0.1"),
]


def bootstrap(messages: dict[str, dict[str, Any]]) -> bytes:
    """Everything as static resources, beside the cluster of a control plane that is never asked."""
    whole = Bootstrap()
    whole.node.id, whole.node.cluster = "default.own", "own"
    ads = whole.dynamic_resources.ads_config
    ads.api_type, ads.transport_api_version = ApiConfigSource.GRPC, 2
    ads.grpc_services.add().envoy_grpc.cluster_name = "ads"
    cluster = whole.static_resources.clusters.add(name="ads")
    cluster.load_assignment.cluster_name = "ads"
    whole.static_resources.clusters.extend(messages[CLUSTER].values())
    whole.static_resources.listeners.extend(messages[LISTENER].values())
    # endpoints come by EDS only; a cluster that holds them is validated as they are
    for name, assignment in messages[ENDPOINT].items():
        copy = whole.static_resources.clusters.add(name=f"endpoints of {name}")
        copy.load_assignment.CopyFrom(assignment)
    octets: bytes = whole.SerializeToString()
    return octets


@pytest.mark.needs("envoy")
@pytest.mark.parametrize("features", [EMBEDDED, []], ids=["dynconf", "dns_filter"])
@pytest.mark.parametrize("vips", ["bind", "transparent"])
def test_envoy_takes_every_resource(vips: str, features: list[str], tmp_path: Path) -> None:
    seen = view(*RICH, *MORE, vips=vips)
    redirect = {"transparentProxy": {"redirect": {"inbound": {"port": 15006.0}}}}
    messages = opened(build_snapshot(seen, node("own", features=[*features, EMBEDDED[1]], **redirect)))
    file = tmp_path / "envoy.pb"
    file.write_bytes(bootstrap(messages))
    done = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", file, "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "deprecated" not in done.stderr.lower()
