import numpy as np
import pytest

from data_prep.synthetic.tree import draw_heart, grow_tree


def grow(seed, side):
    rng = np.random.default_rng(seed)
    return grow_tree(rng, draw_heart(rng), side)


@pytest.mark.parametrize("side, names", [("left", {"LM", "LAD", "LCX"}), ("right", {"RCA", "PDA", "PLV"})])
@pytest.mark.parametrize("seed", range(4))
def test_main_branches_are_there_once(side, names, seed):
    found = [branch.name for branch in grow(seed, side).branches]
    assert all(found.count(name) == 1 for name in names)


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_branch_begins_on_another_ones_centreline_and_is_thinner_there(side):
    branches = grow(5, side).branches
    for place, branch in enumerate(branches[1:], start=1):
        gaps = [np.linalg.norm(other.points_mm - branch.points_mm[0], axis=1) for other in branches[:place]]
        parent = int(np.argmin([gap.min() for gap in gaps]))
        at = int(gaps[parent].argmin())
        assert gaps[parent][at] < 1e-9
        assert branch.healthy_radius_mm[0] < branches[parent].healthy_radius_mm[at]
        assert branch.distance_mm[0] == branches[parent].distance_mm[at]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(3))
def test_arteries_taper_from_adult_calibres(side, seed):
    branches = grow(seed, side).branches
    assert 2.9 < 2 * branches[0].healthy_radius_mm[0] < 5.0
    for branch in branches:
        assert (np.diff(branch.healthy_radius_mm) <= 1e-12).all()
        assert (branch.radius_mm > 0).all()
        # Slight waves reach 5% above the healthy calibre; narrowings leave at least a few percent.
        assert (branch.radius_mm <= 1.05 * branch.healthy_radius_mm + 1e-12).all()
        if branch.name not in ("LM", "RCA"):
            assert 2 * branch.healthy_radius_mm[-1] < 1.8


@pytest.mark.parametrize("seed", range(4))
def test_left_descending_runs_to_the_apex_and_right_coronary_ends_at_the_base(seed):
    left, right = grow(seed, "left"), grow(seed, "right")
    descending = next(branch for branch in left.branches if branch.name == "LAD")
    crux_mm = right.branches[0].points_mm[-1]
    base_to_apex_mm = left.heart.point_mm(np.array([0.0, 0.0]), np.array([0.0, 90.0]), np.zeros(2))
    towards_apex = base_to_apex_mm[1] - base_to_apex_mm[0]
    ends = np.stack([descending.points_mm[-1], crux_mm]) - base_to_apex_mm[0]
    share = ends @ towards_apex / left.heart.length_mm**2
    assert share[0] > 0.6
    assert abs(share[1]) < 0.3


def test_some_patients_have_narrowings_and_the_healthy_calibre_ignores_them():
    trees = [grow(seed, "left").branches for seed in range(20)]
    narrowest = [min((b.radius_mm / b.healthy_radius_mm).min() for b in branches) for branches in trees]
    assert min(narrowest) < 0.6
    assert max(narrowest) > 0.9


def test_same_seed_gives_the_same_tree_and_another_seed_another():
    one, same, other = grow(1, "left"), grow(1, "left"), grow(2, "left")
    assert len(one.branches) == len(same.branches)
    for a, b in zip(one.branches, same.branches, strict=True):
        np.testing.assert_array_equal(a.points_mm, b.points_mm)
    assert not np.array_equal(one.branches[0].points_mm[-1], other.branches[0].points_mm[-1])


def test_unknown_side_is_named():
    with pytest.raises(ValueError, match="'left' or 'right', got 'middle'"):
        grow(0, "middle")
