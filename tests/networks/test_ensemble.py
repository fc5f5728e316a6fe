"""Several trained networks, called together."""

import pytest
import torch

from cmunet_monai.engines import load_trained
from cmunet_monai.networks import Ensemble, UNet, save_unet_weights, weights_digests

CHANNELS = (2, 4)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_unet_weights(UNet(channels=CHANNELS), path)
    return paths


def test_the_channels_of_the_members_follow_one_another(files):
    ensemble = Ensemble(UNet(channels=CHANNELS), files).eval()
    load_trained(ensemble, files)
    image = torch.rand(1, 1, 8, 8)
    expected = []
    for path in files:
        alone = UNet(channels=CHANNELS).eval()
        load_trained(alone, path)
        expected.append(alone(image))
    assert torch.equal(ensemble(image), torch.cat(expected, dim=1))


def test_one_file_is_an_ensemble_of_one(files):
    assert Ensemble(UNet(channels=CHANNELS), str(files[0]))(torch.rand(1, 1, 8, 8)).shape == (1, 2, 8, 8)
    assert weights_digests(files[0]) == weights_digests(files)[:1]


def test_the_network_that_it_is_made_of_is_not_touched(files):
    network = UNet(channels=CHANNELS)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load_trained(Ensemble(network, files), files)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_no_weights_are_no_ensemble():
    with pytest.raises(ValueError, match="at least one file, got none"):
        Ensemble(UNet(channels=CHANNELS), [])
