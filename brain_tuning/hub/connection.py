"""Requests to the Hub: which token, when to try again, and every failure as one line with its remedy."""

from __future__ import annotations

import errno
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from huggingface_hub import get_session, get_token, is_offline_mode
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers, validate_repo_id

from brain_tuning.errors import BrainTuningError, PublishError, StorageError
from brain_tuning.hub.plain_table import printable
from brain_tuning.models.published_private import without_tokens

Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)

_TRANSIENT_STATUS = frozenset([408, 429, 500, 502, 503, 504])
#: the Hub answers 401 and 403 to these too, for it does not say which repositories exist
_OF_ONE_REPOSITORY = (GatedRepoError, RepositoryNotFoundError)
#: by name, for huggingface_hub 1 brings httpx and huggingface_hub 2 httpx2
_TRANSIENT_ERRORS = frozenset(["TimeoutException", "NetworkError", "RemoteProtocolError"])
#: what the Hub answers where every other request of this client would be refused as well
_CLOSED_STATUS = frozenset([401, 403, 429])
_CLOSED = "hub_is_closed"
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Retry:
    """When to try again: wait ``min(first_wait_s 2^k, longest_wait_s)``, and up to half as long again.

    A wait that the Hub asks for (``Retry-After``, ``RateLimit``) is honoured as the least wait, up to
    ``longest_asked_s``; beyond that the request is given up.

    Args:
        n_attempts: attempts in all.
        first_wait_s: wait after the first failure.
        longest_wait_s: longest wait of the doubling ones.
        longest_asked_s: longest wait accepted from the Hub.
        silence_s: longest silence of the Hub within a request; huggingface_hub itself would wait for ever.
    """

    n_attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_asked_s: float = 600.0
    silence_s: float = 120.0

    def wait_s(self, n_failed: int, asked_s: float) -> float:
        """Seconds to wait after ``n_failed`` failures, of which the Hub asked for ``asked_s``."""
        doubled = min(self.first_wait_s * 2.0 ** (n_failed - 1), self.longest_wait_s)
        # clients that failed together must not come back together
        return max(doubled, asked_s) + 0.5 * doubled * random.random()


@dataclass(frozen=True)
class Connection:
    """A repository on the Hub, and how to reach it.

    Args:
        repo_id: ``namespace/name``.
        token: access token, or None for anonymous reading.
        retry: when to try again.
    """

    repo_id: str
    token: str | None
    retry: Retry

    def call(self, action: Callable[[], Answer]) -> Answer:
        """Run ``action``, again after a passing failure, and return its answer.

        Args:
            action: one or more requests that may safely be made again.

        Raises:
            PublishError: one line that says what the Hub refused and what to do; the token is not in it.
            StorageError: this machine's disk is full.
        """
        for n_failed in range(1, self.retry.n_attempts + 1):
            try:
                with _silence_of_at_most(self.retry.silence_s):
                    return action()
            except (HTTPError, OSError, ValueError, RuntimeError) as raised:  # noqa: PERF203  requests take longer
                error = _cause(raised)
                asked_s = _asked_wait_s(error)
                again = _is_transient(error) and asked_s <= self.retry.longest_asked_s
                if not again or n_failed == self.retry.n_attempts:
                    # the chain of exceptions may quote the Hub, and the Hub the token
                    raise self._as_our_error(error, n_failed) from None
                wait_s = self.retry.wait_s(n_failed, asked_s)
                left = self.retry.n_attempts - n_failed
                _log.warning("%s: %s; again in %.1f s (%d left)", self.repo_id, _explain(error)[0], wait_s, left)
                time.sleep(wait_s)
        raise PublishError("no attempt was allowed", expected="n_attempts of 1 or more")

    def _as_our_error(self, error: BaseException, n_attempts: int) -> BrainTuningError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageError("the disk is full", where=error.filename or "", remedy="free space, then try again")
        what, remedy = _explain(error)
        said = self._said(error)
        if _is_transient(error):
            what += f" ({n_attempts} attempts)"
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        closed = status in _CLOSED_STATUS if status is not None else _is_transient(error)
        refused = PublishError(f"{what}: {said}" if said else what, where=self.repo_id, remedy=remedy)
        vars(refused)[_CLOSED] = closed and not isinstance(error, _OF_ONE_REPOSITORY)
        return refused

    def _said(self, error: BaseException) -> str:
        text = (error.server_message or "") if isinstance(error, HfHubHTTPError) else str(error)
        # what a server says must neither repeat a token nor move the cursor
        text = printable(without_tokens(text, self.token))
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def connect(repo_id: str, token: str | None, retry: Retry, *, writes: bool) -> Connection:
    """Check name, network mode and token before the first request.

    Args:
        repo_id: ``namespace/name``.
        token: access token; None for the one of HF_TOKEN or of ``hf auth login``, empty for none.
        retry: when to try again.
        writes: whether a token is required.

    Raises:
        PublishError: the name is not valid, HF_HUB_OFFLINE is set, or there is no usable token.
    """
    check_repo_id(repo_id)
    return connect_to(repo_id, token, retry, writes=writes)


def connect_to(where: str, token: str | None, retry: Retry, *, writes: bool) -> Connection:
    """Like :func:`connect`, for what is no repository.

    Args:
        where: namespace or collection, for errors.
        token, retry, writes: as for :func:`connect`.

    Raises:
        PublishError: HF_HUB_OFFLINE is set, or there is no usable token.
    """
    if is_offline_mode():
        raise PublishError(
            "the Hub cannot be reached: HF_HUB_OFFLINE is set",
            where=where,
            remedy="unset HF_HUB_OFFLINE" + ", or use dry_run to see what would be published" * writes,
        )
    token = (token if token is not None else get_token() or "").strip()
    if not token and writes:
        raise PublishError(
            "no access token was given",
            where=where,
            remedy="run 'hf auth login' or set HF_TOKEN to a token with write access",
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        # the HTTP client would refuse such a header and quote it
        raise PublishError("the access token holds characters that no token has", remedy="copy it again")
    return Connection(where, token or None, retry)


class _Patience:
    """Hook of the HTTP client: gives requests that would wait for ever a longest silence, seconds; None for none."""

    silence_s: float | None = None

    def __call__(self, request: Any) -> None:
        asked = request.extensions.get("timeout") or {}
        if self.silence_s is not None:
            given = {key: asked.get(key) or self.silence_s for key in ("connect", "read", "write", "pool")}
            request.extensions = {**request.extensions, "timeout": given}


@contextmanager
def _silence_of_at_most(silence_s: float) -> Iterator[None]:
    # huggingface_hub asks for no time limit in most requests, and takes a new client when one has failed
    client = get_session()
    hooks = client.event_hooks
    patience = next((hook for hook in hooks["request"] if isinstance(hook, _Patience)), None)
    if patience is None:
        patience = _Patience()
        client.event_hooks = {**hooks, "request": [*hooks["request"], patience]}
    patience.silence_s = silence_s
    try:
        yield
    finally:
        patience.silence_s = None


def is_closed(error: BrainTuningError) -> bool:
    """Whether other repositories would fail as well: the Hub refuses this client, or cannot be reached.

    Args:
        error: raised by :meth:`Connection.call`.
    """
    return bool(vars(error).get(_CLOSED, False))


def check_repo_id(repo_id: str) -> None:
    """Refuse a name that the Hub would refuse.

    Raises:
        PublishError: it is not ``namespace/name`` of letters, digits, ``-``, ``_`` and ``.``.
    """
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise PublishError(
            "the repository's name is not valid",
            where=repr(repo_id),
            expected="namespace/name of at most 96 letters, digits, '-', '_' and '.'",
        )


def _cause(error: BaseException) -> BaseException:
    """The error behind those that huggingface_hub raises around a failed upload or download."""
    while error.__cause__ is not None and (type(error) is RuntimeError or isinstance(error, FileNotFoundError)):
        error = error.__cause__
    return error


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT_STATUS
    if isinstance(error, (ConnectionError, TimeoutError, json.JSONDecodeError)):
        # an overloaded proxy answers in HTML where JSON was due
        return True
    return not _TRANSIENT_ERRORS.isdisjoint(cls.__name__ for cls in type(error).__mro__)


def _asked_wait_s(error: BaseException) -> float:
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    limit = parse_ratelimit_headers(error.response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = error.response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _explain(error: BaseException) -> tuple[str, str]:
    """What happened and what to do, for a failure of a request."""
    if isinstance(error, GatedRepoError):
        return "the repository is gated", "ask for access on its page, then log in with 'hf auth login'"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository that this token may see", "check the name, or log in with a token"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision", "name an existing branch, tag or commit"
    if isinstance(error, EntryNotFoundError):
        return "a file is not in the repository", "try again: the repository may have changed meanwhile"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    explained = {
        401: ("the Hub refused the access token", "log in again with 'hf auth login', or renew HF_TOKEN"),
        403: ("the access token may not do this", "use a token with write access to this namespace"),
        412: (
            "the repository changed meanwhile, nothing was pushed",
            "look at its latest commit, then push again",
        ),
        413: ("the Hub says that the upload is too large", "publish fewer adapters or figures at once"),
        429: ("the Hub limits the rate of requests", "wait some minutes, then push again: it resumes"),
    }
    if status in explained:
        return explained[status]
    if status >= 500:
        return f"the Hub is not well (status {status})", "try again later: nothing half-written was left"
    if status:
        return f"the Hub refused the request (status {status})", "see what it says"
    if "Consistency check failed" in str(error):
        return "the download is truncated", "pull again"
    if _is_transient(error):
        return "the connection to the Hub failed", "check the network, then try again: it resumes"
    return f"the request failed ({type(error).__name__})", "see what it says"
