"""Publish a release: make it of the present artifacts, name its state of `data.dvc` with a git tag, push the data and the tag.

Every step leaves alone what is done already, so a call that has failed is repeated as it was.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from components.data_registry import run_dvc, track
from components.lineage import REGISTRY, data_digests
from components.partial import fingerprint
from components.stages import find_stage, run_stage, stage_inputs
from components.workspace import Workspace
from synfer.config import Config
from synfer.errors import SynferError
from synfer.files import sha256, write_json

_STAGE, _MADE_FROM = "release", "made_from.json"
_DIGEST_SHOWN = 8  # characters of DVC's digest in the name of a tag


class PublishError(SynferError):
    """A step that git or DVC refused; the message says what is done already and what to repeat."""


@dataclass(frozen=True)
class Made:
    """A release in the project: its folder there, DVC's digest of it, how many images it has, and whether this call has made it."""

    name: str
    place: str
    digest: str
    images: int
    new: bool

    @property
    def tag(self) -> str:
        """The git tag of its state: `release/laptop-1a2b3c4d`."""
        return f"release/{self.name}-{self.digest[:_DIGEST_SHOWN]}"


@dataclass
class Publication:
    """One call of `synfer release`; `tell` gets a line for every step, `done` keeps what an error must name.

    `call` is the command line, which an error says to repeat.
    """

    workspace: Workspace
    config: Config
    tell: Callable[[str], None]
    call: str = "synfer release"
    done: list[str] = field(default_factory=list)

    def run(self, *, tag: bool, push: bool) -> Made:
        """Make the release, then tag and push it as asked; raises PublishError at the first step that fails, or what the stage raises."""
        made = make_release(self.config, self.workspace)
        self.tell(f"{made.place}: {made.images} images, {'made' if made.new else 'nothing has changed since it was made'}")
        self.tell(f"{REGISTRY}: {made.digest}")
        self.done.append(f"{made.place} is made")
        try:
            if tag:
                self._tag(made)
            if push:
                self._push(made, tag=tag)
        except PublishError as error:
            raise PublishError(f"{error}; done so far: {', '.join(self.done)}; repeat: {self.call}") from error
        return made

    def _tag(self, made: Made) -> None:
        for line in tag_release(self.workspace.root, made):
            self.tell(line)
        self.done.append(f"tag {made.tag} is set")

    def _push(self, made: Made, *, tag: bool) -> None:
        self.tell(push_data(self.workspace.root, made))
        self.done.append("the data are pushed")
        if tag:
            self.tell(push_tag(self.workspace.root, made))


def make_release(config: Config, workspace: Workspace) -> Made:
    """The release of the present artifacts; made anew only where they, the settings or the folder have changed since."""
    stage, name = find_stage(_STAGE), config.release.name
    folder, place = workspace.data / "synthetic" / name, f"data/synthetic/{name}"
    settings = {"section": config.release.model_dump(mode="json"), "common": config.common.model_dump(mode="json")}
    inputs = list(stage_inputs(stage, workspace).values())
    wanted = {"fingerprint": fingerprint(settings, inputs), "place": place}
    new = _made_from(workspace) != wanted | {"sha256": sha256(folder) if folder.is_dir() else ""}
    if new:
        run_stage(_STAGE, config, workspace)
        write_json(workspace.stage(_STAGE) / _MADE_FROM, wanted | {"sha256": sha256(folder)})
    else:
        track(workspace, folder)  # a checkout may have brought an older data.dvc
    images = json.loads((workspace.stage(_STAGE) / "release.json").read_text(encoding="utf-8"))["images"]
    return Made(name, place, data_digests(workspace.root)[place], images, new)


def _made_from(workspace: Workspace) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((workspace.stage(_STAGE) / _MADE_FROM).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


# --- the tag ----------------------------------------------------------------------------------------------------------------------


def tag_release(root: Path, made: Made) -> list[str]:
    """Set the tag of a release on a commit whose `data.dvc` names it; returns what was done, in lines.

    Where `data.dvc` differs from the last commit it is committed, and nothing else is, staged or not. Raises PublishError as git does, and
    if the tag exists for other data.
    """
    _git(root, "rev-parse", "--verify", "--quiet", "HEAD", what="find a commit to tag: commit the project first")
    if _exists(root, made.tag):
        if _committed(root, made.tag).get(made.place) != made.digest:
            raise PublishError(f"tag {made.tag} exists and names other data; remove it with: git tag --delete {made.tag}")
        return [f"tag {made.tag} was there already"]
    lines = []
    if (root / REGISTRY).read_text(encoding="utf-8") != _text_at(root, "HEAD"):
        changed = sorted(place for place, digest in data_digests(root).items() if _committed(root, "HEAD").get(place) != digest)
        _git(root, "add", "--", REGISTRY, what=f"stage {REGISTRY}")
        _git(root, "commit", "--quiet", "-m", f"Release {made.name} ({made.digest})", "--", REGISTRY, what=f"commit {REGISTRY}")
        commit = _git(root, "rev-parse", "--short", "HEAD", what="name the commit").strip()
        lines.append(f"commit {commit}: {REGISTRY} alone, with {', '.join(changed) or 'entries removed'}")
    text = f"{made.place}: {made.images} images, {made.digest}"
    _git(root, "tag", "--annotate", made.tag, "-m", text, what=f"set tag {made.tag}")
    left = _git(root, "status", "--porcelain", "--untracked-files=no", what="look at the working tree").splitlines()
    lines.append(f"tag {made.tag}")
    if left:
        lines.append(f"note: {len(left)} tracked files have uncommitted changes, which the tag does not hold")
    return lines


def _exists(root: Path, tag: str) -> bool:
    return _run(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}").returncode == 0


def _committed(root: Path, revision: str) -> dict[str, str]:
    """The digests of `data.dvc` in a commit by place; empty where it has no such file."""
    entries = yaml.safe_load(_text_at(root, revision) or "outs: []")
    return {str(out["path"]): str(out["md5"]) for out in entries["outs"] if "md5" in out}


def _text_at(root: Path, revision: str) -> str:
    """The text of `data.dvc` in a commit, "" without one."""
    shown = _run(root, "show", f"{revision}:./{REGISTRY}")
    return shown.stdout if shown.returncode == 0 else ""


# --- pushing ----------------------------------------------------------------------------------------------------------------------


def push_data(root: Path, made: Made) -> str:
    """`dvc push` of the release alone, to its remote or the default one; returns what DVC says of it. Raises PublishError."""
    try:
        said = run_dvc(root, "push", made.place, doing=f"push {made.place}")
    except SynferError as error:
        raise PublishError(str(error)) from error
    return f"dvc push {made.place}: {said.strip().splitlines()[-1] if said.strip() else 'done'}"


def push_tag(root: Path, made: Made) -> str:
    """Push the tag, and with it the commits that it names, to the branch's remote; the branch itself stays. Raises PublishError."""
    remote = _remote(root)
    _git(root, "push", "--quiet", remote, f"refs/tags/{made.tag}", what=f"push tag {made.tag} to {remote}")
    return f"git push {remote} {made.tag}"


def _remote(root: Path) -> str:
    """The remote that the branch follows, else origin, else the only one."""
    branch = _run(root, "symbolic-ref", "--short", "--quiet", "HEAD").stdout.strip()
    followed = _run(root, "config", f"branch.{branch}.remote").stdout.strip()
    known = _git(root, "remote", what="list remotes").split()
    if followed in known:
        return followed
    if "origin" in known or len(known) == 1:
        return "origin" if "origin" in known else known[0]
    found = f"several ({', '.join(known)}), and none is origin" if known else "none"
    raise PublishError(f"git has no remote for the tag: {found}; name one with: git remote add origin URL")


def _git(root: Path, *arguments: str, what: str) -> str:
    """What git prints; raises PublishError that begins with what it could not do."""
    done = _run(root, *arguments)
    if done.returncode != 0:
        raise PublishError(f"git could not {what}: {' '.join((done.stderr or done.stdout).split()) or 'it gave no reason'}")
    return done.stdout


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, env=quiet, check=False)
    except FileNotFoundError:
        raise PublishError("git is not installed") from None
