import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandPairedViewsd


def ramp(size=64):
    """Every pixel tells where it is: x + 1000 y."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    return torch.from_numpy((1000 * rows + columns)[None])


def whole_frame(**settings):
    settings = {"base_size": 64, "view_size": 48, "max_shift": 15, "area": (1, 1), "aspect": (1, 1)} | settings
    return RandPairedViewsd("image", flip_prob=0.0, noise_std=0.0, **settings)


def offset(view):
    return divmod(round(float(view[0, 0, 0])), 1000)


def test_views_are_crops_of_the_base_at_offsets_up_to_the_largest_shift():
    views = whole_frame()
    views.set_random_state(0)
    offsets = []
    for _ in range(200):
        row = views({"image": ramp()})
        for name in ("view_a", "view_b"):
            top, left = offset(row[name])
            assert torch.equal(row[name], ramp()[:, top : top + 48, left : left + 48])
            offsets.append((top, left))
    assert np.min(offsets, axis=0).tolist() == [0, 0]
    assert np.max(offsets, axis=0).tolist() == [15, 15]


def test_views_are_shifted_apart_from_each_other():
    views = whole_frame()
    views.set_random_state(0)
    pairs = [views({"image": ramp()}) for _ in range(20)]
    assert any(offset(row["view_a"]) != offset(row["view_b"]) for row in pairs)


def test_the_published_variant_keeps_view_a_at_offset_zero():
    views = whole_frame(shift_a=False)
    rows = [views({"image": ramp()}) for _ in range(20)]
    assert {offset(row["view_a"]) for row in rows} == {(0, 0)}
    assert len({offset(row["view_b"]) for row in rows}) > 1


def test_noise_is_on_view_b_only():
    views = RandPairedViewsd("image", base_size=64, view_size=64, max_shift=0, area=(1, 1), aspect=(1, 1), flip_prob=0)
    row = views({"image": torch.zeros(1, 64, 64)})
    assert row["view_a"].abs().max() == 0
    assert row["view_b"].std().item() == pytest.approx(0.1, rel=0.1)


def test_a_flip_is_shared_by_both_views():
    views = RandPairedViewsd(
        "image", base_size=64, view_size=64, max_shift=0, area=(1, 1), aspect=(1, 1), flip_prob=1, noise_std=0
    )
    row = views({"image": ramp()})
    assert torch.equal(row["view_a"], ramp().flip(1))
    assert torch.equal(row["view_b"], ramp().flip(1))


def test_a_further_map_is_cut_as_view_a_is_and_changes_no_draw():
    row = {"image": ramp(), "prior": ramp() + 1.0}
    for seed in range(10):
        plain = RandPairedViewsd("image", base_size=64, view_size=48, max_shift=15).set_random_state(seed)
        carrying = RandPairedViewsd(
            "image", base_size=64, view_size=48, max_shift=15, with_view_a={"prior": "view_a_prior"}
        ).set_random_state(seed)
        for _ in range(2):
            first, second = plain(row), carrying(row)
            assert torch.equal(first["view_a"], second["view_a"])
            assert torch.equal(first["view_b"], second["view_b"])
            torch.testing.assert_close(second["view_a_prior"], second["view_a"] + 1.0, atol=0.05, rtol=0)


def test_a_further_map_of_another_size_is_named():
    views = RandPairedViewsd("image", base_size=64, view_size=48, max_shift=15, with_view_a={"prior": "view_a_prior"})
    with pytest.raises(ValueError, match=r"`prior` must be \(1, 64, 64\) as `image`, got \(1, 32, 32\)"):
        views({"image": ramp(), "prior": ramp(32)})


def test_the_same_seed_gives_the_same_views_and_the_frame_is_not_modified():
    frame = torch.randn(1, 64, 64)
    before = frame.clone()
    first, second = (
        RandPairedViewsd("image", base_size=64, view_size=48, max_shift=15).set_random_state(5) for _ in range(2)
    )
    a, b = first({"image": frame}), second({"image": frame})
    assert torch.equal(a["view_a"], b["view_a"])
    assert torch.equal(a["view_b"], b["view_b"])
    assert torch.equal(frame, before)


@pytest.mark.parametrize("shape", [(1, 20, 200), (1, 1, 9), (1, 512, 512)])
def test_any_frame_gives_views_of_the_asked_size(shape):
    row = RandPairedViewsd("image", base_size=64, view_size=48, max_shift=15)({"image": torch.randn(shape)})
    assert row["view_a"].shape == row["view_b"].shape == (1, 48, 48)
    assert torch.isfinite(row["view_a"]).all()


def test_settings_and_frames_that_cannot_work_are_named():
    with pytest.raises(ValueError, match=r"max_shift.*0 \.\. base_size - view_size = 16, got 17"):
        RandPairedViewsd("image", base_size=64, view_size=48, max_shift=17)
    with pytest.raises(ValueError, match=r"`image` must be \(1, H, W\), got \(3, 64, 64\)"):
        RandPairedViewsd("image")({"image": torch.zeros(3, 64, 64)})
