"""Who is champion: aliases `champion`, `challenger` and `previous` of a registered model, and the record of every hand-over.

A person moves `champion` in MLflow's browser or by `synfer promote`; MLflow sends no event for an alias. The model's tag `champion.history`
holds the versions that were handed the place, the last one in use: where it and the alias differ, somebody has moved the alias, and
`Registry.hand_over` completes what `Registry.promote` does by itself.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from components import tracking
from components.workspace import Workspace
from synfer.errors import SynferError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
HISTORY, ANNOUNCED = "champion.history", "champion.announced"
GATE, GATE_REASON = "gate", "gate.reason"
_BROWSER = "MLflow's browser"


class PromotionError(SynferError):
    """A model, version or alias that does not exist, or a version that the gate held back; the message says what to do."""


@dataclass(frozen=True)
class HandOver:
    """One change of champion: numbers of the versions, empty where there is none, when (UTC), by whom and why."""

    model: str
    champion: str
    over: str
    at: str
    by: str
    why: str


class Registry:
    """A registered model of the project's MLflow; one process at a time changes its aliases."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        tracking.connect(workspace)
        self.workspace, self.name, self.client = workspace, name, MlflowClient()

    @property
    def exists(self) -> bool:
        """Whether a version was ever registered."""
        return bool(self.client.search_registered_models(filter_string=f"name = '{self.name}'"))

    def holder(self, alias: str) -> str:
        """Number of the version that holds an alias, or an empty string."""
        return str(self._model().aliases.get(alias, ""))

    def history(self) -> list[str]:
        """Versions that were handed the place of champion, oldest first, the last one in use."""
        return [number for number in self._model().tags.get(HISTORY, "").split(",") if number]

    def version(self, number: str) -> ModelVersion:
        """A version; raises PromotionError with the known numbers."""
        try:
            return self.client.get_model_version(self.name, number)
        except MlflowException as error:
            raise PromotionError(f"{self.name} has no version {number!r}; there are: {self._numbers()}") from error

    def promote(self, number: str = "", *, by: str = "", force: str = "") -> HandOver:
        """Make a version champion, by default the challenger; the champion of before becomes `previous`.

        Raises PromotionError if the gate held the version back, unless `force` says why it should be champion all the same.
        """
        with tracking.registry_lock(self.workspace):
            number = number or self.holder(CHALLENGER)
            if not number:
                raise PromotionError(f"{self.name} has no challenger; name a version, one of: {self._numbers()}")
            tags = self.version(number).tags
            if self.holder(CHAMPION) != number:
                self._complete_moved()
            if self.holder(CHAMPION) == number and self.history()[-1:] == [number]:
                raise PromotionError(f"version {number} of {self.name} is the champion already")
            if tags.get(GATE) != "passed" and not force:
                reason = tags.get(GATE_REASON, "it never went through the gate")
                raise PromotionError(f"the gate held version {number} of {self.name} back ({reason}); --force REASON promotes it anyway")
            self.client.set_registered_model_alias(self.name, CHAMPION, number)
            return self._complete(by=by or _user(), why=force or "promoted")

    def rollback(self, *, by: str = "", why: str = "") -> HandOver:
        """Give the place back to the champion before; raises PromotionError if there was none."""
        with tracking.registry_lock(self.workspace):
            if self.history()[-2:-1] != [self.holder(CHAMPION)]:  # else somebody has begun what is asked
                self._complete_moved()
            handed = self.history()
            if len(handed) < 2:
                raise PromotionError(f"{self.name} has had no champion before; versions: {self._numbers()}")
            self.version(handed[-2])
            self.client.set_registered_model_alias(self.name, CHAMPION, handed[-2])
            return self._give_back(handed, by=by or _user(), why=why)

    def hand_over(self, *, by: str = _BROWSER) -> HandOver | None:
        """Complete a promotion that somebody made by moving the alias, or a rollback where it went to the champion before.

        Returns None if nobody moved it.
        """
        with tracking.registry_lock(self.workspace):
            return self._complete_moved(by)

    def crown(self, number: str) -> HandOver:
        """Make the first version champion: without one there is nothing to serve and nothing to compare with."""
        with tracking.registry_lock(self.workspace):
            self.client.set_registered_model_alias(self.name, CHAMPION, number)
            return self._complete(by="registration", why="the first version that passed the gate")

    def challenge(self, number: str) -> None:
        """Make a version challenger."""
        with tracking.registry_lock(self.workspace):
            self.client.set_registered_model_alias(self.name, CHALLENGER, number)

    def unannounced(self) -> dict[str, str]:
        """What an event should tell of a change that none has told yet: model, version, uri, previous, history; empty if there is nothing.
        """
        handed = self.history()
        if not handed or self._model().tags.get(ANNOUNCED) == ",".join(handed):
            return {}
        uri = f"models:/{self.name}@{CHAMPION}"
        previous = handed[-2] if len(handed) > 1 else ""
        return {"model": self.name, "version": handed[-1], "uri": uri, "previous": previous, "history": ",".join(handed)}

    def mark_announced(self, history: str) -> None:
        """Remember that an event told a change of champion, by the `history` that `unannounced` read; a later change is still to be told.
        """
        with tracking.registry_lock(self.workspace):
            self.client.set_registered_model_tag(self.name, ANNOUNCED, history)

    def _model(self) -> RegisteredModel:
        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            known = ", ".join(model.name for model in self.client.search_registered_models()) or "none"
            raise PromotionError(f"there is no registered model {self.name!r}; known: {known}") from error

    def _complete_moved(self, by: str = _BROWSER) -> HandOver | None:
        """What `hand_over` does; before any other change too, or the history would never hold a champion that nobody has seen yet."""
        champion, handed = self.holder(CHAMPION), self.history()
        if not champion or handed[-1:] == [champion]:
            return None
        if handed[-2:-1] == [champion]:
            return self._give_back(handed, by=by, why="the alias was moved back")
        return self._complete(by=by, why="the alias was moved")

    def _complete(self, *, by: str, why: str) -> HandOver:
        """Bring history, aliases and tags in line with the alias `champion`, and write the record."""
        champion, handed = self.holder(CHAMPION), self.history()
        if self.holder(CHALLENGER) == champion:
            self.client.delete_registered_model_alias(self.name, CHALLENGER)
        done = self._write(HandOver(self.name, champion, handed[-1] if handed else "", _now(), by, why))
        self._set_history([*handed, champion])  # last: a hand-over that was killed before is completed by the next look
        return done

    def _give_back(self, handed: Sequence[str], *, by: str, why: str) -> HandOver:
        """The same for an alias that went back to the champion before: the one that leaves does not become `previous`."""
        left, back = handed[-1], handed[-2]
        self._tag(left, "rolled_back", f"{_now()} by {by}{f': {why}' if why else ''}")
        # The reason is about the version that leaves; beside the one that comes back it must not look like its own.
        done = self._write(HandOver(self.name, back, left, _now(), by, f"rollback ({why})" if why else "rollback"))
        self._set_history(handed[:-1])
        return done

    def _write(self, done: HandOver) -> HandOver:
        """Leave a hand-over where people look: a tag of the version, and a run of its own with the record and the model card."""
        over = f" over version {done.over}" if done.over else ""
        self._tag(done.champion, "promoted", f"{done.at} by {done.by}{over}: {done.why}")
        files = {"hand_over.json": json.dumps(asdict(done), indent=2), "model_card.md": self.version(done.champion).description or ""}
        tags = {"stage": "promotion", "model": done.model, "champion": done.champion, "over": done.over, "by": done.by}
        tracking.log_texts(self.workspace, f"champion {done.champion}", files, tags=tags)
        return done

    def _set_history(self, handed: Sequence[str]) -> None:
        """Write the history and let `previous` follow it."""
        self.client.set_registered_model_tag(self.name, HISTORY, ",".join(handed))
        if len(handed) > 1:
            self.client.set_registered_model_alias(self.name, PREVIOUS, handed[-2])
        elif self.holder(PREVIOUS):
            self.client.delete_registered_model_alias(self.name, PREVIOUS)

    def _tag(self, number: str, key: str, value: str) -> None:
        self.client.set_model_version_tag(self.name, number, key, value)

    def _numbers(self) -> str:
        numbers = sorted(int(version.version) for version in self.client.search_model_versions(f"name = '{self.name}'"))
        return ", ".join(map(str, numbers)) or "none"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return "unknown"
