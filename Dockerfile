# The lab in an image: for docker-compose.yml only, `bench.py` needs no container.
FROM python:3.13-slim
RUN apt-get update && apt-get install -y --no-install-recommends procps && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv && useradd --create-home lab
WORKDIR /lab
COPY pyproject.toml ./
RUN uv sync
COPY . .
ENV PATH="/lab/.venv/bin:$PATH"
USER lab
EXPOSE 8000 8089
