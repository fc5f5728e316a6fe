import json
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from cmunet_monai.methods import MoCoV2
from cmunet_monai.networks import UNet, load_unet_weights

CHANNELS = (4, 8, 16)


def make_views(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, 1, 16, 16, generator=generator) for name in ("view_a", "view_b")}


def make_method(**settings):
    torch.manual_seed(0)
    return MoCoV2(UNet(channels=CHANNELS), **{"queue_length": 6, "embedding_features": 8} | settings)


def always_gives(projector, vector):
    """Whatever the frame, the embedding is `vector`."""
    torch.nn.init.zeros_(projector[-1].weight)
    with torch.no_grad():
        projector[-1].bias.copy_(torch.tensor(vector))


def test_encoder_and_momentum_encoder_have_the_published_parameter_count():
    with torch.device("meta"):
        method = MoCoV2(UNet(), queue_length=4)
    modules = (method.network.encoder, method.momentum_encoder)
    assert sum(p.numel() for module in modules for p in module.parameters()) == 37_699_968
    assert [tuple(p.shape) for p in method.projector.parameters()] == [(1024, 1024), (1024,), (128, 1024), (128,)]
    assert not list(method.projector.buffers()), "MoCo v2's head has no BatchNorm"


def test_the_loss_is_the_hand_computed_cross_entropy_against_the_old_queue():
    method = make_method(queue_length=2, embedding_features=2, temperature=0.5)
    always_gives(method.projector, [3.0, 4.0])  # a query of unit length is (0.6, 0.8)
    always_gives(method.momentum_projector, [5.0, 0.0])  # a key: (1, 0), likeness 0.6
    method.queue.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))  # likenesses 0.8 and -0.6
    losses = method(make_views(batch=2))
    expected = math.log(math.exp(1.2) + math.exp(1.6) + math.exp(-1.2)) - 1.2
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert losses["accuracy"].item() == 0, "the first key of the queue is nearer"
    assert method.queue.tolist() == [[1, 0], [1, 0]]
    assert method(make_views(batch=2))["loss"].item() == pytest.approx(math.log(3), rel=1e-6)  # all three alike now


def test_queries_nearer_to_their_key_than_to_the_queue_are_accurate():
    method = make_method(queue_length=1, embedding_features=2)
    always_gives(method.projector, [1.0, 1.0])
    always_gives(method.momentum_projector, [1.0, 1.0])
    method.queue.copy_(torch.tensor([[0.0, 1.0]]))
    assert method(make_views())["accuracy"].item() == 1


def test_the_oldest_keys_leave_the_queue_and_a_batch_wraps_around_its_end():
    method = make_method(queue_length=5, embedding_features=1)
    for keys, expected in (([1, 2], [1, 2]), ([3, 4], [1, 2, 3, 4]), ([5, 6], [6, 2, 3, 4, 5]), ([7, 8], [6, 7, 8])):
        method._enqueue(torch.tensor(keys, dtype=torch.float32).view(-1, 1))
        assert method.queue.flatten().tolist()[: len(expected)] == expected
    assert method.pointer.item() == 3


def test_of_a_batch_longer_than_the_queue_the_last_keys_stay():
    method = make_method(queue_length=3, embedding_features=1)
    method._enqueue(torch.arange(1.0, 6.0).view(-1, 1))  # rows 0, 1, 2, 0, 1
    assert method.queue.flatten().tolist() == [4, 5, 3]
    assert method.pointer.item() == 2


def test_a_step_puts_the_keys_of_view_b_into_the_queue():
    method = make_method()
    views = make_views()
    keys, _ = method._keys(views["view_b"])
    rest = method.queue[4:].clone()
    method(views)
    assert torch.equal(method.queue[:4], keys)
    assert torch.equal(method.queue[4:], rest)


def test_the_queue_starts_with_random_keys_of_unit_length():
    queue = make_method(queue_length=50).queue
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(50))
    assert len(queue.unique(dim=0)) == 50


def test_the_queue_stays_as_it_is_outside_training():
    method = make_method().eval()
    before = method.queue.clone()
    method(make_views())
    assert torch.equal(method.queue, before)
    assert method.pointer.item() == 0


def test_queue_and_pointer_come_back_with_the_state():
    method, other = make_method(), make_method(queue_length=6)
    method(make_views())
    torch.nn.init.zeros_(other.queue)
    other.load_state_dict(method.state_dict())
    assert other.pointer.item() == 4
    views = make_views(seed=1)
    assert torch.equal(other(views)["loss"], method(views)["loss"])
    assert torch.equal(other.queue, method.queue)


def test_momentum_moves_by_its_complement_after_a_step():
    method = make_method(momentum=0.75)
    pairs = [(method.network.encoder, method.momentum_encoder), (method.projector, method.momentum_projector)]
    for online, average in pairs:
        for parameter in online.parameters():
            torch.nn.init.constant_(parameter, 4.0)
        for parameter in average.parameters():
            torch.nn.init.constant_(parameter, 0.0)
    method.after_step()
    assert all((parameter == 1.0).all() for _, average in pairs for parameter in average.parameters())


def test_the_momentum_branch_starts_as_a_copy_and_shares_nothing():
    method = make_method()
    for online, average in (
        (method.network.encoder, method.momentum_encoder),
        (method.projector, method.momentum_projector),
    ):
        for source, target in zip(online.parameters(), average.parameters(), strict=True):
            assert torch.equal(source, target)
            assert source.data_ptr() != target.data_ptr()


def test_gradients_reach_encoder_and_projector_and_nothing_else():
    method = make_method()
    method(make_views())["loss"].backward()
    for name, parameter in method.named_parameters():
        trained = name.startswith(("network.encoder.", "projector."))
        assert (parameter.grad is not None) == parameter.requires_grad == trained, name


def test_the_momentum_branch_normalises_with_its_own_batch():
    method = make_method().train()
    view = make_views()["view_b"]
    first, _ = method._keys(view)
    for buffer in method.momentum_encoder.buffers():
        if buffer.is_floating_point():
            buffer.add_(100.0)
    assert torch.equal(method._keys(view)[0], first)
    assert not torch.allclose(method._keys(view[:2])[0], first[:2]), "another batch, other statistics"


def test_bfloat16_under_autocast_gives_a_float32_loss_near_that_of_float32():
    views = make_views()
    exact = make_method()(views)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        half = make_method()(views)["loss"]
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.05)


def test_the_loss_falls_on_one_batch_and_spares_the_frozen_decoder():
    method = make_method(queue_length=64, temperature=0.07)
    views = make_views()
    queue = method.queue.clone()
    decoder = {name: value.clone() for name, value in method.network.decoder.named_parameters()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(40):
        method.queue.copy_(queue)  # the same frames again would be their own negatives
        optimizer.zero_grad()
        loss = method(views)["loss"]
        loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, decoder[name]) for name, value in method.network.decoder.named_parameters())


def _steps_of_rank(rank, path, views, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    method = make_method(queue_length=5)
    own = {name: view[2 * rank : 2 * rank + 2] for name, view in views.items()}
    distributed = DistributedDataParallel(method)
    for _ in range(2):  # the second step is refused where a parameter had no gradient in the first
        distributed(own)["loss"].backward()
        results[rank] = [*results.get(rank, []), (method.queue.clone(), method.pointer.item())]
    dist.destroy_process_group()


def test_two_processes_shuffle_their_frames_and_keep_one_queue(tmp_path):
    """Frames 0, 1 and 2, 3: the first process encodes 0 and 2, the second 1 and 3, and keys come back in order."""
    views = make_views()
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_steps_of_rank, args=(str(tmp_path / "store"), views, results), nprocs=2)
        (queue, pointer), (_, second_pointer) = results[0]
        for ours, theirs in zip(results[0], results[1], strict=True):
            assert torch.equal(ours[0], theirs[0])
    method = make_method(queue_length=5)
    even, odd = (method._keys(views["view_b"][first::2])[0] for first in (0, 1))
    expected = torch.stack((even[0], odd[0], even[1], odd[1]))
    torch.testing.assert_close(queue[:4], expected)
    assert torch.equal(queue[4], method.queue[4])
    assert (pointer, second_pointer) == (4, 3)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"queue_length": 0}, "`queue_length` must be 1 or more, got 0"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\), got 1.0"),
        ({"temperature": 0.0}, "`temperature` must be positive, got 0.0"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_method(**settings)


def test_the_overlay_gives_an_encoder_that_fine_tuning_takes(tiny_pretraining, tmp_path):
    tiny_pretraining.run(tmp_path, "compact.json", "methods/moco_v2.json")
    network = UNet(channels=tiny_pretraining.channels)
    report = load_unet_weights(network, tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.loaded) == {key for key in network.state_dict() if key.startswith("encoder.")}
    facts = json.loads((tmp_path / "unet.json").read_text())
    assert (facts["method"], facts["parts"]) == ("MoCoV2", ["encoder"])
    assert not (tmp_path / "reconstructions").exists()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["objects"]["method"]["queue"].shape == (5, 128), "half of ten frames"
    assert state["objects"]["method"]["pointer"].item() == 3, "two batches of four in a queue of five"
    assert state["settings"]["learning_rate"] == 0.03 * 4 / 256


def test_the_overlay_draws_two_views_apart_and_caches_the_frame_alone(tiny_pretraining, tmp_path):
    from monai.bundle import ConfigParser  # here, since the processes above would spend seconds on it

    parser = ConfigParser()
    parser.read_config(tiny_pretraining.configs("methods/moco_v2.json"))
    parser.update(tiny_pretraining.settings(tmp_path))
    dataset = parser.get_parsed_content("train#dataset")
    for index in range(len(dataset)):
        views = dataset[index]
        assert {name: tuple(view.shape) for name, view in views.items()} == {
            "view_a": (1, 32, 32),
            "view_b": (1, 32, 32),
        }
        assert all(type(view) is torch.Tensor and torch.isfinite(view).all() for view in views.values())
        assert not torch.allclose(views["view_a"], views["view_b"])
    assert list(dataset._cache[0]) == ["image"]
