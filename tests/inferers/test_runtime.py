"""The same masks from torch, ONNX Runtime and OpenVINO."""

import logging

import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn

from cmunet_monai.inferers import runtime as module
from cmunet_monai.inferers.runtime import RUNTIMES, RuntimeNetwork, choose_runtime, missing_packages
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

# Logits below are of the order of 1; float32 rounds them at 1e-7, and some hundred sums follow one another
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
INSTALLED = pytest.mark.parametrize(
    "runtime",
    [pytest.param(name, marks=pytest.mark.skipif(bool(missing_packages(name)), reason=name)) for name in RUNTIMES],
)


def unet(seed=0, channels=(4, 8)):
    """With statistics in its BatchNorms as after a training, which make their folding visible."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(channels=channels)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.3, 2)
    return network.eval()


@torch.no_grad()
def expected(network, image):
    return network(image)


def image(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def only(monkeypatch):
    """Pretend that these packages alone are installed."""

    def pretend(*names):
        monkeypatch.setattr(module, "find_spec", lambda name: object() if name in names else None)

    return pretend


@INSTALLED
def test_logits_are_those_of_the_network_for_any_batch_and_size(runtime):
    network = unet(channels=(4, 8, 16))  # which pads H and W to multiples of 4
    computed = RuntimeNetwork(network, runtime)
    for shape in ((1, 1, 64, 64), (3, 1, 64, 64), (3, 1, 33, 47), (1, 1, 5, 3), (2, 1, 40, 24), (1, 1, 64, 64)):
        result = computed(image(*shape))
        torch.testing.assert_close(result, expected(network, image(*shape)), **TOLERANCE)


@INSTALLED
def test_an_input_is_not_modified(runtime):
    frame = image(1, 1, 32, 32)
    computed = RuntimeNetwork(unet(), runtime)
    for _ in range(2):
        computed(frame)
    assert torch.equal(frame, image(1, 1, 32, 32))


@INSTALLED
def test_a_result_is_not_overwritten_by_the_next_call(runtime):
    computed = RuntimeNetwork(unet(), runtime)
    first = computed(image(1, 1, 32, 32))
    kept = first.clone()
    computed(image(1, 1, 32, 32, seed=1))
    assert torch.equal(first, kept)
    first += 1  # and may be modified


@INSTALLED
def test_an_input_that_is_not_contiguous_is_read_in_its_own_order(runtime):
    network = unet()
    frame = image(1, 1, 24, 40).transpose(2, 3)
    torch.testing.assert_close(RuntimeNetwork(network, runtime)(frame), expected(network, frame), **TOLERANCE)


@INSTALLED
def test_a_meta_tensor_is_taken_and_a_plain_tensor_returned(runtime):
    network = unet()
    result = RuntimeNetwork(network, runtime)(MetaTensor(image(1, 1, 32, 32)))
    assert type(result) is torch.Tensor
    torch.testing.assert_close(result, expected(network, image(1, 1, 32, 32)), **TOLERANCE)


@INSTALLED
def test_weights_loaded_after_a_call_are_used_by_the_next(runtime):
    network = unet()
    computed = RuntimeNetwork(network, runtime)
    computed(image(1, 1, 32, 32))
    network.load_state_dict(unet(seed=1).state_dict())
    torch.testing.assert_close(computed(image(1, 1, 32, 32)), expected(unet(seed=1), image(1, 1, 32, 32)), **TOLERANCE)


@INSTALLED
def test_weights_that_stay_are_converted_once(runtime):
    computed = RuntimeNetwork(unet(), runtime)
    computed(image(1, 1, 32, 32))
    run = computed._run
    computed(image(2, 1, 16, 16))
    assert computed._run is run


@INSTALLED
def test_weights_that_lie_channels_last_are_read_in_their_own_order(runtime):
    network = unet()
    result = expected(network, image(1, 1, 32, 32))
    computed = RuntimeNetwork(network.to(memory_format=torch.channels_last), runtime)
    torch.testing.assert_close(computed(image(1, 1, 32, 32)), result, **TOLERANCE)


@INSTALLED
def test_any_number_of_channels_goes_in_and_out(runtime):
    network = nn.Conv2d(3, 4, 3, padding=1).eval()
    frame = image(1, 3, 8, 8)
    torch.testing.assert_close(RuntimeNetwork(network, runtime)(frame), expected(network, frame), **TOLERANCE)


@INSTALLED
def test_it_runs_in_monais_evaluator_with_weights_that_are_loaded_last(runtime):
    """As in the bundle, whose `initialize` loads the weights after the evaluator is built."""
    network = unet()
    frames = [{"image": MetaTensor(image(1, 32, 32, seed=seed))} for seed in range(3)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(frames, batch_size=2),  # of 2 and of 1
        network=RuntimeNetwork(network, runtime),
    )
    network.load_state_dict(unet(seed=1).state_dict())
    evaluator.run()
    torch.testing.assert_close(
        evaluator.state.output[0]["pred"], expected(unet(seed=1), image(1, 32, 32, seed=2)[None])[0], **TOLERANCE
    )


@INSTALLED
def test_without_a_dtype_it_computes_in_float32_whatever_autocast_says(runtime):
    network = unet()
    computed = RuntimeNetwork(network, runtime)
    with torch.autocast("cpu", torch.bfloat16):
        result = computed(image(1, 1, 32, 32))
    assert computed.precision == "float32"
    torch.testing.assert_close(result, expected(network, image(1, 1, 32, 32)), **TOLERANCE)


@INSTALLED
def test_a_dtype_that_is_lacking_becomes_float32_and_the_log_says_so(runtime, caplog):
    """No runtime has float16 on processors without FP16 units, which `precision` tells."""
    network = unet()
    computed = RuntimeNetwork(network, runtime, dtype="float16")
    with caplog.at_level(logging.INFO):
        result = computed(image(1, 1, 32, 32))
    assert result.dtype == torch.float32
    assert ("float16 is not available" in caplog.text) == (computed.precision == "float32")
    if computed.precision == "float32":
        torch.testing.assert_close(result, expected(network, image(1, 1, 32, 32)), **TOLERANCE)


@INSTALLED
def test_state_dict_is_that_of_the_network(runtime, tmp_path):
    network = unet()
    computed = RuntimeNetwork(network, runtime)
    assert list(computed.state_dict()) == list(network.state_dict())
    save_unet_weights(unet(seed=1), tmp_path / "other.safetensors")
    report = load_unet_weights(computed, tmp_path / "other.safetensors")
    assert (report.skipped, report.missing) == ((), ())
    assert torch.equal(network.head.weight, unet(seed=1).head.weight)


def test_the_log_says_which_runtime_computes_and_why(only, caplog):
    only()
    with caplog.at_level(logging.INFO):
        RuntimeNetwork(unet())(image(1, 1, 16, 16))
    assert "computed by torch (the fastest installed; not installed: openvino, onnx) in float32" in caplog.text


@pytest.mark.parametrize(
    "installed, chosen",
    [
        (("onnx", "onnxruntime", "openvino"), "openvino"),
        (("openvino",), "openvino"),
        (("onnx", "onnxruntime"), "onnx"),
        (("onnxruntime",), "torch"),
        ((), "torch"),
    ],
)
def test_auto_is_the_fastest_that_is_installed(only, installed, chosen):
    only(*installed)
    assert choose_runtime("auto")[0] == chosen


def test_auto_is_torch_on_a_gpu(only):
    only("onnx", "onnxruntime", "openvino")
    assert choose_runtime("auto", device="cuda:0") == ("torch", "the device is cuda")


def test_a_runtime_of_the_processor_is_refused_on_a_gpu(only):
    only("openvino")
    with pytest.raises(ValueError, match="openvino computes on the processor, but `device` is cuda:0"):
        choose_runtime("openvino", device="cuda:0")


def test_a_missing_package_is_named_with_the_command_that_installs_it(only):
    only("onnx")
    with pytest.raises(ValueError, match=r"onnx needs onnxruntime, .*: pip install 'cmunet_monai\[runtimes\]'"):
        RuntimeNetwork(unet(), "onnx")


def test_an_unknown_runtime_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="one of openvino, onnx, torch or auto, got 'tensorrt'"):
        RuntimeNetwork(unet(), "tensorrt")


def test_an_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="got 'half'"):
        RuntimeNetwork(unet(), "torch", dtype="half")


def test_an_input_of_another_form_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\), got \(16, 16\)"):
        RuntimeNetwork(unet(), "torch")(image(16, 16))


def test_training_is_refused():
    with pytest.raises(ValueError, match="for inference"):
        RuntimeNetwork(unet(), "torch").train()(image(1, 1, 16, 16))
