"""A hub on this machine, for test_pull.py: repositories in memory, served as huggingface.co serves them, weights by way of another
host; and every way to misbehave that a test asks for.

    with Hub() as hub:
        hub.add("google/gemma-3-1b-it", {"config.json": b"{}", "model.safetensors": b"..."})
        hub.behave["model.safetensors"] = cut(1000)

A behaviour is a function (handler, data, status) -> True if it has answered; it is asked where a file's bytes are due. hub.log has
every request: (server, method, path, headers).
"""
import hashlib
import http.server
import json
import threading
import time
import urllib.parse


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_HEAD(self):
        self.do_GET()

    def answer(self, status, data=b"", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(data)
                self.wfile.flush()
            except OSError:
                self.close_connection = True

    def part(self, data):
        """The bytes from the Range on, with its status and headers."""
        wanted = self.headers.get("Range")
        if not wanted:
            return 200, data, {}
        start = int(wanted.split("=")[1].split("-")[0])
        if start >= len(data):
            return 416, b"", {"Content_Range": "bytes */%d" % len(data)}
        return 206, data[start:], {"Content_Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))}

    def send_file(self, name, data, **headers):
        hub = self.server.hub
        behave = hub.behave.get(name)
        if behave and behave(self, data):
            return
        status, rest, more = self.part(data)
        self.answer(status, rest, **dict(headers, **more))

    def do_GET(self):
        hub, url = self.server.hub, urllib.parse.urlsplit(self.path)
        hub.log.append((self.server.name, self.command, self.path, dict(self.headers)))
        if hub.first and hub.first(self):
            return
        parts = [urllib.parse.unquote(p) for p in url.path.split("/")[1:]]
        if self.server.name == "store":
            name, data = hub.contents[parts[0]]
            return self.send_file(name, data)
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), parts[5]
        else:
            repo, revision = "/".join(parts[:2]), parts[3]
        r = hub.repos.get(repo)
        if r is None:
            return self.answer(401, b"Invalid username or password.", X_Error_Code="RepoNotFound")
        if revision not in ("main", "refs/pr/1", r["commit"]):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if parts[:2] == ["api", "models"]:
            return self.answer(200, json.dumps(hub.description(r)).encode(), Content_Type="application/json")
        if hub.gated and self.headers.get("Authorization") != "Bearer " + hub.gated:
            status = 403 if "Authorization" in self.headers else 401
            return self.answer(status, b"Access to model is restricted", X_Error_Code="GatedRepo")
        name = "/".join(parts[4:])
        data = r["files"].get(name)
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        if not name.endswith((".safetensors", ".gguf")):
            return self.send_file(name, data, ETag='"%s"' % git_blob(data), X_Repo_Commit=r["commit"])
        sha = hashlib.sha256(data).hexdigest()
        hub.contents[sha] = (name, data)
        self.answer(302, Location="%s/%s?signed=1" % (hub.store_url, sha), X_Linked_Etag='"%s"' % hub.lie_etag.get(name, sha),
                    X_Linked_Size=len(data), X_Repo_Commit=r["commit"])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub, name, host="127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.hub, self.name = hub, name

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_):
        pass  # whoever hung up was meant to


class Hub:
    def __init__(self):
        self.repos, self.behave, self.contents, self.log, self.lie_etag = {}, {}, {}, [], {}
        self.gated = self.first = None
        self.sizes = True  # whether the list has sizes and hashes
        self.extra = []    # further entries of every list
        self.lie_size, self.lie_sha = {}, {}
        self.servers = []
        for name in ("hub", "store"):
            server = Server(self, name)
            server.start()
            self.servers.append(server)
        self.url, self.store_url = ("http://127.0.0.1:%d" % s.server_address[1] for s in self.servers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add(self, repo, files):
        commit = hashlib.sha1(repr(sorted((n, hashlib.sha1(d).hexdigest()) for n, d in files.items())).encode()).hexdigest()
        self.repos[repo] = {"commit": commit, "files": files}
        return commit

    def description(self, r):
        siblings = []
        for name, data in sorted(r["files"].items()):
            entry = {"rfilename": name}
            if self.sizes:
                size = self.lie_size.get(name, len(data))
                entry.update(size=size, blobId=git_blob(data))
                if name.endswith((".safetensors", ".gguf")):
                    sha = self.lie_sha.get(name, hashlib.sha256(data).hexdigest())
                    entry["lfs"] = {"sha256": sha, "size": size, "pointerSize": 134}
            siblings.append(entry)
        return {"_id": "1", "id": "x", "private": False, "tags": ["a", {"b": None}], "sha": r["commit"], "siblings": siblings + self.extra}

    def asked(self, word):
        return [entry for entry in self.log if word in entry[2]]


# ---- behaviours of a file ----

def times(n, behaviour):
    """The first n times only."""
    left = [n]

    def behave(handler, data):
        if left[0] == 0 or handler.command == "HEAD":
            return False
        left[0] -= 1
        return behaviour(handler, data)
    return behave


def hang_up(handler):
    handler.close_connection = True
    handler.connection.close()


def cut(at):
    """The connection ends behind so many bytes of the answer, whose length was announced in full."""
    def behave(handler, data):
        status, rest, more = handler.part(data)
        if len(rest) <= at:
            return False
        handler.answer(status, rest[:at], length=len(rest), **more)
        handler.close_connection = True
        return True
    return behave


def status(code, **headers):
    def behave(handler, data):
        handler.answer(code, b"no", **headers)
        return True
    return behave


def announce(length):
    """Says so many bytes, sends what there is."""
    def behave(handler, data):
        handler.answer(200, data, length=length)
        handler.close_connection = True
        return True
    return behave


def instead(other):
    def behave(handler, data):
        st, rest, more = handler.part(other)
        handler.answer(st, rest, **more)
        return True
    return behave


def no_range(handler, data):
    handler.answer(200, data)
    return True


def endless(handler, data):
    """No length; bytes until the other side has enough."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass
    return True


def slow(step, seconds):
    """`step` bytes, then a wait, again and again."""
    def behave(handler, data):
        st, rest, more = handler.part(data)
        handler.send_response(st)
        handler.send_header("Content-Length", str(len(rest)))
        for name, value in more.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        try:
            for i in range(0, len(rest), step):
                handler.wfile.write(rest[i:i + step])
                handler.wfile.flush()
                time.sleep(seconds)
        except OSError:
            handler.close_connection = True
        return True
    return behave
