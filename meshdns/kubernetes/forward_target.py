"""Manifests of meshdns as the server to which a cluster's DNS forwards the zones of a mesh.

The texts are written out, comments and all, so that who reads them sees why each line is there.

None of them grants a right in the cluster: meshdns never talks to the Kubernetes API. A control plane that runs in
Kubernetes reads the token of the Pod's ServiceAccount to see which Pod asks, with rights that are its own.
"""

import json
from ipaddress import IPv4Network, IPv6Network, ip_network

from meshdns.kubernetes.deployment import PORT, Deployment, config_map, metadata, zones

PRIVATE = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Who may ask where ``allow`` names nobody: to allow more, a configuration has to name these too."""

_LIMITS = """\
# A few clients ask for everybody: the cluster's resolvers, whom the NetworkPolicy names. Limits that are meant for
# strangers would cut them short.
rate_limit: {errors: 0, identical: 0}
tcp: {connections: 2048, per_source: 1024}
"""

USER = 65532
"""The user of the image, as in other images without a shell."""


def manifests(deployment: Deployment, *, observer: bool) -> dict[str, str]:
    """Give file name → text of one document each, in the order in which they are to be applied.

    observer: whether the control plane runs in Kubernetes, and makes each Pod's Dataplane by its annotations.
    """
    return {
        "namespace.yaml": _namespace(deployment, observer=observer),
        "serviceaccount.yaml": _service_account(deployment),
        "configmap.yaml": config_map(deployment, _configuration(deployment, observer=observer)),
        "deployment.yaml": _deployment(deployment, observer=observer),
        "service.yaml": _service(deployment, observer=observer),
        "poddisruptionbudget.yaml": _disruption_budget(deployment),
        "networkpolicy.yaml": _network_policy(deployment),
    }


def _namespace(deployment: Deployment, *, observer: bool) -> str:
    kuma = (
        "    # Kuma asks each namespace with Dataplanes for a word on injection; nothing is to be injected here.\n"
        "    kuma.io/sidecar-injection: disabled\n"
        if observer
        else ""
    )
    return f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {deployment.namespace}
  labels:
    # The Pods keep to the strictest of the Pod Security Standards.
    pod-security.kubernetes.io/enforce: restricted
{kuma}"""


def _service_account(deployment: Deployment) -> str:
    return f"""\
# No Role and no RoleBinding belong to it: meshdns never talks to the Kubernetes API.
apiVersion: v1
kind: ServiceAccount
{metadata(deployment)}automountServiceAccountToken: false
"""


def _configuration(deployment: Deployment, *, observer: bool) -> str:
    if observer:
        identity = """\
    # The control plane makes a Dataplane of this name for the Pod, by the annotations of its template.
    dataplane: ${POD_NAME}.${POD_NAMESPACE}
    register: false
    # The token of the Pod's ServiceAccount: the control plane sees by it which Pod asks.
"""
    else:
        identity = """\
    # A control plane takes one stream for each Dataplane, so every replica is one of its own.
    dataplane: ${POD_NAME}
    register: true
    # A dataplane token of the mesh that is bound to no name, so that all replicas can use it.
"""
    return f"""\
# Every address of the Pod; an address family that the cluster lacks is left out with a warning.
listen: ["0.0.0.0:{PORT}", "[::]:{PORT}"]
data_dir: /var/lib/meshdns
# After SIGTERM it answers on for this long: the Pod leaves the Service a little later than it is told to end.
drain: 5s
{zones(deployment)}{_allow(deployment)}{_LIMITS}sources:
  - name: kuma
    type: kuma
    address: {json.dumps(deployment.control_plane)}
    mesh: {json.dumps(deployment.mesh)}
{identity}    token_file: token
    ca_file: ca.crt
"""


def _allow(deployment: Deployment) -> str:
    """Give ``allow`` where private ranges, the default, do not hold every client that was named."""
    wider = [str(network) for network in deployment.client_networks if not _is_private(network)]
    if not wider:
        return ""
    networks = json.dumps([*map(str, PRIVATE), *wider])
    return f"# Who may ask: the default, which is private ranges, and what was named.\nallow: {networks}\n"


def _is_private(network: IPv4Network | IPv6Network) -> bool:
    return any(
        network.version == private.version and private.supernet_of(network)  # type: ignore[arg-type]
        for private in PRIVATE
    )


def _deployment(deployment: Deployment, *, observer: bool) -> str:
    name = deployment.name
    labels = f"        app.kubernetes.io/name: {name}\n        app.kubernetes.io/component: dns\n"
    annotations = ""
    namespace_variable = ""
    if observer:
        labels += f"""\
        # Nothing is injected, yet the Pod becomes a Dataplane (annotations below).
        kuma.io/sidecar-injection: disabled
        # Kuma 3.0 reads the mesh from the label, 2.x from the label or the annotation.
        kuma.io/mesh: {json.dumps(deployment.mesh)}
"""
        annotations = f"""\
      annotations:
        # By these Kuma's control plane makes a Dataplane of a Pod that has no sidecar: a delegated gateway, which is
        # no endpoint of any service, takes no VIP, and is told every name.
        kuma.io/sidecar-injected: "true"
        kuma.io/sidecar-injection: disabled
        kuma.io/gateway: enabled
        kuma.io/mesh: {json.dumps(deployment.mesh)}
        # Without transparent proxying no names are sent. Read by 2.x; in 3.0 meshdns says it itself.
        kuma.io/transparent-proxying: enabled
        kuma.io/transparent-proxying-inbound-port: "15006"
        kuma.io/transparent-proxying-outbound-port: "15001"
        kuma.io/transparent-proxying-ip-family-mode: dualstack
"""
        namespace_variable = """\
            - name: POD_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
"""
        credential = """\
              # Renewed by the kubelet; meshdns reads it again at every connection.
              - serviceAccountToken:
                  path: token
                  expirationSeconds: 3600
"""
    else:
        credential = f"""\
              # kumactl generate dataplane-token --mesh {deployment.mesh} --valid-for 8760h >token
              # kubectl -n {deployment.namespace} create secret generic {deployment.token_secret} --from-file=token
              - secret:
                  name: {deployment.token_secret}
                  items:
                    - {{key: token, path: token}}
"""
    kind = "configmap" if deployment.ca_kind == "configMap" else "secret generic"
    return f"""\
apiVersion: apps/v1
kind: Deployment
{metadata(deployment)}spec:
  replicas: {deployment.replicas}
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
      app.kubernetes.io/component: dns
  strategy:
    # Never one replica less than asked for: the new Pod answers before an old one goes.
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
{labels}{annotations}    spec:
      serviceAccountName: {name}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: {USER}
        runAsGroup: {USER}
        fsGroup: {USER}
        seccompProfile:
          type: RuntimeDefault
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: {name}
              app.kubernetes.io/component: dns
      containers:
        - name: meshdns
          image: {json.dumps(deployment.image)}
          args: ["serve", "--config", "/etc/meshdns/meshdns.yaml"]
          env:
            # The configuration names them as ${{POD_NAME}} and so on.
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
{namespace_variable}          ports:
            - {{name: dns, containerPort: {PORT}, protocol: UDP}}
            - {{name: dns-tcp, containerPort: {PORT}, protocol: TCP}}
          # Ready is who can answer, with or without a control plane in sight. There is no liveness probe: meshdns
          # restarts its own parts when they hang, and to be ended because a control plane is away helps nobody.
          readinessProbe:
            exec:
              command: ["meshdns", "status", "--ready", "--config", "/etc/meshdns/meshdns.yaml"]
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          # No limit on CPU: a throttled resolver makes every client slow.
          resources:
            requests:
              cpu: 100m
              memory: 128Mi
            limits:
              memory: 512Mi
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: ["ALL"]
          volumeMounts:
            - {{name: config, mountPath: /etc/meshdns, readOnly: true}}
            - {{name: data, mountPath: /var/lib/meshdns}}
      volumes:
        - name: config
          projected:
            sources:
              - configMap:
                  name: {name}
              # The certificate that signed the control plane's (key ca.crt of Secret kuma-tls-cert, where it runs):
              # kubectl -n {deployment.namespace} create {kind} {deployment.ca_name} --from-file=ca.crt
              - {deployment.ca_kind}:
                  name: {deployment.ca_name}
                  items:
                    - {{key: ca.crt, path: ca.crt}}
{credential}        # The store: what was last known outlives a restart of the container.
        - name: data
          emptyDir:
            sizeLimit: 1Gi
"""


def _service(deployment: Deployment, *, observer: bool) -> str:
    annotations = '# DNS for the cluster, no service of the mesh.\nkuma.io/ignore: "true"\n' if observer else ""
    if deployment.cluster_ip is None:
        address = "  # Chosen by the cluster; forwarders have to be told which address it became.\n"
    else:
        address = (
            "  # Fixed, because forwarders take addresses, no names; it must lie in the cluster's Service range.\n"
            f"  clusterIP: {json.dumps(deployment.cluster_ip)}\n"
        )
    return f"""\
apiVersion: v1
kind: Service
{metadata(deployment, annotations=annotations)}spec:
  type: ClusterIP
{address}  selector:
    app.kubernetes.io/name: {deployment.name}
    app.kubernetes.io/component: dns
  ports:
    - {{name: dns, port: 53, targetPort: dns, protocol: UDP}}
    - {{name: dns-tcp, port: 53, targetPort: dns-tcp, protocol: TCP}}
"""


def _disruption_budget(deployment: Deployment) -> str:
    return f"""\
apiVersion: policy/v1
kind: PodDisruptionBudget
{metadata(deployment)}spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: {deployment.name}
      app.kubernetes.io/component: dns
"""


def _network_policy(deployment: Deployment) -> str:
    selector = "        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: {}\n"
    block = "        - ipBlock:\n            cidr: {}\n"
    clients = "".join(selector.format(namespace) for namespace in deployment.clients)
    clients += "".join(block.format(json.dumps(str(network))) for network in deployment.client_networks)
    source = f"      from:\n{clients}" if clients else ""
    port = deployment.control_plane.rpartition(":")[2]
    return f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{metadata(deployment)}spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {deployment.name}
      app.kubernetes.io/component: dns
  policyTypes: ["Ingress", "Egress"]
  ingress:
    # The cluster's DNS. NodeLocal DNSCache asks from the nodes' own addresses, which an ipBlock has to name
    # (meshdns generate kubernetes --allow-network).
    - ports:
        - {{port: {PORT}, protocol: UDP}}
        - {{port: {PORT}, protocol: TCP}}
{source}  egress:
    # The control plane.
    - ports:
        - {{port: {port}, protocol: TCP}}
    # The cluster's DNS, for the control plane's name.
    - ports:
        - {{port: 53, protocol: UDP}}
        - {{port: 53, protocol: TCP}}
"""
