"""When, in which order, with which retries: the Prefect flow and the command line. Telemetry is off from the first import on."""

from synfer.environment import prepare

prepare()
