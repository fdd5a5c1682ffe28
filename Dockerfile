# The server as an image, which runs as 10001:10001 on a read-only root file system (docker build
# with BuildKit, its default since 23):
#
#   docker build -t vaeserve .                            # CPU
#   docker build -t vaeserve:gpu --build-arg EXTRA=gpu .  # NVIDIA GPU: run it with --gpus all
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -v "$PWD/repository:/models:ro" \
#     -p 50051:50051 -p 9464:9464 vaeserve
#
# BASE may be any glibc image with Python 3.11 or later, its venv module and CA certificates. Behind
# a registry of your own, give pip's configuration as a secret, which no layer keeps:
# --secret id=pip,src=pip.conf, and beside it id=ca for what pip.conf names /run/secrets/ca.
ARG BASE=docker.io/library/python:3.12-slim-bookworm
ARG EXTRA=server

FROM ${BASE} AS wheel
ENV PIP_CONFIG_FILE=/run/secrets/pip
RUN python3 -m venv /tools
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    /tools/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE} AS install
ARG EXTRA
ENV PIP_CONFIG_FILE=/run/secrets/pip
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/vaeserve
COPY --from=wheel /wheels /wheels
# pip only warns of an extra that does not exist; the import fails on it. A build for CUDA needs no
# driver to be imported, and must find every library that it needs beside the driver's.
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    /tools/bin/pip --python /opt/vaeserve/bin/python install --no-cache-dir \
        "$(echo /wheels/vaeserve-*.whl)[${EXTRA}]" \
    && /opt/vaeserve/bin/python -c 'import vaeserve_server.app, vaeserve_server.cuda_build as build; \
        missing = build.missing_libraries(); assert not missing, missing'

FROM ${BASE}
COPY --from=install /opt/vaeserve /opt/vaeserve
# The defaults of `vaeserve serve` are loopback addresses, which nobody outside could reach.
# ONNX Runtime reports its use to its maker unless told not to. NVIDIA's container runtime reads the
# last one, of which `utility` is the management library; without a GPU nothing does.
ENV PATH=/opt/vaeserve/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VAESERVE_ADDRESS=0.0.0.0:50051 \
    VAESERVE_METRICS_ADDRESS=0.0.0.0:9464 \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Only a mount point: a VOLUME would put an empty writable one there where the mount was forgotten.
RUN mkdir /models
EXPOSE 50051 9464
# Numeric, so that Kubernetes can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
# Exec form: the server is process 1 and gets the signal itself. Arguments after the image's name
# are further options of `vaeserve serve`.
ENTRYPOINT ["vaeserve", "serve", "/models"]
# Last, because they change with every commit and nothing after them could come from the cache.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vaeserve" \
      org.opencontainers.image.description="Variational autoencoders over gRPC with dynamic batching" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
