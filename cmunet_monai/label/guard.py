"""What stands in front of MONAI Label: who may ask, for what, and how much may be sent.

MONAI Label has no authentication of its own beside Keycloak's, answers every web page that a browser has open, and
takes paths, archives and pickled models from requests. Here only the requests that labelling needs get through.
"""

import asyncio
import base64
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from cmunet_monai.label.bodies import checked_body
from cmunet_monai.label.refusal import RequestRefusedError, refusal_of
from cmunet_monai.label.workspace import ID

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 2**20  # of a label
MAX_PARAMETERS_BYTES = 2**20  # of any other request
MAX_LOGIN_BYTES = 2**12
PIECE_BYTES = 2**16
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAST_TOKEN = 16
_CHECK_SUM = re.compile(r"(MD5|SHA256|SHA512):[0-9a-fA-F]+")
_NAMES = ("image", "label", "id", "tag")
# methods and paths; {…} is one of the names that the server has, and else a 404 that lists them
_ROUTES = (
    ("GET HEAD", "/"),
    ("GET", "/info/"),
    ("GET", "/logs/"),
    ("GET", "/datastore/"),
    ("GET HEAD", "/datastore/image"),
    ("GET", "/datastore/image/info"),
    ("GET HEAD PUT", "/datastore/label"),
    ("GET", "/datastore/label/info"),
    ("POST", "/activelearning/{strategy}"),
    ("POST", "/infer/{model}"),
    ("POST", "/batch/infer/{model}"),
    ("GET DELETE", "/batch/infer"),
    ("POST", "/train/{trainer}"),
    ("GET DELETE", "/train/"),
    ("POST", "/scoring/{scoring}"),
    ("GET DELETE", "/scoring/"),
    ("GET", "/model/info/{trainer}"),
    ("GET", "/model/{trainer}"),
)
_OPEN = (("GET", "/auth/"), ("POST", "/auth/token"))


@dataclass(frozen=True)
class Known:
    """The names that requests may use in their path."""

    model: tuple[str, ...]
    trainer: tuple[str, ...]
    strategy: tuple[str, ...]
    scoring: tuple[str, ...]


class Guard:
    """ASGI middleware.

    Args:
        app: what answers the requests that get through.
        known: the names in paths.
        labels: what the masks show.
        page: HTML of the page at `/`.
        token: what every request must bring, as `Authorization: Bearer TOKEN`, or as the password of a login; None on
            loopback, where instead requests must name this machine as their host. Other web pages are never answered.
        max_body_bytes: of a label; other requests may have 1 MiB.
        hidden: paths of this machine -> what stands for them in answers that are text.
    """

    def __init__(
        self,
        app: App,
        *,
        known: Known,
        labels: Sequence[str],
        page: str,
        token: str | None,
        max_body_bytes: int = MAX_BODY_BYTES,
        hidden: Mapping[str, str] | None = None,
    ) -> None:
        self.app = app
        self.known = known
        self.labels = tuple(labels)
        self.page = page
        self.token = token
        self.max_body_bytes = max_body_bytes
        self.hidden = {path.encode(): name.encode() for path, name in (hidden or {}).items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except RequestRefusedError as error:
            await _send_json(send, error.status, {"detail": str(error)})
        except OSError as error:  # a large form goes through a temporary file
            if (refusal := refusal_of(error)) is None:
                raise
            await _send_json(send, refusal.status, {"detail": str(refusal)})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise RequestRefusedError("this server answers no other web pages", status=403)
        if (method, path) in _OPEN and (path == "/auth/" or self.token is not None):
            await self._log_in(path, receive, headers, send)
            return
        self._check_sender(headers)
        if (method, path) == ("GET", "/auth/token/valid"):
            await _send_json(send, 200, {"username": "annotator"})
            return
        self._check_route(method, path)
        self._check_names(scope["query_string"])
        if path == "/":
            await _send(send, 200, "text/html; charset=utf-8", self.page.encode("utf-8"))
            return
        if path == "/logs/":  # as HTML, MONAI Label's page wants scripts from the internet
            scope = {**scope, "query_string": b"html=false"}
        limit = self.max_body_bytes if path == "/datastore/label" else min(MAX_PARAMETERS_BYTES, self.max_body_bytes)
        body = await self._body(receive, headers, limit)
        # in another thread: nobody else waits for what takes long to parse
        kind, checked = await asyncio.to_thread(_checked, path, headers.get("content-type", ""), body)
        pieces = iter([checked[at : at + PIECE_BYTES] for at in range(0, len(checked), PIECE_BYTES)] or [b""])
        left = max(1, -(-len(checked) // PIECE_BYTES))
        replaced = (b"content-type", b"content-length", b"origin")  # to MONAI Label every web page may ask
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in replaced]
        length = str(len(checked)).encode()
        scope = {
            **scope,
            "headers": [*kept, (b"content-type", kind.encode("latin-1")), (b"content-length", length)],
        }

        async def again() -> Message:
            nonlocal left
            if not left:
                return await receive()
            left -= 1
            await asyncio.sleep(0)  # others have their turn between two pieces, which MONAI Label parses in the loop
            return {"type": "http.request", "body": next(pieces), "more_body": left > 0}

        await self.app(scope, again, self._without_paths(send))

    def _without_paths(self, send: Send) -> Send:
        """Answers that are text name no path of this machine."""
        begin: Message | None = None
        parts: list[bytes] = []

        async def sent(message: Message) -> None:
            nonlocal begin
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
                if not any(kind.startswith((b"application/json", b"text/")) for kind in kinds):
                    await send(message)
                    return
                begin = message
                return
            if begin is None or message["type"] != "http.response.body":
                await send(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts)
            for path, name in self.hidden.items():
                body = body.replace(path, name)
            kept = [(name, value) for name, value in begin["headers"] if name.lower() != b"content-length"]
            length = str(len(body)).encode()
            await send({**begin, "headers": [*kept, (b"content-length", length)]})
            await send({"type": "http.response.body", "body": body})

        return sent

    def _check_sender(self, headers: dict[str, str]) -> None:
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise RequestRefusedError("this server answers no other web pages", status=403)
        if self.token is not None:
            if not hmac.compare_digest(_secret(headers.get("authorization", "")), self.token.encode()):
                raise RequestRefusedError("a token is needed: `Authorization: Bearer TOKEN`", status=401)
            return
        if _host(host) not in LOOPBACK:
            raise RequestRefusedError("this server answers requests to 127.0.0.1 and localhost alone", status=403)

    def _check_route(self, method: str, path: str) -> None:
        allowed: set[str] = set()
        for methods, pattern in _ROUTES:
            kind = re.search(r"{(\w+)}", pattern)
            if kind is None:
                if path == pattern:
                    allowed |= set(methods.split())
                continue
            name = path.removeprefix(pattern[: kind.start()])
            if not path.startswith(pattern[: kind.start()]) or not name or "/" in name:
                continue
            names = getattr(self.known, kind[1])
            if name not in names:
                if method in methods.split() and pattern != "/model/{trainer}":
                    raise RequestRefusedError(f"there is no such {kind[1]}; there are {', '.join(names)}", status=404)
                continue
            allowed |= set(methods.split())
        if not allowed:
            raise RequestRefusedError("this server has no such page", status=404)
        if method not in allowed:
            raise RequestRefusedError(f"only {', '.join(sorted(allowed))} can be asked for here", status=405)

    def _check_names(self, query: bytes) -> None:
        """Names in the query can be no paths: MONAI Label joins them to folders."""
        for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items():
            if name == "session_id" and any(values):
                raise RequestRefusedError("this server keeps no sessions: images are those of the studies folder")
            if name == "run_sync":
                raise RequestRefusedError("tasks run in the background here")
            if name == "check_sum" and not all(_CHECK_SUM.fullmatch(value) for value in values):
                raise RequestRefusedError("`check_sum` must be MD5, SHA256 or SHA512, a colon and the sum")
            if name in _NAMES and not all(ID.fullmatch(value) for value in values):
                if name == "tag" and not any(values):
                    continue  # clients send an empty tag for the usual one
                raise RequestRefusedError(f"`{name}` must be 1 to 128 letters, digits, `_` and `-`")

    async def _body(self, receive: Receive, headers: dict[str, str], limit: int) -> bytes:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise RequestRefusedError(f"a request may have {limit} bytes", status=413)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise RequestRefusedError("the request was cut")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise RequestRefusedError(f"a request may have {limit} bytes", status=413)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _log_in(self, path: str, receive: Receive, headers: dict[str, str], send: Send) -> None:
        """MONAI Label's own login, which 3D Slicer uses: any user name, and the token as password."""
        if path == "/auth/":
            await _send_json(send, 200, {"enabled": self.token is not None, "client_id": "", "realm": ""})
            return
        assert self.token is not None
        body = await self._body(receive, headers, MAX_LOGIN_BYTES)
        form = parse_qs(body.decode("latin-1"))
        if not hmac.compare_digest(form.get("password", [""])[0].encode(), self.token.encode()):
            raise RequestRefusedError("the password must be the server's token", status=401)
        await _send_json(send, 200, {"access_token": self.token, "token_type": "bearer"})


def _checked(path: str, kind: str, body: bytes) -> tuple[str, bytes]:
    return asyncio.run(checked_body(path, kind, body))


def lacks_token(host: str, token: str | None) -> bool:
    """Whether a server at this address would let other machines in without a secret."""
    return host not in LOOPBACK and (token is None or len(token) < LEAST_TOKEN)


def _secret(authorization: str) -> bytes:
    """The token of `Bearer TOKEN`, or the password of `Basic`; empty where there is none."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode("latin-1")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


async def _send(send: Send, status: int, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="label"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, status: int, content: Any) -> None:
    await _send(send, status, "application/json", json.dumps(content).encode())
