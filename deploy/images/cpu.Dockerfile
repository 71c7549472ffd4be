# A CPU worker: plan, run, seal, build, and Dask workers. No torch. Built at the root of the project:
#   docker build -f deploy/images/cpu.Dockerfile -t rhoflow-cpu .
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/rhoflow
COPY pyproject.toml README.md /src/
COPY flows /src/flows
COPY pipeline /src/pipeline
COPY storage /src/storage
COPY training /src/training
RUN /opt/rhoflow/bin/pip install --no-cache-dir '/src[chemistry,xtb,flow]' && rm -rf /src
RUN useradd --create-home --uid 1000 rhoflow && mkdir /data && chown rhoflow /data
USER 1000
ENV PATH=/opt/rhoflow/bin:/usr/bin:/bin DASK_DISTRIBUTED__WORKER__DAEMON=False OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
WORKDIR /data
CMD ["rhoflow", "--help"]
