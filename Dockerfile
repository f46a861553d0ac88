# The server, for a machine of one's own, SageMaker, Azure ML and Vertex AI: docs/deployment.md.
# The image below: Python 3.11 on Debian, or a copy of it in a registry of one's own.
ARG BASE=python:3.11-slim
FROM $BASE

# Which build of PyTorch: cpu, or cu128 and the like. PYTORCH_INDEX is the address of PyTorch's own
# package index without the device at its end; without it PyPI's build is taken, which has CUDA.
ARG DEVICE=cpu
ARG PYTORCH_INDEX=""

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/data/hub \
    SIGHTRANK_DATABASE=/data/accounts.sqlite \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# SageMaker may choose the port.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true

WORKDIR /opt/sightrank

# torch first and alone: it is the largest layer and changes least.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt \
    ${PYTORCH_INDEX:+--index-url "$PYTORCH_INDEX/$DEVICE"} torch

COPY pyproject.toml README.md LICENSE ./
COPY sightrank ./sightrank
RUN pip install --constraint constraints.txt '.[hub,serve,postgres]'

COPY docker/entrypoint /usr/local/bin/entrypoint

# Who runs it. SageMaker wants root. Last, so that both share the layers above.
ARG RUN_AS=sightrank
RUN useradd --create-home sightrank && install --directory --owner="$RUN_AS" /data
USER $RUN_AS
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import os, urllib.request; \
urllib.request.urlopen('http://127.0.0.1:' + (os.environ.get('AIP_HTTP_PORT') or \
os.environ.get('SAGEMAKER_BIND_TO_PORT') or os.environ.get('PORT') or '8080') + '/live', timeout=2)"]
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["serve"]
