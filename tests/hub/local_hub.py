"""A small Hugging Face Hub over HTTP for tests: standard library only, everything in memory.

It speaks what ``huggingface_hub`` 2.4, ``transformers`` and ``peft`` ask of the real one when Xet is off:
identity, repositories, revisions, trees, LFS uploads, commits, branches, tags, collections, and downloads
with HEAD, GET and Range. It checks tokens, keeps a log of every request and fails on demand.

A client needs, before its first import of ``huggingface_hub``::

    HF_ENDPOINT=<hub.endpoint> HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_test HF_HOME=<fresh folder>
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub_state import LFS_SUFFIXES, Entry, HubState, LoggedRequest, Refusal, Reply, Repo

USER = "tester"
ORGANISATION = "lab"
WRITE_TOKEN = "hf_test"
READ_TOKEN = "hf_read"
LFS_THRESHOLD_BYTES = 10 * 2**20
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


class LocalHub(HubState):
    """The server: ``endpoint`` is where it listens until :meth:`close`."""

    def __init__(self) -> None:
        super().__init__()
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request: faults, token, route, answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: LocalHub

    def log_message(self, format: str, *args: object) -> None:
        return

    def answer(self) -> None:
        fault = self.hub.take_fault(self.command, self.path)
        if fault is not None and fault.action == "drop":
            self.rfile.read(min(fault.keep_bytes, int(self.headers.get("Content-Length") or 0)))
            return self.hang_up()
        body = self.read_body()
        if fault is not None and fault.do is not None:
            fault.do()
        if fault is not None and fault.action == "status":
            return self.send(Reply(fault.status, fault.body, {"Content-Type": "text/html", **fault.headers}))
        try:
            with self.hub.lock:
                reply = self.route(body)
        except Refusal as refusal:
            reply = refusal.reply
        if fault is None:
            return self.send(reply)
        if fault.action == "drop_after":
            return self.hang_up()
        if fault.action == "short":
            reply.body = reply.body[: fault.keep_bytes]
        if fault.action == "corrupt":
            reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
        return self.send(reply, keep_bytes=fault.keep_bytes if fault.action == "truncate" else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while n_bytes := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(n_bytes))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def record(self, status: int) -> None:
        seen = LoggedRequest(self.command, unquote(self.path), status, self.headers.get("Authorization") or "")
        self.hub.log.append(seen)

    def hang_up(self) -> None:
        self.record(0)
        self.close_connection = True
        self.connection.close()

    def send(self, reply: Reply, keep_bytes: int | None = None) -> None:
        self.record(reply.status)
        self.send_response(reply.status)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(reply.body)),
            **reply.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[:keep_bytes])
        if keep_bytes is not None:
            self.close_connection = True

    # --- who asks -----------------------------------------------------------------------------

    def check_token(self, *, writes: bool) -> str | None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme and token not in (WRITE_TOKEN, READ_TOKEN):
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if writes and not token:
            raise Refusal(401, "", "Invalid username or password.")
        if writes and token == READ_TOKEN:
            raise Refusal(403, "", "you must use a write token to upload to a repository")
        return token or None

    def find(self, kind: str, repo_id: str, *, writes: bool) -> Repo:
        token = self.check_token(writes=writes)
        repo = self.hub.repos.get((kind, repo_id if "/" in repo_id else f"{USER}/{repo_id}"))
        if repo is None or (repo.private and token is None):
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if writes and repo.id.split("/")[0] not in (USER, ORGANISATION):
            raise Refusal(403, "", "you don't have the rights to write to this repository")
        return repo

    # --- routes -------------------------------------------------------------------------------

    def route(self, body: bytes) -> Reply:
        path = urlsplit(self.path).path
        for method, pattern, name in ROUTES:
            if self.command in method and (match := re.fullmatch(pattern, path)):
                groups = {key: unquote(value or "") for key, value in match.groupdict().items()}
                groups["kind"] = KINDS.get(groups.get("kind") or "models", "model")
                action: Callable[..., Reply] = getattr(self, name)
                return action(body=body, **groups)
        raise Refusal(404, "NotImplemented", f"{self.command} {path}")

    def whoami(self, **_: object) -> Reply:
        token = self.check_token(writes=False)
        if token is None:
            raise Refusal(401, "", "Invalid username or password.")
        role = "write" if token == WRITE_TOKEN else "read"
        access = {"accessToken": {"displayName": "test", "role": role}}
        orgs = [{"name": ORGANISATION, "roleInOrg": "write"}]
        return as_json({"type": "user", "id": "0", "name": USER, "fullname": USER, "orgs": orgs, "auth": access})

    def validate_yaml(self, **_: object) -> Reply:
        self.check_token(writes=False)
        return as_json({"errors": [], "warnings": []})

    def create_repo(self, body: bytes, **_: object) -> Reply:
        self.check_token(writes=True)
        asked = json.loads(body)
        kind = asked.get("type") or "model"
        namespace = asked.get("organization") or USER
        repo_id = f"{namespace}/{asked['name']}"
        if namespace not in (USER, ORGANISATION):
            raise Refusal(403, "", f"You don't have the rights to create a {kind} under the namespace {namespace!r}")
        url = f"{self.hub.endpoint}/" + ("" if kind == "model" else f"{kind}s/") + repo_id
        if (kind, repo_id) in self.hub.repos:
            return as_json({"error": "You already created this repo", "url": url}, status=409)
        self.hub.create(repo_id, kind=kind, private=asked.get("visibility") == "private")
        return as_json({"url": url, "name": repo_id, "id": "0"})

    def delete_repo(self, body: bytes, **_: object) -> Reply:
        asked = json.loads(body)
        kind = asked.get("type") or "model"
        repo = self.find(kind, f"{asked.get('organization') or USER}/{asked['name']}", writes=True)
        del self.hub.repos[kind, repo.id]
        return as_json({})

    def info(self, kind: str, repo_id: str, revision: str = "", **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)
        sha = repo.resolve(revision or "main")
        files = [
            {"rfilename": path, "size": len(entry.content), "blobId": entry.blob_id}
            for path, entry in repo.tree(sha).items()
        ]
        date = repo.commits[sha]["date"]
        shown = {
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.split("/")[0],
            "sha": sha,
            "siblings": files,
        }
        flags = {
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        return as_json({**shown, **flags, "createdAt": date, "lastModified": date})

    def tree(self, kind: str, repo_id: str, revision: str, folder: str = "", **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)
        tree = repo.tree(repo.resolve(revision))
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in (
            "true",
            "1",
        )
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        inside = {path: entry for path, entry in tree.items() if path.startswith(prefix)}
        if folder and not inside:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        shown, folders = [], set()
        for path, entry in inside.items():
            parts = path[len(prefix) :].split("/")
            depth = len(parts) if recursive else min(len(parts), 2)
            folders |= {prefix + "/".join(parts[:n]) for n in range(1, depth)}
            if recursive or len(parts) == 1:
                shown.append(entry.as_json(path))
        return as_json([as_folder(name) for name in sorted(folders)] + shown)

    def paths_info(self, kind: str, repo_id: str, revision: str, body: bytes, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)
        tree = repo.tree(repo.resolve(revision))
        asked = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
        found = [tree[path].as_json(path) for path in asked["paths"] if path in tree]
        folders = [
            as_folder(path) for path in asked["paths"] if any(name.startswith(f"{path.rstrip('/')}/") for name in tree)
        ]
        return as_json(found + folders)

    def history(self, kind: str, repo_id: str, revision: str = "", **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)
        sha, shown = repo.resolve(revision or "main"), []
        while sha:
            commit = repo.commits[sha]
            authors = [{"user": USER}]
            about = {"title": commit["title"], "message": "", "date": commit["date"], "authors": authors}
            shown.append({"id": sha, **about})
            sha = commit["parent"]
        return as_json(shown)

    def refs(self, kind: str, repo_id: str, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)

        def listed(refs: dict[str, str], prefix: str) -> list[dict]:
            return [{"name": n, "ref": f"refs/{prefix}/{n}", "targetCommit": sha} for n, sha in refs.items()]

        shown = {
            "branches": listed(repo.branches, "heads"),
            "tags": listed(repo.tags, "tags"),
            "converts": [],
        }
        return as_json(shown)

    def change_ref(self, kind: str, repo_id: str, ref: str, revision: str, body: bytes, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=True)
        refs = repo.branches if ref == "branch" else repo.tags
        if self.command == "DELETE":
            if refs.pop(revision, None) is None:
                raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return as_json({})
        asked = json.loads(body or b"{}")
        name, start = (revision, asked.get("startingPoint", "main")) if ref == "branch" else (asked["tag"], revision)
        if name in refs:
            raise Refusal(409, "", f"Reference already exists: {name}")
        refs[name] = repo.resolve(start)
        return as_json({})

    def preupload(self, kind: str, repo_id: str, revision: str, body: bytes, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=True)
        tree = repo.tree(repo.resolve(revision))
        shown = []
        for asked in json.loads(body)["files"]:
            path, sample = asked["path"], base64.b64decode(asked["sample"])
            lfs = b"\0" in sample or path.endswith(LFS_SUFFIXES) or asked["size"] > LFS_THRESHOLD_BYTES
            oid = tree[path].etag if path in tree else None
            mode = "lfs" if lfs else "regular"
            shown.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return as_json({"files": shown})

    def lfs_batch(self, kind: str, repo_id: str, body: bytes, **_: object) -> Reply:
        self.find(kind, repo_id, writes=True)
        objects = []
        for asked in json.loads(body)["objects"]:
            shown = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.uploads:
                href = f"{self.hub.endpoint}/_lfs/{asked['oid']}"
                shown["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(shown)
        return as_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str, body: bytes, **_: object) -> Reply:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(422, "", "content does not have the announced SHA-256")
        self.hub.uploads[oid] = body
        return Reply(200, b"", {"ETag": f'"{oid}"'})

    def lfs_verify(self, oid: str, **_: object) -> Reply:
        return as_json({}, status=200 if oid in self.hub.uploads else 404)

    def commit(self, kind: str, repo_id: str, revision: str, body: bytes, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=True)
        if revision not in repo.branches:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        lines = [json.loads(line) for line in body.splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, repo.branches[revision]):
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.tree(repo.branches[revision]))
        for line in lines:
            path = line["value"].get("path", "")
            if line["key"] == "file":
                tree[path] = Entry(base64.b64decode(line["value"]["content"]), lfs=False)
            elif line["key"] == "lfsFile":
                if line["value"]["oid"] not in self.hub.uploads:
                    raise Refusal(400, "", f"LFS object of {path} was not uploaded")
                tree[path] = Entry(self.hub.uploads[line["value"]["oid"]], lfs=True)
            elif line["key"] == "deletedFile":
                if tree.pop(path, None) is None:
                    raise Refusal(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
            elif line["key"] == "deletedFolder":
                tree = {name: entry for name, entry in tree.items() if not name.startswith(path.rstrip("/") + "/")}
        sha = repo.commit(revision, tree, header["summary"])
        url = f"{self.hub.endpoint}/" + ("" if kind == "model" else f"{kind}s/") + f"{repo.id}/commit/{sha}"
        return as_json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def download(self, kind: str, repo_id: str, revision: str, path: str, **_: object) -> Reply:
        repo = self.find(kind, repo_id, writes=False)
        sha = repo.resolve(revision)
        entry = repo.tree(sha).get(path)
        if entry is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        size = len(entry.content)
        etags = {"ETag": f'"{entry.etag}"', "X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(size)}
        headers = {
            "X-Repo-Commit": sha,
            **etags,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return Reply(200, entry.content, headers)
        first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
        last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Reply(206, entry.content[first : last + 1], headers)

    def create_collection(self, body: bytes, **_: object) -> Reply:
        self.check_token(writes=True)
        asked = json.loads(body)
        words = re.sub(r"[^a-z0-9]+", "-", asked["title"].lower())
        slug = f"{asked['namespace']}/{words}-0123456789abcdef01234567"
        if slug in self.hub.collections:
            return as_json({"error": "this collection already exists", "slug": slug}, status=409)
        owner = {"name": asked["namespace"], "type": "user"}
        about = {"lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "private": False, "theme": "green"}
        self.hub.collections[slug] = {
            "slug": slug,
            "title": asked["title"],
            "owner": owner,
            "items": [],
            **about,
        }
        return as_json({**self.hub.collections[slug], "upvotes": 0})

    def show_collection(self, slug: str, **_: object) -> Reply:
        self.check_token(writes=False)
        return as_json({**self.hub.collections[slug], "upvotes": 0})

    def add_collection_item(self, slug: str, body: bytes, **_: object) -> Reply:
        self.check_token(writes=True)
        collection, item = self.hub.collections[slug], json.loads(body)["item"]
        if item["id"] in [known["id"] for known in collection["items"]]:
            raise Refusal(409, "", "the item is already in the collection")
        about = {
            "_id": f"item{len(collection['items'])}",
            "id": item["id"],
            "type": item["type"],
            "repoType": "model",
        }
        collection["items"].append({**about, "position": len(collection["items"])})
        return as_json({**collection, "upvotes": 0})


def as_json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode())


def as_folder(path: str) -> dict:
    return {
        "type": "directory",
        "path": path,
        "size": 0,
        "oid": hashlib.sha1(quote(path).encode()).hexdigest(),
    }


_REPO = r"(?P<repo_id>[^/]+(?:/[^/]+)??)"
_API = rf"/api/(?P<kind>models|datasets|spaces)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_GIT = rf"/(?:(?P<kind>datasets|spaces)/)?{_REPO}"
#: methods, pattern of the path, name of the method of `Handler` that answers
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", r"/api/repos/create", "create_repo"),
    ("DELETE", r"/api/repos/delete", "delete_repo"),
    ("POST", r"/api/collections", "create_collection"),
    ("POST", r"/api/collections/(?P<slug>.+)/items?", "add_collection_item"),
    ("GET", r"/api/collections/(?P<slug>.+)", "show_collection"),
    ("PUT", r"/_lfs/(?P<oid>[0-9a-f]{64})", "lfs_upload"),
    ("POST", r"/_lfs/(?P<oid>[0-9a-f]{64})/verify", "lfs_verify"),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("GET", rf"{_API}/revision/{_REVISION}", "info"),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<folder>.*))?", "tree"),
    ("POST", rf"{_API}/paths-info/{_REVISION}", "paths_info"),
    ("GET", rf"{_API}/commits/{_REVISION}", "history"),
    ("GET", rf"{_API}/refs", "refs"),
    ("POST", rf"{_API}/preupload/{_REVISION}", "preupload"),
    ("POST", rf"{_API}/commit/{_REVISION}", "commit"),
    ("POST DELETE", rf"{_API}/(?P<ref>branch|tag)/(?P<revision>.+)", "change_ref"),
    ("GET", _API, "info"),
    (
        "GET HEAD",
        rf"/api/resolve-cache/(?P<kind>models|datasets|spaces)/{_REPO}/{_REVISION}/(?P<path>.+)",
        "download",
    ),
    ("GET HEAD", rf"{_GIT}/(?:resolve|raw)/{_REVISION}/(?P<path>.+)", "download"),
]
