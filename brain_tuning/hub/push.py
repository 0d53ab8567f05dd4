"""Publish a folder: one check, one commit, or nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from brain_tuning.errors import PublishError, StorageError
from brain_tuning.hub.connection import Connection, Retry, check_repo_id, connect
from brain_tuning.hub.contents import Content, is_same, list_remote, read_content
from brain_tuning.hub.layout import LayoutReport, check_layout, is_layout_name


@dataclass(frozen=True)
class PushReport:
    """What was published, and where.

    Args:
        repo_id: ``namespace/name``.
        commit_sha: commit that holds exactly the folder's files; None after a dry run.
        n_files: files of the folder.
        n_bytes: their size together.
        changed: whether this push made a commit; False if the repository held the same already.
        dry_run: folder that holds what would have been pushed; None for a real push.
    """

    repo_id: str
    commit_sha: str | None
    n_files: int
    n_bytes: int
    changed: bool
    dry_run: Path | None = None

    def __str__(self) -> str:
        size = f"{self.n_files} files, {self.n_bytes / 1e6:.1f} MB"
        if self.dry_run is not None:
            return f"dry run for {self.repo_id}: {size} written to {self.dry_run}, nothing pushed"
        done = "pushed" if self.changed else "already up to date, no commit made"
        return f"{self.repo_id}: {done} ({size}, commit {self.commit_sha})"


def push(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    dry_run: Path | str | None = None,
    commit_message: str | None = None,
    endpoint: str | None = None,
    retry: Retry | None = None,
) -> PushReport:
    """Publish a folder to a repository of the Hub in one commit.

    The folder is checked first (:func:`brain_tuning.hub.layout.check_layout`). Files of the layout that the
    repository holds and the folder does not are deleted in the same commit; other files there are left alone.
    Every request may be repeated, so a push that failed is simply called again.

    Args:
        folder: folder in the published layout.
        repo_id: ``namespace/name``; created if it does not exist.
        private: create it privately; refused if it already exists and is public.
        revision: branch to commit to, created from main if it does not exist; None for main.
        token: access token; None for that of HF_TOKEN or ``hf auth login``.
        dry_run: write exactly what would be pushed to this new folder instead, without any request.
        commit_message: title of the commit; None for one that names the adapters.
        endpoint: address of the Hub; None for that of HF_ENDPOINT.
        retry: when to try again after a passing failure; None for 5 attempts.

    Returns:
        The commit and what it holds.

    Raises:
        PublishError: the folder fails its check, or the Hub refused; then the branch is as it was before.
        StorageError: the dry run cannot be written.
    """
    report = check_layout(folder)
    _check_base_is_not_local(report)
    if dry_run is not None:
        check_repo_id(repo_id)
        return _write_dry_run(report, repo_id, Path(dry_run))
    connection = connect(repo_id, token, retry or Retry(), writes=True)
    api = HfApi(endpoint=endpoint, token=connection.token)
    contents = {name: read_content(report.folder / name) for name in report.files}
    start = _open_repository(api, connection, private=private, revision=revision)
    message = commit_message or _message(report)
    sha = connection.call(lambda: _commit(api, repo_id, report.folder, contents, start, revision, message))
    return PushReport(repo_id, sha, len(report.files), report.n_bytes, changed=sha != start)


def _open_repository(api: HfApi, connection: Connection, *, private: bool, revision: str | None) -> str:
    """Create repository and branch where they are missing; returns the commit that the push builds on."""
    repo_id = connection.repo_id
    connection.call(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
    if private and not connection.call(lambda: api.model_info(repo_id)).private:
        raise PublishError(
            "the repository exists and is public, but private=True was asked for",
            where=repo_id,
            remedy="make it private in its settings on the Hub, or choose another name",
        )
    if revision is not None:
        connection.call(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
    return str(connection.call(lambda: api.model_info(repo_id, revision=revision)).sha)


def _commit(
    api: HfApi,
    repo_id: str,
    folder: Path,
    contents: dict[str, Content],
    start: str,
    revision: str | None,
    message: str,
) -> str:
    """Make the branch equal to the folder with one commit on ``start``; returns the commit that is equal.

    Called again after a lost answer, it finds either nothing done, and does it, or all done.
    """
    head = str(api.model_info(repo_id, revision=revision).sha)
    changed, stale = _difference(api, repo_id, contents, head)
    if not changed and not stale:
        return head
    if head != start:
        raise PublishError(
            "the repository changed meanwhile, nothing was pushed",
            where=f"{repo_id} is at {head}, was at {start}",
            remedy="look at its latest commit, then push again",
        )
    deletions = [CommitOperationDelete(name, is_folder=False) for name in stale]
    additions = [CommitOperationAdd(name, str(folder / name)) for name in changed]
    made = api.create_commit(
        repo_id,
        [*deletions, *additions],
        commit_message=message,
        revision=revision,
        parent_commit=start,
    )
    missing, left = _difference(api, repo_id, contents, made.oid)
    if missing or left:
        raise PublishError(
            "the repository does not hold what was pushed",
            where=f"{repo_id}: {', '.join([*missing, *left])}",
            remedy="look for a .gitignore in the repository, then push again",
        )
    return made.oid


def _difference(api: HfApi, repo_id: str, contents: dict[str, Content], revision: str) -> tuple[list[str], list[str]]:
    """Names of files to upload, and of files of the layout to delete."""
    remote = list_remote(api, repo_id, revision)
    changed = [name for name, own in contents.items() if name not in remote or not is_same(own, remote[name])]
    stale = [name for name in remote if name not in contents and is_layout_name(name)]
    return changed, stale


def _message(report: LayoutReport) -> str:
    if len(report.adapters) > 3:
        return f"Publish {len(report.adapters)} adapters"
    return "Publish " + ", ".join(report.adapters)


def _check_base_is_not_local(report: LayoutReport) -> None:
    # transformers prefers a local folder to the repository of the same name
    if Path(report.base_model).is_dir():
        raise PublishError(
            f"a local folder is named like the base model {report.base_model}",
            where="encoding/config.json",
            expected="weights that others can get from the Hub",
            remedy="rename the folder, tune from the Hub's weights, and publish from another directory",
        )


def _write_dry_run(report: LayoutReport, repo_id: str, target: Path) -> PushReport:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PublishError("the dry run's folder is not empty", where=target, remedy="name a new folder")
    try:
        for name in report.files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(report.folder / name, target / name)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise StorageError(f"the dry run cannot be written ({error})", where=target) from error
    return PushReport(repo_id, None, len(report.files), report.n_bytes, changed=False, dry_run=target)
