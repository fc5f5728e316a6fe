"""OpenVINO on the processor."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from cmunet_monai.inferers.openvino_runtime import convert_to_openvino, import_openvino, openvino_core

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)


def test_openvino_reports_to_nobody():
    """Its own import sends an event to Google Analytics unless the telemetry package is missing."""
    import_openvino()
    assert "openvino_telemetry" not in sys.modules
    telemetry = sys.modules["openvino.tools.ovc"].telemetry
    assert type(telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"


def test_a_dtype_is_used_exactly_where_openvino_says_that_the_processor_has_it():
    able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    network = nn.Conv2d(1, 1, 3).eval()
    with torch.no_grad():
        for dtype, capability in (("bfloat16", "BF16"), ("float16", "FP16")):
            assert convert_to_openvino(network, dtype=dtype)[1] == (dtype if capability in able else "float32")
    assert convert_to_openvino(network)[1] == "float32"


def test_signals_are_handled_after_converted_networks_are_gone():
    """OpenVINO's plugin leaves the thread a signal stack that is not there any more when it goes itself."""
    script = """
import gc, signal, torch
from cmunet_monai.inferers.openvino_runtime import convert_to_openvino

for _ in range(2):
    run, _ = convert_to_openvino(torch.nn.Conv2d(1, 1, 3).eval())
del run
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
