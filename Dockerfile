# The environment of a flow run on Kubernetes, see docs/kubernetes.md. Code, data and results lie in the project folder that is mounted.
FROM python:3.11-slim

# DVC and the runs' tags ask git, which refuses a folder of somebody else; the volume of the project may belong to anybody.
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*'

COPY requirements.lock /tmp/
# For a torch of another index, such as that of your CUDA version: --build-arg PIP_OPTIONS="..."
ARG PIP_OPTIONS=""
RUN pip install --no-cache-dir ${PIP_OPTIONS} --requirement /tmp/requirements.lock \
    && pip install --no-cache-dir --constraint /tmp/requirements.lock psycopg2-binary boto3 "dvc[s3]"

# Started there, Python finds synfer, components and flows.
WORKDIR /project
ENV PYTHONPATH=/project
