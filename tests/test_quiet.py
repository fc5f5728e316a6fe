import logging
import subprocess
import sys
import warnings

from cmunet_monai.quiet import REMARKS, quiet


def test_remarks_are_left_out_and_other_warnings_stay():
    quiet()
    quiet()
    for name, beginnings in REMARKS.items():
        logger = logging.getLogger(name)
        texts = (*beginnings, "something else")
        said = [logger.makeRecord(name, logging.WARNING, "", 0, text, (), None) for text in texts]
        assert [bool(logger.filter(record)) for record in said] == [False] * len(beginnings) + [True]
        assert len(logger.filters) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet()
        warnings.warn("parsing config_file x.json: it is code", stacklevel=1)
        warnings.warn("the learning rate is negative", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["the learning rate is negative"]


def test_a_run_of_monai_says_nothing_that_does_not_concern_a_user(tmp_path):
    config, overlay = tmp_path / "x.json", tmp_path / "methods" / "y.json"
    config.write_text('{"run": ["$print(@number + 2)"]}')
    overlay.parent.mkdir()
    overlay.write_text('{"number": 40}')
    files = str([str(config), str(overlay)])
    words = ["monai.bundle", "run", "--config_file", files, "--logging_file", "False", "--meta_file", str(config)]
    done = subprocess.run([sys.executable, "-m", "cmunet_monai.quiet", *words], capture_output=True, text=True)
    assert "42" in done.stdout
    said = done.stdout + done.stderr
    for remark in ("nvImageCodec", "parsing config_file", "Logging file is set", "Not all config files are in"):
        assert remark not in said
