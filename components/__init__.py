"""One module a pipeline stage: read artefacts, call the library, write a folder. Telemetry is off from the first import on."""

from synfer.environment import prepare

prepare()
