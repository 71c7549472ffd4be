# The GPU stage: train, evaluate, and a Prefect worker of the pool `gpu`. torch's wheel brings CUDA; the driver is the host's.
#   docker build -f deploy/images/gpu.Dockerfile -t rhoflow-gpu .
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/rhoflow
COPY pyproject.toml README.md /src/
COPY flows /src/flows
COPY pipeline /src/pipeline
COPY storage /src/storage
COPY training /src/training
RUN /opt/rhoflow/bin/pip install --no-cache-dir '/src[train,flow]' && rm -rf /src
RUN useradd --create-home --uid 1000 rhoflow && mkdir /data && chown rhoflow /data
USER 1000
ENV PATH=/opt/rhoflow/bin:/usr/bin:/bin
WORKDIR /data
CMD ["rhoflow", "train", "--help"]
