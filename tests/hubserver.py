"""A Hugging Face Hub on localhost: the endpoints that huggingface_hub calls, over real HTTP, kept in memory.

``Hub(port)`` starts it; ``hub.url`` goes into ``HF_ENDPOINT`` before huggingface_hub is imported (conftest does).
Commits are real: every one has its own files and hash. Faults are asked for: ``hub.fail(times, status)`` answers the
next requests of a kind with an error, ``hub.cut(times)`` ends the next downloads half-way.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

import yaml


class Repo:
    """One repository: commits, and what branches and tags point to."""

    def __init__(self, private=False):
        self.private, self.downloads = private, 0
        self.commits = {}
        self.refs = {"main": self.commit({})}
        self.messages = []

    def commit(self, files):
        name = hashlib.sha1(
            repr((len(self.commits), sorted((k, hash(v)) for k, v in files.items()))).encode()
        ).hexdigest()
        self.commits[name] = dict(files)
        return name

    def at(self, revision):
        name = self.refs.get(revision, revision)
        return (name, self.commits[name]) if name in self.commits else (None, None)


class Hub:
    """A hub that serves until :meth:`close`."""

    def __init__(self, port=0, token="hf_secret"):
        self.token, self.repos, self.blobs = token, {}, {}
        self.seen, self.failing, self.cutting, self.closed = [], [], 0, False
        self.flooding, self.flooded = 0, 0  # MiB that every download of contents brings, whatever was announced
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.elsewhere = f"http://localhost:{self.server.server_port}"  # large files lie on another host, as there
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.closed = True  # connections that are kept alive get no more answers
        self.server.shutdown()
        self.server.server_close()

    def fail(self, pattern, times=1, status=503):
        """The next requests whose "METHOD path" matches are answered with an error."""
        self.failing += [(re.compile(pattern), status)] * times

    def cut(self, times=1):
        """The next downloads of file contents end half-way."""
        self.cutting = times

    def requests(self, pattern):
        return [line for line in self.seen if re.search(pattern, line)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._route("HEAD")

    def do_GET(self):
        self._route("GET")

    def do_POST(self):
        self._route("POST")

    def do_PUT(self):
        self._route("PUT")

    def _route(self, method):
        if self.hub.closed:
            self.close_connection = True
            return None
        url = urlparse(self.path)
        self.where, self.query = unquote(url.path), parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        line = f"{method} {self.where}"
        self.hub.seen.append(line)
        for place, (pattern, status) in enumerate(self.hub.failing):
            if pattern.search(line):
                del self.hub.failing[place]
                return self._json({"error": "asked to fail"}, status)
        for pattern, name in ROUTES:
            if found := re.fullmatch(pattern, line):
                return getattr(self, name)(*found.groups())
        return self._json({"error": f"no route {line}"}, 404)

    # -- answers ---------------------------------------------------------------------------------------
    def _send(self, status, content=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, status=200, **headers):
        self._send(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    @property
    def known(self):
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _repo(self, name, write=False):
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.known):
            self._json({"error": "Repository not found"}, 401 if not self.known else 404, X_Error_Code="RepoNotFound")
            return None
        if write and not self.known:
            self._json({"error": "Invalid credentials"}, 401)
            return None
        return repo

    def _at(self, name, revision):
        repo = self._repo(name)
        if repo is None:
            return None
        commit, files = repo.at(revision)
        if commit is None:
            self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return None
        return commit, files

    # -- routes ----------------------------------------------------------------------------------------
    def whoami(self):
        self._json(
            {"name": "me", "type": "user", "orgs": []} if self.known else {"error": "no"}, 200 if self.known else 401
        )

    def create(self):
        if not self.known:
            return self._json({"error": "Invalid username or password."}, 401)
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repos:
            return self._json({"error": "You already created this model repo", **url}, 409)
        self.hub.repos[name] = Repo(bool(asked.get("private")) or asked.get("visibility") == "private")
        return self._json(url)

    def validate(self):
        wrong = "license: MIT License" in self.body.decode()
        error = {"message": '"license" must be one of mit, apache-2.0'}
        self._json({"errors": [error] if wrong else [], "warnings": []}, 400 if wrong else 200)

    def preupload(self, name, revision):
        if self._repo(name, write=True) is None:
            return
        files = json.loads(self.body)["files"]
        mode = lambda path: "lfs" if path.endswith(".safetensors") else "regular"
        self._json({"files": [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False, "oid": None}
                              for f in files]})  # fmt: skip

    def lfs_batch(self, name):
        if self._repo(name, write=True) is None:
            return
        objects = []
        for each in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"},
                       "verify": {"href": f"{self.hub.url}/verify"}}  # fmt: skip
            there = each["oid"] in self.hub.blobs
            objects.append({"oid": each["oid"], "size": each["size"], **({} if there else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects}, Content_Type_="x")

    def lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._json({"error": "hash"}, 400)
        self.hub.blobs[oid] = self.body
        return self._send(200)

    def verify(self):
        self._json({})

    def commit(self, name, revision):
        repo = self._repo(name, write=True)
        if repo is None:
            return None
        head, files = repo.at(revision)
        if head is None:
            return self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        files, request = dict(files), self.query.get("create_pr") == ["1"]
        for line in self.body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            elif item["key"] == "header":
                repo.messages.append(value["summary"])
        new = repo.commit(files)
        if json.loads(self.body.decode().splitlines()[0])["value"].get("parentCommit") not in (None, head):
            return self._json({"error": "A commit has happened since"}, 412)
        target = f"refs/pr/{len(repo.messages)}" if request else revision
        repo.refs[target] = new
        answer = {"commitUrl": f"{self.hub.url}/{name}/commit/{new}", "commitOid": new, "success": True}
        if request:
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/{len(repo.messages)}"
        return self._json(answer)

    def info(self, name, revision=None):
        found = self._at(name, revision or "main")
        if found is not None:
            commit, files = found
            siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
            self._json(
                {
                    "id": name,
                    "modelId": name,
                    "sha": commit,
                    "siblings": siblings,
                    "tags": [],
                    "private": self.hub.repos[name].private,
                }
            )

    def models(self):
        """The list of models, by tags, a part of the name, author and task."""
        asked = self.query
        wanted = [tag for value in asked.get("filter", []) for tag in value.split(",")]
        found = []
        for name, repo in self.hub.repos.items():
            data = yaml.safe_load(repo.at("main")[1].get("README.md", b"---\n---").decode().split("---")[1]) or {}
            base = data.get("base_model")
            tags = [*data.get("tags", []), *([f"base_model:{base}", f"base_model:adapter:{base}"] if base else [])]
            fits = all(tag in tags or tag == data.get("pipeline_tag") for tag in wanted)
            fits &= all(part in name for part in asked.get("search", []))
            fits &= all(name.startswith(f"{author}/") for author in asked.get("author", []))
            fits &= all(task == data.get("pipeline_tag") for task in asked.get("pipeline_tag", []))
            if fits and not repo.private:
                found.append({"id": name, "modelId": name, "tags": tags, "pipeline_tag": data.get("pipeline_tag"),
                              "downloads": repo.downloads, "lastModified": "2026-01-31T10:00:00.000Z"})  # fmt: skip
        found.sort(key=lambda each: -each["downloads"])
        self._json(found[: int(asked.get("limit", ["1000"])[0])])

    def tree(self, name, revision):
        found = self._at(name, revision)
        if found is not None:
            self._json([{"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for path, content in found[1].items()])  # fmt: skip

    def tag(self, name, revision):
        repo = self._repo(name, write=True)
        if repo is not None:
            repo.refs[json.loads(self.body)["tag"]] = repo.at(revision)[0]
            self._json({})

    def branch(self, name, branch):
        repo = self._repo(name, write=True)
        if repo is None:
            return None
        if branch.startswith("refs/"):
            return self._json({"error": "Invalid reference name"}, 400)
        if branch in repo.refs:
            return self._json({"error": "Reference already exists"}, 409)
        repo.refs[branch] = repo.at("main")[0]
        return self._json({})

    def resolve(self, name, revision, path):
        found = self._at(name, revision)
        if found is None:
            return None
        commit, files = found
        if path not in files:
            return self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        content = files[path]
        if path.endswith(".safetensors"):
            oid = hashlib.sha256(content).hexdigest()
            self.hub.blobs[oid] = content
            headers = {"X_Linked_Etag": f'"{oid}"', "X_Linked_Size": len(content), "X_Repo_Commit": commit}
            return self._send(302, Location=f"{self.hub.elsewhere}/blob/{oid}", ETag=f'"{oid}"', **headers)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self._content(content, ETag=etag, X_Repo_Commit=commit)

    def blob(self, oid):
        if self.headers.get("Authorization"):
            return self._json({"error": "a token was sent to another host"}, 400)
        return self._content(self.hub.blobs[oid], ETag=f'"{oid}"')

    def _content(self, content, **headers):
        begin = 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            begin = int(found.group(1))
        part = content[begin:]
        status = 206 if begin else 200
        if begin:
            headers["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and self.hub.cutting and len(part) > 1:
            self.hub.cutting -= 1
            self.send_response(status)
            for key, value in {**headers, "Content_Length": len(part)}.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return None
        if self.command == "GET" and self.hub.flooding:
            self.send_response(status)
            for key, value in {**headers, "Transfer_Encoding": "chunked"}.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()
            with suppress(OSError):  # the client hangs up
                for _ in range(self.hub.flooding):
                    self.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    self.hub.flooded += 1
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True
            return None
        return self._send(status, part, Content_Length=len(part), **headers)


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"GET /api/models", "models"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"POST /api/models/{NAME}/preupload/(.+)", "preupload"),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /lfs/(\w+)", "lfs_put"),
    (r"POST /verify", "verify"),
    (rf"POST /api/models/{NAME}/commit/(.+)", "commit"),
    (rf"POST /api/models/{NAME}/tag/(.+)", "tag"),
    (rf"POST /api/models/{NAME}/branch/(.+)", "branch"),
    (rf"GET /api/models/{NAME}", "info"),
    (rf"GET /api/models/{NAME}/revision/(.+)", "info"),
    (rf"GET /api/models/{NAME}/tree/([^/]+)", "tree"),
    (rf"(?:HEAD|GET) /{NAME}/resolve/((?:refs/pr/\d+)|[^/]+)/(.+)", "resolve"),
    (r"(?:HEAD|GET) /blob/(\w+)", "blob"),
]
