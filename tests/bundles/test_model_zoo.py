"""What the model zoo's own verification (its ci/verify_bundle.py) asks of a bundle beside its metadata, which
`test_metadata.py` checks: the files, and an export by TorchScript."""

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ckpt_export
from safetensors.torch import load_file

from cmunet_monai.networks import UNet

BUNDLES = Path(__file__).parents[2] / "bundles"
SEGMENTATION = BUNDLES / "coronary_xa_segmentation"


@pytest.mark.parametrize("bundle", sorted(path for path in BUNDLES.iterdir() if path.is_dir()), ids=lambda p: p.name)
def test_a_bundle_has_its_licence_documentation_and_metadata(bundle):
    for name in ("LICENSE", "docs/README.md", "configs/metadata.json", "configs/train.json"):
        assert (bundle / name).read_text().strip(), name


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_network_is_exported_by_torchscript_with_its_weights(dark_detector, tmp_path, suffix):
    state = load_file(dark_detector)
    torch.save(state, tmp_path / "model.pt")
    shutil.copy(dark_detector, tmp_path / "model.safetensors")
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / f"model.{suffix}"),
        meta_file=str(SEGMENTATION / "configs" / "metadata.json"),
        config_file=str(SEGMENTATION / "configs" / "inference.json"),
        bundle_root=str(SEGMENTATION),
        channels=[4, 8, 16],
    )
    network = UNet(channels=(4, 8, 16)).eval()
    network.load_state_dict(state)
    image = torch.rand(1, 1, 40, 56)
    with torch.no_grad():
        assert torch.equal(torch.jit.load(str(tmp_path / "model.ts"))(image), network(image))
