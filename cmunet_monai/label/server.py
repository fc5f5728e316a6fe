"""The server: MONAI Label behind the guard, in an empty working directory, without the network."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import io
import json
import logging
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from cmunet_monai.files.lock import alone
from cmunet_monai.label.guard import LEAST_TOKEN, Guard, Known, lacks_token
from cmunet_monai.label.page import front_page, slicer_steps
from cmunet_monai.label.refusal import RequestRefusedError, refusal_of
from cmunet_monai.label.workspace import Workspace

logger = logging.getLogger(__name__)


def serve(workspace: Workspace, *, host: str, port: int, token: str | None) -> None:
    """Run the server until it is stopped.

    MONAI Label takes its settings from the environment, also in the processes that it makes for its tasks. The working
    directory becomes the workspace's empty folder.

    Raises:
        BlockingIOError: if another server is at work on the workspace.
        ValueError: for a host other than loopback without a token.
    """
    check_host(host, token)
    busy = f"another server is at work on {workspace.root}: end it, or choose another --workspace"
    with alone(workspace.root / ".lock", busy):
        _serve(workspace, host=host, port=port, token=token)


def _serve(workspace: Workspace, *, host: str, port: int, token: str | None) -> None:
    os.chdir(workspace.empty)
    for unfinished in workspace.frames.rglob(".tmp-*"):  # of a server that was killed
        unfinished.unlink()
    shutil.rmtree(workspace.temporary, ignore_errors=True)
    workspace.temporary.mkdir()
    tempfile.tempdir = str(workspace.temporary)
    os.environ |= {
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(workspace.temporary)),
        "MONAI_LABEL_APP_DIR": str(workspace.app),
        "MONAI_LABEL_STUDIES": str(workspace.frames),
        "MONAI_LABEL_SERVER_PORT": str(port),
        "MONAI_LABEL_SESSIONS": "false",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    from cmunet_monai.label.datastore import set_damaged_registry_aside

    set_damaged_registry_aside(workspace.frames)
    app = make_app(workspace, token=token)
    name = "NAME-OF-THIS-MACHINE" if host in ("0.0.0.0", "::") else host
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
    print(f"\n{url}  labels: {', '.join(app.labels)}  (Ctrl-C stops it)\n\n3D Slicer:")
    for number, step in enumerate(slicer_steps(url, known=app.known, token=token is not None), 1):
        print(f"{number}. {step}")
    print(flush=True)
    from monailabel.utils.others.generic import init_log_config

    written = Path(init_log_config(None, str(workspace.app), "app.log", "INFO"))  # a temporary file
    log_config = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    uvicorn.run(app, host=host, port=port, log_config=log_config, access_log=False, log_level="info")


def check_host(host: str, token: str | None) -> None:
    """Refuse to show frames to a network without a token.

    Raises:
        ValueError: for a host other than loopback without a token of 16 characters or more.
    """
    if lacks_token(host, token):
        raise ValueError(
            f"--host {host} lets other machines in: give --token-file FILE with a secret of {LEAST_TOKEN} characters "
            "or more (as `python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes) and put a reverse proxy "
            "with TLS in front, since it would travel unencrypted; better: stay on 127.0.0.1 and use "
            "`ssh -L 8000:127.0.0.1:8000 SERVER`"
        )


def make_app(workspace: Workspace, *, token: str | None) -> Guard:
    """The ASGI app. MONAI Label reads its settings when it is imported, so this comes after they are set."""
    with redirect_stdout(io.StringIO()):  # it says that all origins are allowed, which the guard does not
        from monailabel.app import app
    from monailabel.interfaces.exception import (
        ImageNotFoundException,
        LabelNotFoundException,
        MONAILabelException,
    )
    from monailabel.interfaces.utils.app import app_instance

    def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestRefusedError)
        return JSONResponse({"detail": str(error)}, error.status)

    def failed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MONAILabelException)
        missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
        return JSONResponse({"detail": error.msg}, 404 if missing else 400)

    def full(request: Request, error: Exception) -> JSONResponse:
        refusal = refusal_of(error) if isinstance(error, OSError) else None
        if refusal is None:
            raise error
        return refused(request, refusal)

    def no_json(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "`params` and `info` must be JSON objects"}, 400)

    def crashed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed; its log says where"}, 500)

    assert isinstance(app, FastAPI)
    app.add_exception_handler(json.JSONDecodeError, no_json)
    app.add_exception_handler(Exception, crashed)
    app.add_exception_handler(OSError, full)
    app.add_exception_handler(RequestRefusedError, refused)
    app.add_exception_handler(MONAILabelException, failed)
    # before MONAI Label's own, which leaves what it could not write in the temporary folder
    app.router.routes.insert(0, APIRoute("/datastore/label", keep_label, methods=["PUT"]))
    instance = app_instance()
    known = Known(
        model=tuple(instance._infers),
        trainer=tuple(instance._trainers),
        strategy=tuple(instance._strategies),
        scoring=tuple(instance._scoring_methods),
    )
    labels = list(instance.classes)
    page = front_page(labels=labels, known=known, token=token is not None)
    # deepest first, so that no part of a longer path stays
    places = {str(workspace.root): "WORKSPACE", sys.prefix: "PYTHON", str(Path(__file__).parents[2]): "PACKAGE"}
    hidden = dict(sorted(places.items(), key=lambda item: -len(item[0])))
    return Guard(app, known=known, labels=labels, page=page, token=token, hidden=hidden)


async def keep_label(
    image: str, label: Annotated[UploadFile, File()], tag: str = "final", params: Annotated[str, Form()] = "{}"
) -> dict[str, str]:
    """Keep an uploaded label, by way of a temporary file that is gone afterwards, whatever happens."""
    from monailabel.interfaces.utils.app import app_instance

    descriptor, path = tempfile.mkstemp(suffix="".join(Path(label.filename or "").suffixes))
    try:
        with open(descriptor, "wb") as file:
            shutil.copyfileobj(label.file, file)
        kept = app_instance().datastore().save_label(image, path, tag or "final", json.loads(params))
    finally:
        Path(path).unlink(missing_ok=True)
    app_instance().on_save_label(image, kept)
    return {"image": image, "label": kept}
