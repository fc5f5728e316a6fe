"""Who gets through to MONAI Label."""

import asyncio
import base64
import json
import time
from urllib.parse import parse_qs, urlencode

import pytest

from cmunet_monai.label.guard import Guard, Known

KNOWN = Known(model=("m", "m_clicks"), trainer=("m",), strategy=("s",), scoring=("s",))


def ask(method, path, *, query="", headers=(), body=b"", token=None, chunks=None, limit=100):
    """(status, JSON or None where the request got through to the app, what the app was sent)."""
    reached, sent = [], []

    async def app(scope, receive, send):
        message = await receive()
        reached.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"null"})

    parts = list(chunks or [body])

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    guard = Guard(app, known=KNOWN, labels=["vessel"], page="page", token=token, max_body_bytes=limit)
    named = {"host": "127.0.0.1:8000", **dict(headers)}
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    asyncio.run(guard(scope, receive, send))
    content = sent[1]["body"]
    return sent[0]["status"], content.decode() if path == "/" else json.loads(content), reached


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/info/"),
        ("POST", "/infer/m_clicks"),
        ("PUT", "/datastore/label"),
        ("GET", "/train/"),
        ("GET", "/model/m"),
    ],
)
def test_what_labelling_needs_gets_through(method, path):
    assert ask(method, path)[::2] == (200, [b""])


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    "path, sent, kept",
    [
        ("/train/m", {"max_epochs": 3, "bundle_path": "/tmp/x", "gpus": 1, "request": {}}, {"max_epochs": 3}),
        ("/scoring/s", {"device": "cpu", "bundle_path": "/tmp/x"}, {"device": "cpu"}),
        ("/batch/infer/m", {"images": "unlabeled", "multi_gpu": True}, {"images": "unlabeled"}),
        ("/activelearning/s", {"client_id": "ann", "strategy": ["x"]}, {"client_id": "ann"}),
    ],
)
def test_of_a_json_body_only_what_labelling_needs_goes_on(path, sent, kept):
    """MONAI Label puts `bundle_path` where Python looks for modules, and other keys into the environment."""
    status, _, reached = ask("POST", path, body=json.dumps(sent).encode(), limit=1000)
    assert status == 200
    assert [json.loads(body) for body in reached] == [kept]


def test_of_the_parameters_of_an_inference_only_what_it_needs_goes_on():
    params = json.dumps({"threshold": 0.4, "image": "/etc/passwd", "model": []})
    body = urlencode({"params": params}).encode()
    (sent,) = ask("POST", "/infer/m", body=body, headers=FORM, limit=1000)[2]
    assert json.loads(parse_qs(sent.decode())["params"][0]) == {"threshold": 0.4}


@pytest.mark.parametrize("text", ["[1]", "5", "{", '{"a": NaN}', '{"a": 1e400}', '{"a": "\\ud800"}', "[" * 50_000])
def test_parameters_that_could_not_be_written_again_are_refused(text):
    for path, body, headers in (
        ("/train/m", text.encode(), {}),
        ("/infer/m", urlencode({"params": text}).encode(), FORM),
    ):
        status, content, reached = ask("POST", path, body=body, headers=headers, limit=400_000)
        assert (status, reached) == (400, [])
        assert "JSON object" in content["detail"]


def test_no_file_but_a_label_can_be_sent():
    pytest.importorskip("starlette")

    def form(*parts):
        lines = [f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{{}}\r\n' for name, more in parts]
        return ("".join(lines) + "--x--\r\n").encode()

    headers = {"content-type": "multipart/form-data; boundary=x"}
    body = form(("label", '; filename="a.png"'), ("params", ""))
    assert ask("PUT", "/datastore/label", body=body, headers=headers, limit=1000)[::2] == (200, [body])
    for path, *parts in (
        ("/infer/m", ("file", '; filename="a.png"')),
        ("/infer/m", ("params", ""), ("params", "")),
        ("/datastore/label", ("label", f'; filename="{"a" * 200}.png"')),
        ("/datastore/label", ("other", "")),
    ):
        method = "POST" if path == "/infer/m" else "PUT"
        assert ask(method, path, body=form(*parts), headers=headers, limit=1000)[::2] == (400, [])


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("PUT", "/model/m", 405),  # takes pickles
        ("PUT", "/session/", 404),  # takes archives
        ("PUT", "/datastore/image", 405),
        ("DELETE", "/datastore/image", 405),
        ("GET", "/proxy/dicom/x", 404),
        ("POST", "/infer/wsi/m", 404),
        ("POST", "/infer/other", 404),
        ("POST", "/train/", 405),
        ("GET", "/docs", 404),
        ("OPTIONS", "/info/", 405),
    ],
)
def test_everything_else_does_not(method, path, status):
    got, content, reached = ask(method, path)
    assert (got, reached) == (status, [])
    assert content["detail"]


@pytest.mark.parametrize("query", ["image=../x", "image=%2Fetc%2Fx", "image=a.b", "image=", "tag=a/b", "label=%00"])
def test_no_name_can_be_a_path(query):
    status, content, reached = ask("GET", "/datastore/label", query=query)
    assert (status, reached) == (400, [])
    assert "letters, digits" in content["detail"]


def test_an_empty_tag_is_the_usual_one():
    assert ask("PUT", "/datastore/label", query="image=a&tag=")[0] == 200


def test_a_body_is_bounded_whether_its_length_is_said_or_not():
    assert ask("POST", "/infer/m", headers={"content-length": "101"})[0] == 413
    assert ask("POST", "/infer/m", headers={"content-length": "-1"})[0] == 413
    assert ask("POST", "/infer/m", chunks=[b"0" * 60, b"0" * 60])[::2] == (413, [])
    assert ask("POST", "/train/m", chunks=[b" " * 60, b"{}" + b" " * 38])[2] == [b"{}"]


@pytest.mark.parametrize("path", ["/train/m", "/scoring/s", "/batch/infer/m", "/activelearning/s", "/infer/m"])
def test_one_mebibyte_is_enough_for_all_but_a_label(path):
    more = {"content-length": str(2**20 + 1)}
    assert ask("POST", path, headers=more, limit=2**26)[::2] == (413, [])
    assert ask("PUT", "/datastore/label", headers=more, limit=2**26)[0] == 200
    assert ask("POST", "/auth/token", headers={"content-length": "4097"}, token="secret")[0] == 413


def test_parameters_are_bounded_in_length_and_depth():
    def train(value):
        return ask("POST", "/train/m", body=json.dumps({"device": value}).encode(), limit=10**6)

    def nested(depth, make):
        value = 1
        for _ in range(depth):
            value = make(value)
        return value

    assert train("x" * 60_000)[0] == 200
    assert train("x" * 70_000)[::2] == (413, [])
    for make in (lambda value: [value], lambda value: {"a": value}, lambda value: [0, {"a": value}]):
        assert train(nested(3, make))[0] == 200
        for depth in (8, 200):
            status, content, reached = train(nested(depth, make))
            assert (status, reached) == (400, [])
            assert "nested 8 deep" in content["detail"]


@pytest.mark.parametrize(
    "sent", [{"max_batch_size": -1}, {"max_batch_size": "2"}, {"max_batch_size": 1.5}, {"max_batch_size": True},
             {"images": ["../x"]}, {"images": [1]}, {"images": "some"}, {"images": {"f0": 1}}]
)  # fmt: skip
def test_a_batch_that_could_not_run_is_refused_at_once(sent):
    assert ask("POST", "/batch/infer/m", body=json.dumps(sent).encode(), limit=1000)[::2] == (400, [])


def test_a_batch_of_named_images_gets_through_and_one_of_too_many_is_refused():
    for count, expected in ((500, 200), (3000, 413)):
        names = [f"R0123456789abcdef_{number:04d}" for number in range(count)]
        assert ask("POST", "/batch/infer/m", body=json.dumps({"images": names}).encode(), limit=10**6)[0] == expected


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/info/", "/datastore/image", "/auth/"])
def test_a_browser_that_says_another_site_asks_is_refused(path, site):
    for token in (None, "secret"):
        headers = {"sec-fetch-site": site, "authorization": "Bearer secret"}
        assert ask("GET", path, headers=headers, token=token)[::2] == (403, [])


def test_a_browser_that_shows_the_page_itself_is_answered():
    for site in ("none", "same-origin"):
        assert ask("GET", "/info/", headers={"sec-fetch-site": site})[0] == 200


def test_a_long_body_is_parsed_while_others_are_answered():
    """The loop that answers is free while 40 MB are looked at."""
    pytest.importorskip("starlette")
    body = b'--x\r\nContent-Disposition: form-data; name="label"; filename="a.png"\r\n\r\n' + b"\r\n-" * 2**21
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "PUT", "path": "/datastore/label", "query_string": b"", "headers": headers}
    waits = []

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        return {"type": "http.request", "body": body + b"\r\n--x--\r\n", "more_body": False}

    async def watch():
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.01)
            waits.append(time.perf_counter() - begin)

    async def run():
        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await Guard(app, known=KNOWN, labels=["v"], page="", token=None)(scope, receive, lambda _: asyncio.sleep(0))
        watcher.cancel()

    asyncio.run(run())
    assert max(waits) < 1


@pytest.mark.parametrize("kind, shown", [("application/json", "WORKSPACE/frames"), ("text/plain", "WORKSPACE/frames"),
                                         ("image/png", "/data/x/frames")])  # fmt: skip
def test_an_answer_in_text_names_no_path_of_the_machine(kind, shown):
    sent = []

    async def app(scope, receive, send):
        start = [(b"content-type", kind.encode()), (b"content-length", b"14")]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        await send({"type": "http.response.body", "body": b"/data/x", "more_body": True})
        await send({"type": "http.response.body", "body": b"/frames"})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/info/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    guard = Guard(app, known=KNOWN, labels=["v"], page="", token=None, hidden={"/data/x": "WORKSPACE"})
    asyncio.run(guard(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    assert body.decode() == shown
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(body)).encode()


def test_without_a_token_only_this_machine_is_answered():
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert ask("GET", "/info/", headers={"host": host})[0] == 200
    for headers in ({"host": "evil.example"}, {"host": ""}, {"origin": "http://evil.example"}, {"origin": "null"}):
        assert ask("GET", "/info/", headers=headers)[::2] == (403, [])
    assert ask("GET", "/info/", headers={"origin": "http://127.0.0.1:8000"})[0] == 200


def test_with_a_token_every_request_must_bring_it():
    basic = base64.b64encode(b"anybody:secret").decode()
    for value in ("Bearer secret", f"Basic {basic}"):
        assert ask("GET", "/info/", headers={"authorization": value, "host": "server"}, token="secret")[0] == 200
    for value in (
        "",
        "Bearer ",
        "Bearer wrong",
        "secret",
        "Basic !",
        "Basic \xe9",
        f"Basic {base64.b64encode(b'a:wrong').decode()}",
    ):
        for path in ("/", "/info/", "/nowhere"):
            assert ask("GET", path, headers={"authorization": value}, token="secret")[::2] == (401, [])
    other = {"authorization": "Bearer secret", "host": "server", "origin": "http://evil.example"}
    assert ask("GET", "/info/", headers=other, token="secret")[::2] == (403, [])
    assert ask("GET", "/info/", headers=other | {"origin": "https://server"}, token="secret")[0] == 200


def test_a_login_gives_the_token_for_the_token():
    assert ask("GET", "/auth/", token="secret")[1]["enabled"] is True
    assert ask("GET", "/auth/")[1]["enabled"] is False
    form = b"username=ann&password=secret&grant_type=password"
    assert ask("POST", "/auth/token", body=form, token="secret")[1]["access_token"] == "secret"
    assert ask("POST", "/auth/token", body=b"username=ann&password=x", token="secret")[0] == 401
    assert ask("GET", "/auth/token/valid", token="secret")[0] == 401


def test_the_page_needs_nothing_from_elsewhere():
    assert ask("GET", "/")[:2] == (200, "page")
