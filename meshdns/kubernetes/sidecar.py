"""Manifests of meshdns beside one workload that has Kuma's sidecar: it reads kuma-dp's socket by a shared volume."""

import json

from meshdns.kubernetes.deployment import PORT, Deployment, config_map, zones

SIDECAR_PORT = 15353
"""Where the sidecar listens: 15053 is kuma-dp's own in such a Pod."""

KUMA_DP_USER = 5678
"""The user of Kuma's sidecar, who alone can connect to the socket of its Envoy."""


def manifests(deployment: Deployment) -> dict[str, str]:
    """Give file name → text of one document each; ``patch.yaml`` is a strategic merge patch of the workload."""
    return {
        "containerpatch.yaml": _container_patch(deployment),
        "configmap.yaml": config_map(deployment, _configuration(deployment)),
        "patch.yaml": _patch(deployment),
    }


def _configuration(deployment: Deployment) -> str:
    return f"""\
# Loopback is shared by the containers of a Pod. Port {PORT} is kuma-dp's own.
listen: ["127.0.0.1:{SIDECAR_PORT}"]
data_dir: /var/lib/meshdns
{zones(deployment)}sources:
  - name: sidecar
    type: kuma-dp
    socket: /var/run/kuma-dp/kuma-mesh-metric-config.sock
"""


def _container_patch(deployment: Deployment) -> str:
    return f"""\
# Kuma's sidecar puts its sockets where another container of the Pod can see them (Kuma 2.11 or newer).
apiVersion: kuma.io/v1alpha1
kind: ContainerPatch
metadata:
  name: {deployment.name}-socket
  namespace: {deployment.system_namespace}
spec:
  sidecarPatch:
    - op: add
      path: /volumeMounts/-
      value: '{{"name": "kuma-dp-sockets", "mountPath": "/var/run/kuma-dp"}}'
    - op: add
      path: /env/-
      value: '{{"name": "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR", "value": "/var/run/kuma-dp"}}'
"""


def _patch(deployment: Deployment) -> str:
    return f"""\
# For a workload that has Kuma's sidecar: meshdns answers its containers on 127.0.0.1:{SIDECAR_PORT}, from the table
# that kuma-dp holds already. No second stream, no token, no right in the cluster.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {deployment.workload}
  namespace: {deployment.namespace}
spec:
  template:
    metadata:
      annotations:
        kuma.io/container-patches: {deployment.name}-socket
    spec:
      containers:
        - name: meshdns
          image: {json.dumps(deployment.image)}
          args: ["serve", "--config", "/etc/meshdns/meshdns.yaml"]
          readinessProbe:
            exec:
              command: ["meshdns", "status", "--ready", "--config", "/etc/meshdns/meshdns.yaml"]
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          resources:
            requests:
              cpu: 50m
              memory: 96Mi
            limits:
              memory: 256Mi
          securityContext:
            # The user of Kuma's sidecar: the socket can be used by who made it, and by nobody else.
            runAsUser: {KUMA_DP_USER}
            runAsGroup: {KUMA_DP_USER}
            runAsNonRoot: true
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: ["ALL"]
            seccompProfile:
              type: RuntimeDefault
          volumeMounts:
            - {{name: meshdns-config, mountPath: /etc/meshdns, readOnly: true}}
            - {{name: meshdns-data, mountPath: /var/lib/meshdns}}
            - {{name: kuma-dp-sockets, mountPath: /var/run/kuma-dp}}
      volumes:
        - name: meshdns-config
          configMap:
            name: {deployment.name}
        - name: meshdns-data
          emptyDir:
            sizeLimit: 1Gi
        - name: kuma-dp-sockets
          emptyDir:
            sizeLimit: 10Mi
"""
