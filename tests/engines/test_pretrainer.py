import csv

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, DistributedSampler
from monai.handlers import LrScheduleHandler

from cmunet_monai.engines import Pretrainer, SeededCacheDataset, adamw, warmup_cosine
from cmunet_monai.engines.handlers import (
    CSVLog,
    ReconstructionPictures,
    ResumableCheckpoint,
    SaveUNetWeights,
    SetDataEpoch,
)
from cmunet_monai.engines.handlers.reconstruction import draw_reconstructions
from cmunet_monai.inferers import AutocastInferer
from cmunet_monai.methods import CMUNet, ModelsGenesis
from cmunet_monai.methods.base import Reconstruction
from cmunet_monai.networks import UNet
from cmunet_monai.transforms import RandPairedViewsd, RandPatchMaskd

EPOCHS, FRAMES = 4, 9


class InterruptedRunError(Exception):
    pass


def make_run(folder, dtype=None, workers=0, max_epochs=EPOCHS, pictures=True, seconds=0.0, extra=()):
    """A run as the bundle's config makes it: 9 frames in batches of 4, so 2 steps an epoch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    frames = [{"image": torch.randn(1, 40, 40, generator=generator)} for _ in range(FRAMES)]
    transforms = [
        RandPairedViewsd("image", base_size=40, view_size=32, max_shift=8),
        RandPatchMaskd("view_a", patch_size=8),
    ]
    dataset = SeededCacheDataset(frames, transforms, seed=3, progress=False)
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=3)
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, drop_last=True, num_workers=workers)
    network = UNet(channels=(4, 8, 16))
    method = CMUNet(network, embedding="pooled", patch_size=8, hidden_features=16, embedding_features=8)
    optimizer = adamw(method, learning_rate=1e-2)
    schedule = warmup_cosine(optimizer, loader, max_epochs=max_epochs, warmup_epochs=1)
    handlers = [
        ResumableCheckpoint(
            folder / "checkpoint.pt",
            {"method": method, "optimizer": optimizer, "schedule": schedule},
            {"max_epochs": max_epochs, "images": len(frames)},
            seconds=seconds,
        ),
        SetDataEpoch(dataset),
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
        CSVLog(folder / "training.csv", optimizer),
        SaveUNetWeights(network, folder / "unet.safetensors", parts=method.transferred),
        *extra,
    ]
    if pictures:
        handlers.append(ReconstructionPictures(method, dataset, folder / "reconstructions", every=2, frames=2))
    trainer = Pretrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=loader,
        method=method,
        optimizer=optimizer,
        inferer=AutocastInferer(dtype=dtype),
        train_handlers=handlers,
    )
    return trainer, method


class FailAt:
    def __init__(self, iteration):
        self.iteration = iteration

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine):
        if engine.state.iteration == self.iteration:
            raise InterruptedRunError


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(tmp_path, dtype):
    whole, expected = make_run(tmp_path / "whole", dtype)
    whole.run()
    broken, _ = make_run(tmp_path / "broken", dtype, extra=[FailAt(5)])  # in the middle of epoch 3
    with pytest.raises(InterruptedRunError):
        broken.run()
    resumed, method = make_run(tmp_path / "broken", dtype, workers=2)
    resumed.run()
    assert resumed.state.iteration == whole.state.iteration == 8
    for name, value in expected.state_dict().items():
        assert torch.equal(method.state_dict()[name], value), name
    files = [tmp_path / name / "unet.safetensors" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_log_has_one_row_an_epoch_after_an_interruption(tmp_path):
    with pytest.raises(InterruptedRunError):
        make_run(tmp_path, extra=[FailAt(5)])[0].run()
    make_run(tmp_path)[0].run()
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    for row in rows:
        parts = float(row["reconstruction"]) + float(row["contrast"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-4)
        assert 0 <= float(row["data_wait_share"]) <= 1
        assert row["steps"] == "2"  # of 8 in all
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-9)


def test_a_finished_run_started_again_trains_nothing(tmp_path):
    make_run(tmp_path)[0].run()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    again, _ = make_run(tmp_path)
    again.run()
    assert again.state.iteration == 8
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_checkpoints_are_the_asked_seconds_apart_and_the_last_epoch_has_one(tmp_path):
    with pytest.raises(InterruptedRunError):
        make_run(tmp_path, seconds=3600, extra=[FailAt(5)])[0].run()
    assert not (tmp_path / "checkpoint.pt").exists()
    make_run(tmp_path, seconds=3600)[0].run()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == EPOCHS


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path):
    make_run(tmp_path)[0].run()
    with pytest.raises(ValueError, match="max_epochs = 4, this run has 6"):
        make_run(tmp_path, max_epochs=6)[0].run()


def test_a_cut_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04cut")
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read; remove it"):
        make_run(tmp_path)[0].run()


def test_a_loss_that_is_not_finite_names_the_step_and_spares_the_weights(tmp_path):
    trainer, method = make_run(tmp_path)
    method.register_forward_hook(
        lambda module, views, losses: (
            losses | {"loss": losses["loss"] * float("nan")} if trainer.state.iteration == 3 else losses
        )
    )
    with pytest.raises(RuntimeError, match="nan at epoch 2, iteration 3"):
        trainer.run()
    assert all(torch.isfinite(parameter).all() for parameter in method.parameters())


def test_pictures_are_written_every_second_epoch(tmp_path):
    make_run(tmp_path)[0].run()
    names = sorted(path.name for path in (tmp_path / "reconstructions").iterdir())
    assert names == ["reconstruction_epoch_0002.png", "reconstruction_epoch_0004.png"]


def test_pictures_do_not_change_the_run(tmp_path):
    methods = []
    for pictures in (True, False):
        trainer, method = make_run(tmp_path / str(pictures), pictures=pictures)
        trainer.run()
        methods.append(method)
    assert not (tmp_path / "False" / "reconstructions").exists()
    for name, value in methods[0].network.named_parameters():
        assert torch.equal(methods[1].network.get_parameter(name), value), name


def test_pictures_can_be_drawn_of_tensors_on_any_device(tmp_path, monkeypatch):
    image = torch.zeros(1, 1, 8, 8, device="meta")
    asked = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: asked.append(tensor.device.type) or torch.zeros(8, 8))
    draw_reconstructions(Reconstruction(image, image, image), tmp_path / "a.png", 1)
    assert asked == ["meta"] * 4  # grey levels, and three pictures
    assert (tmp_path / "a.png").is_file()


def test_a_step_of_a_distributed_method_is_that_of_the_method(tmp_path):
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, init_method=store)
    frames = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    loader = DataLoader([{"image": frame, "distorted": frame * 0.5} for frame in frames], batch_size=3)
    weights = []
    try:
        for distributed in (False, True):
            torch.manual_seed(0)
            method = ModelsGenesis(UNet(channels=(4, 8, 8)))
            optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
            given = torch.nn.parallel.DistributedDataParallel(method) if distributed else method
            Pretrainer(
                device=torch.device("cpu"), max_epochs=1, train_data_loader=loader, method=given, optimizer=optimizer
            ).run()
            weights.append(method.state_dict())
    finally:
        torch.distributed.destroy_process_group()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_frames_that_do_not_fill_a_batch_are_refused():
    method = ModelsGenesis(UNet(channels=(4, 8, 8)))
    loader = DataLoader([{"image": torch.zeros(1, 8, 8)}] * 3, batch_size=4, drop_last=True)
    with pytest.raises(ValueError, match="do not fill one batch of 4 in each process"):
        Pretrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=loader,
            method=method,
            optimizer=torch.optim.SGD(method.parameters(), lr=0.1),
        )


def test_the_momentum_branch_moves_once_a_step(tmp_path):
    trainer, method = make_run(tmp_path)
    steps = []
    original = method.after_step
    method.after_step = lambda: (steps.append(1), original())
    trainer.run()
    assert len(steps) == 8
