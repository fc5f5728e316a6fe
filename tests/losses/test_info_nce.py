import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cmunet_monai.losses import InfoNCELoss


def test_two_orthogonal_pairs_give_the_hand_computed_value():
    eye = torch.eye(2)
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 1))
    assert InfoNCELoss(0.5)(3 * eye, 7 * eye).item() == pytest.approx(expected, rel=1e-6)


def test_swapped_pairs_give_the_hand_computed_value():
    eye = torch.eye(2)
    expected = -math.log(1 / (math.exp(1 / 0.07) + 1))
    assert InfoNCELoss(0.07)(eye, eye.flip(0)).item() == pytest.approx(expected, rel=1e-5)


def test_bfloat16_under_autocast_is_finite_and_near_float32():
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 64, 256, generator=generator)
    exact = InfoNCELoss(0.07)(queries, keys)
    with torch.autocast("cpu", torch.bfloat16):
        half = InfoNCELoss(0.07)(queries.bfloat16(), keys.bfloat16())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.02)


def test_equal_rows_stay_finite_with_finite_gradient():
    queries = torch.ones(8, 4, requires_grad=True)
    loss = InfoNCELoss(0.07)(queries, torch.ones(8, 4))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)
    assert torch.isfinite(queries.grad).all()


def test_no_gradient_reaches_the_target_unless_asked():
    queries = torch.randn(4, 8, requires_grad=True)
    keys = torch.randn(4, 8, requires_grad=True)
    InfoNCELoss()(queries, keys).backward()
    assert keys.grad is None
    InfoNCELoss(detach_target=False)(queries, keys).backward()
    assert keys.grad.abs().sum() > 0


def test_memory_grows_with_the_similarities_not_with_their_features():
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.extend(r.numel() for r in (result if isinstance(result, tuple) else (result,)) if torch.is_tensor(r))
            return result

    with Watch():
        InfoNCELoss()(torch.randn(128, 64), torch.randn(128, 64))
    assert max(sizes) == 128 * 128


@pytest.mark.parametrize("queries, keys", [((4, 8), (3, 8)), ((8,), (8,)), ((4, 8), (4, 7))])
def test_shapes_that_do_not_fit_are_named(queries, keys):
    with pytest.raises(ValueError, match=r"must both be \(B, F\)"):
        InfoNCELoss()(torch.zeros(queries), torch.zeros(keys))


def test_a_single_image_has_no_negative():
    with pytest.raises(ValueError, match="at least 2 images"):
        InfoNCELoss()(torch.ones(1, 8), torch.ones(1, 8))


def _loss_of_rank(rank, path, queries, keys, results):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    own = slice(3 * rank, 3 * rank + 3)
    mine = queries[own].clone().requires_grad_()
    loss = InfoNCELoss()(mine, keys[own])
    loss.backward()
    results[rank] = (loss.item(), mine.grad)
    dist.destroy_process_group()


def test_two_processes_see_the_negatives_of_both(tmp_path):
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, 6, 16, generator=generator)
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_loss_of_rank, args=(str(tmp_path / "store"), queries, keys, results), nprocs=2)
        losses, gradients = zip(*(results[rank] for rank in range(2)), strict=True)
    together = queries.clone().requires_grad_()
    similarity = torch.nn.functional.cosine_similarity(together[:, None], keys[None], dim=-1) / 0.07
    expected = -torch.log_softmax(similarity, dim=1).diagonal()
    expected.mean().backward()
    assert losses[0] == pytest.approx(expected[:3].mean().item(), rel=1e-5)
    assert losses[1] == pytest.approx(expected[3:].mean().item(), rel=1e-5)
    torch.testing.assert_close(torch.cat(gradients) / 2, together.grad)
