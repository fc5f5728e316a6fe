import os
from types import SimpleNamespace

import pytest

from cmunet_monai.__main__ import main


@pytest.mark.parametrize(
    "verb, given, expected",
    [("predict", None, "passive"), ("predict", "active", "active"), ("study", None, None)],
)
def test_threads_sleep_between_the_frames_of_a_prediction(monkeypatch, verb, given, expected):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")  # undone at the end, whatever main sets
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    seen = []

    def run(arguments):
        seen.append((arguments, os.environ.get("OMP_WAIT_POLICY")))
        return 0

    monkeypatch.setattr("cmunet_monai.__main__.importlib.import_module", lambda _: SimpleNamespace(main=run))
    assert main([verb, "--x"]) == 0
    assert seen == [(["--x"], expected)]


def test_an_unknown_verb_is_named_with_those_that_there_are(capsys):
    assert main(["predct"]) == 2
    assert "there is no verb `predct`; there are predict, check" in capsys.readouterr().err
