# An image of the program alone, run by a user without rights.
#
#   docker build --tag meshdns .
#   docker run --volume ./config/sidecar.yaml:/etc/meshdns/meshdns.yaml:ro --volume meshdns:/var/lib/meshdns meshdns
#
# What it keeps is in /var/lib/meshdns (data_dir of the examples); a volume there lets it answer before the control
# plane is heard again.

FROM python:3.11-slim-bookworm AS builder
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
RUN python3 -m venv /opt/meshdns && python3 -m venv /build/tools
COPY requirements.lock requirements-build.lock ./
RUN /opt/meshdns/bin/pip install --require-hashes --no-deps -r requirements.lock \
 && /build/tools/bin/pip install --require-hashes --no-deps -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY meshdns meshdns
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/meshdns/bin/pip install --no-deps --no-index dist/*.whl \
 && /opt/meshdns/bin/pip uninstall --yes pip \
 && find /opt/meshdns -name __pycache__ -prune -exec rm -r {} + \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/meshdns/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="meshdns" \
      org.opencontainers.image.description="An authoritative DNS resolver for service-mesh names, fed by a control plane over xDS" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /opt/meshdns /opt/meshdns
RUN groupadd --gid 65532 meshdns \
 && useradd --no-create-home --home-dir /var/lib/meshdns --shell /usr/sbin/nologin --uid 65532 --gid 65532 meshdns \
 && install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/meshdns
ENV PATH=/opt/meshdns/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/meshdns
USER 65532:65532
EXPOSE 15053/udp 15053/tcp
# Readiness: exit 0 as soon as it can answer. Liveness needs no probe of its own, the supervisor restarts what hangs.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["meshdns", "status", "--ready"]
ENTRYPOINT ["meshdns"]
CMD ["serve"]
