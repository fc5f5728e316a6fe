"""What stands in front of MONAI Label: who may ask, for what, and how much may be sent.

MONAI Label has no authentication of its own beside Keycloak's, answers every web page that a browser has open, and
takes paths, archives and pickled models from requests. Here only the requests that labelling needs get through.
"""

import base64
import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from cmunet_monai.label.bodies import checked_body
from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.workspace import ID

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 2**20
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
        max_body_bytes: of a request.
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
    ) -> None:
        self.app = app
        self.known = known
        self.labels = tuple(labels)
        self.page = page
        self.token = token
        self.max_body_bytes = max_body_bytes

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

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
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
        kind, checked = await checked_body(path, headers.get("content-type", ""), await self._body(receive, headers))
        body: bytes | None = checked
        replaced = (b"content-type", b"content-length", b"origin")  # to MONAI Label every web page may ask
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in replaced]
        length = str(len(checked)).encode()
        scope = {
            **scope,
            "headers": [*kept, (b"content-type", kind.encode("latin-1")), (b"content-length", length)],
        }

        async def again() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        await self.app(scope, again, send)

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

    async def _body(self, receive: Receive, headers: dict[str, str]) -> bytes:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body_bytes:
            raise RequestRefusedError(f"a request may have {self.max_body_bytes} bytes", status=413)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise RequestRefusedError("the request was cut")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body_bytes:
                raise RequestRefusedError(f"a request may have {self.max_body_bytes} bytes", status=413)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _log_in(self, path: str, receive: Receive, headers: dict[str, str], send: Send) -> None:
        """MONAI Label's own login, which 3D Slicer uses: any user name, and the token as password."""
        if path == "/auth/":
            await _send_json(send, 200, {"enabled": self.token is not None, "client_id": "", "realm": ""})
            return
        assert self.token is not None
        form = parse_qs((await self._body(receive, headers)).decode("latin-1"))
        if not hmac.compare_digest(form.get("password", [""])[0].encode(), self.token.encode()):
            raise RequestRefusedError("the password must be the server's token", status=401)
        await _send_json(send, 200, {"access_token": self.token, "token_type": "bearer"})


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
