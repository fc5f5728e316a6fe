import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from data_prep.synthetic.bolus import Bolus
from data_prep.synthetic.cine import synthesize_cine, vessel_truth
from data_prep.synthetic.motion import draw_motion, electrocardiogram, still
from data_prep.synthetic.projection import CArmView
from data_prep.synthetic.stenosis import Stenosis, draw_stenoses, narrow
from data_prep.synthetic.tree import Branch, CoronaryTree, Heart
from data_prep.synthetic.vendors import VENDORS
from data_prep.synthetic.xa_file import write_xa

HEART = Heart(np.eye(3)[[1, 0, 2]], radius_mm=40, length_mm=80)
# 128 pixels of 0.5 mm, seen from the front.
FRONTAL = CArmView(0, 0, field_mm=64, size=128)
ALWAYS = Bolus(start_ms=-1e6, duration_ms=2e6, speed_mm_per_ms=1, rise_ms=1, washout_ms=1)


def straight_tree(diameter_mm=4.0, behind_mm=0.0):
    """One artery of 40 mm, upright through the middle of the picture, ostium at the lower end."""
    along = np.linspace(0, 40, 81)
    points = np.stack([np.zeros(81), np.full(81, behind_mm), along - 20], axis=1)
    radius = np.full(81, diameter_mm / 2)
    return CoronaryTree("left", HEART, (Branch("LAD", points, radius, radius, along),))


@pytest.fixture(scope="module")
def cine():
    return synthesize_cine(0, 0, 0, size=96, frames=24)


def test_same_arguments_give_the_same_bytes_and_another_run_is_another_view(cine):
    again = synthesize_cine(0, 0, 0, size=96, frames=24)
    other = synthesize_cine(0, 0, 1, size=96, frames=24)
    np.testing.assert_array_equal(cine.frames, again.frames)
    np.testing.assert_array_equal(cine.truth.masks, again.truth.masks)
    assert cine.facts == again.facts
    assert (cine.frames != other.frames).mean() > 0.5
    assert cine.view.primary_deg != other.view.primary_deg


def test_runs_of_a_patient_show_one_tree_by_one_system():
    runs = [synthesize_cine(1, 2, run, size=64, frames=8) for run in range(3)]
    assert len({run.vendor.name for run in runs}) == 1
    assert len({(run.view.primary_deg, run.view.secondary_deg) for run in runs}) == 3
    for one, other in zip(runs[0].tree.branches, runs[2].tree.branches, strict=True):
        np.testing.assert_array_equal(one.points_mm, other.points_mm)
        np.testing.assert_array_equal(one.radius_mm, other.radius_mm)


@pytest.mark.parametrize("patient", range(len(VENDORS)))
def test_stored_values_have_the_vendors_bits(patient):
    made = synthesize_cine(0, patient, 0, size=64, frames=8)
    assert made.facts.bits_stored == made.vendor.bits_stored == VENDORS[patient].bits_stored
    assert made.frames.dtype == (np.uint8 if made.vendor.bits_stored == 8 else np.uint16)
    assert made.frames.max() < 2**made.vendor.bits_stored
    # More than 8 bits are used where there are 12.
    assert made.vendor.bits_stored == 8 or made.frames.max() > 255
    assert made.frames.shape == made.truth.masks.shape == (8, 64, 64)


def test_vendors_differ_in_bits_relationship_frame_time_and_what_they_tell():
    assert {vendor.bits_stored for vendor in VENDORS} == {8, 12}
    assert {vendor.intensity_relationship for vendor in VENDORS} == {"LIN", "LOG", "DISP"}
    assert {vendor.spacing for vendor in VENDORS} == {"distances", "factor", "calibrated", "none"}
    assert all("Synthetic" in vendor.name for vendor in VENDORS)


@pytest.mark.parametrize("patient", [0, 1, 3])
def test_filling_makes_the_marked_pixels_darker_than_the_others(patient):
    made = synthesize_cine(0, patient, 0, size=96, frames=16)
    full, before = made.frames[made.reference_frame].astype(float), made.frames[0].astype(float)
    artery = made.truth.masks[made.reference_frame] > 0
    elsewhere = ~made.truth.masks.any(axis=0)
    darker, others = (before - full)[artery], (before - full)[elsewhere]
    assert darker.mean() > others.mean() + 5 * others.std() / np.sqrt(artery.sum())


def test_filling_rises_from_nothing_to_all_and_falls(cine):
    filling = cine.truth.filling
    assert filling[0] == 0
    assert filling.max() == 1
    first, last = np.flatnonzero(filling == 1)[[0, -1]]
    assert (np.diff(filling[: first + 1]) >= 0).all()
    assert (np.diff(filling[last:]) <= 0).all()
    assert filling[-1] < 0.5
    assert cine.truth.opacity[cine.reference_frame] >= 0.95 * cine.truth.opacity.max()


def test_masks_are_empty_exactly_where_nothing_is_filled(cine):
    assert set(np.unique(cine.truth.masks)) == {0, 1}
    np.testing.assert_array_equal(cine.truth.masks.any(axis=(1, 2)), cine.truth.filling > 0)


def test_run_without_contrast_has_no_mask_and_no_agent_in_its_header():
    made = synthesize_cine(0, 0, 0, size=64, frames=8, contrast=False)
    assert not made.truth.masks.any()
    assert not made.truth.filling.any()
    assert made.bolus is None
    assert made.facts.contrast_agent is None
    # One in eight, by rule: patient 2, run 1.
    bare = [(p, r) for p in range(4) for r in range(2) if synthesize_cine(0, p, r, size=64, frames=8).bolus is None]
    assert bare == [(2, 1)]


def test_centrelines_run_inside_the_mask(cine):
    place = np.concatenate([line.points_px[cine.reference_frame] for line in cine.truth.centrelines])
    column, row = np.rint(place).astype(int).T
    inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96)
    assert inside.sum() > 200
    # Arteries of 1.2 mm are as wide as a pixel, so that the nearest pixel's centre can lie beside one.
    assert cine.truth.masks[cine.reference_frame, row[inside], column[inside]].mean() > 0.8


def test_straight_artery_is_as_wide_as_its_diameter_over_the_spacing():
    """4 mm at 0.5 mm a pixel: 8 pixels, columns 60 to 67 about the middle 63.5."""
    truth = vessel_truth(straight_tree(4.0), FRONTAL, still(8, 100), ALWAYS)
    row = truth.masks[0, 64]
    np.testing.assert_array_equal(np.flatnonzero(row), np.arange(60, 68))
    (line,) = truth.centrelines
    np.testing.assert_allclose(line.diameter_mm, 4)
    np.testing.assert_allclose(line.diameter_px, 8)
    # The ostium, 20 mm below the middle: 40 pixels down.
    np.testing.assert_allclose(line.points_px[0, 0], [63.5, 103.5], atol=1e-9)


def test_artery_nearer_to_the_source_is_magnified():
    # 75 mm behind the isocentre of a source 750 mm away: 750 / 675.
    truth = vessel_truth(straight_tree(4.0, behind_mm=75.0), FRONTAL, still(8, 100), ALWAYS)
    np.testing.assert_allclose(truth.centrelines[0].diameter_px, 8 * 750 / 675)


def test_artery_below_the_calibre_is_left_out():
    tree = straight_tree(4.0)
    thin = replace(tree.branches[0], name="twig", radius_mm=np.full(81, 0.5), healthy_radius_mm=np.full(81, 0.5))
    both = CoronaryTree("left", HEART, (tree.branches[0], thin))
    assert len(vessel_truth(both, FRONTAL, still(8, 100), ALWAYS, min_calibre_mm=1.2).centrelines) == 1
    assert len(vessel_truth(both, FRONTAL, still(8, 100), ALWAYS, min_calibre_mm=0.9).centrelines) == 2


def test_agent_arrives_by_path_length():
    """Front at 0.1 mm/ms from 100 ms on: after 300 ms 20 of 40 mm, half of the tree, the lower half of the picture."""
    bolus = Bolus(start_ms=100, duration_ms=1e6, speed_mm_per_ms=0.1, rise_ms=1, washout_ms=1)
    truth = vessel_truth(straight_tree(), FRONTAL, still(8, 100), bolus)
    assert truth.filling[:2].tolist() == [0, 0]
    assert truth.filling[3] == pytest.approx(0.5, abs=0.02)
    rows = np.flatnonzero(truth.masks[3].any(axis=1))
    # From the front at row 63.5 (and a ball's radius of 4 pixels) to the ostium at row 103.5 (and as much).
    assert abs(rows[0] - 60) <= 1
    assert abs(rows[-1] - 107) <= 1
    assert truth.filling[6:].tolist() == [1, 1]


def test_agent_is_absent_before_it_arrives_whole_after_its_rise_and_1_over_e_after_its_washout():
    bolus = Bolus(start_ms=100, duration_ms=500, speed_mm_per_ms=0.1, rise_ms=40, washout_ms=80)
    at_10_mm = np.array([10.0])  # arrival: 100 + 10 / 0.1 = 200 ms
    assert bolus.concentration(200, at_10_mm) == 0
    assert bolus.concentration(240, at_10_mm) == pytest.approx(1)
    assert bolus.concentration(700, at_10_mm) == pytest.approx(1)
    assert bolus.concentration(780, at_10_mm) == pytest.approx(np.exp(-1))
    assert bolus.injection(50) == 0
    assert bolus.injection(300) == 1
    assert bolus.injection(650) == 0


@pytest.mark.parametrize("percent", [30, 50, 75])
def test_stenosis_has_the_degree_that_was_asked_for(percent):
    made = synthesize_cine(0, 4, 0, size=64, frames=8, stenoses_percent=(percent,))
    (stenosis,) = made.stenoses
    branch = made.tree.branches[stenosis.branch]
    share = branch.radius_mm[stenosis.point] / branch.healthy_radius_mm[stenosis.point]
    assert 100 * (1 - share) == pytest.approx(percent)
    assert 2 * branch.healthy_radius_mm[stenosis.point] >= 2
    # Nowhere else is anything narrower than it would be in health.
    others = [b for index, b in enumerate(made.tree.branches) if index != stenosis.branch]
    assert all((b.radius_mm == b.healthy_radius_mm).all() for b in others)


def test_half_stenosis_of_an_8_pixel_artery_is_4_pixels_wide():
    narrowed = narrow(straight_tree(4.0), [Stenosis(branch=0, point=40, percent=50, half_length_mm=4)])
    truth = vessel_truth(narrowed, FRONTAL, still(8, 100), ALWAYS)
    # Point 40 is the middle, between rows 63 and 64; 15 mm = 30 rows away nothing is left of it.
    assert truth.masks[0, 63].sum() == 4
    assert truth.masks[0, [34, 94]].sum(axis=1).tolist() == [8, 8]
    # At 4 mm from its middle the loss is 50% / e: 4 mm * (1 - 0.5 / e).
    assert truth.centrelines[0].diameter_mm[48] == pytest.approx(4 * (1 - 0.5 / np.e))


def test_stenoses_do_not_touch():
    tree = synthesize_cine(0, 0, 0, size=64, frames=8, stenoses_percent=()).tree
    places = [
        (stenosis.branch, tree.branches[stenosis.branch].distance_mm[stenosis.point])
        for stenosis in draw_stenoses(np.random.default_rng(0), tree, [50.0] * 3)
    ]
    for index, (branch, distance_mm) in enumerate(places):
        assert all(other != branch or abs(mm - distance_mm) >= 20 for other, mm in places[:index])
    # 40 mm, 8 of them at either end without one: room for two at most.
    with pytest.raises(ValueError, match=r"has room for [12] stenoses, 3 were asked for"):
        draw_stenoses(np.random.default_rng(0), straight_tree(), (40.0, 60.0, 50.0))
    with pytest.raises(ValueError, match="more than 0 and less than 100 percent, got 100"):
        narrow(tree, [Stenosis(0, 3, 100.0, 2.0)])


@pytest.mark.parametrize("seed", range(6))
def test_r_waves_come_at_the_motions_period_and_the_heart_contracts_after_them(seed):
    motion = draw_motion(np.random.default_rng(seed), 90, 20.0)
    gaps = np.diff(motion.r_wave_frames) * 20.0
    assert len(gaps)
    assert (np.abs(gaps - motion.period_ms) <= 20).all()
    assert 60_000 / 95 <= motion.period_ms <= 60_000 / 55
    strongest = motion.contraction.max()
    assert 0.07 < strongest <= 0.14
    assert motion.contraction.min() >= 0
    beat = round(motion.period_ms / 20)
    for start in motion.r_wave_frames[:-1]:
        assert motion.contraction[start] < 0.1 * strongest
        # The end of systole: a third of the beat after the R wave.
        assert 0.25 <= motion.contraction[start : start + beat].argmax() / beat <= 0.45


def test_still_heart_has_an_r_wave_every_second():
    assert still(25, 100.0).r_wave_frames == (0, 10, 20)


def test_electrocardiogram_peaks_at_the_r_waves():
    motion = replace(still(30, 100.0), first_r_wave_ms=400.0)
    curve = np.array(electrocardiogram(motion, 300))
    assert len(curve) == 900
    # 0.4, 1.4 and 2.4 s at 300 samples a second.
    assert np.flatnonzero(curve > 0.98 * curve.max()).tolist() == [120, 420, 720]
    assert curve.min() >= 0
    assert curve.max() < 4096


def test_breath_moves_the_whole_heart_and_contraction_the_base_to_the_apex():
    breath_mm = np.array([1.0, -2.0, -3.0])
    motion = replace(still(2, 100.0), breathing_mm=np.array([[0, 0, 0], breath_mm]), descent_mm=np.array([6.0, 0]))
    apex_mm, base_mm = np.array([[0, 0, 0.65 * 80]]), np.array([[0, 0, -0.35 * 80]])
    np.testing.assert_allclose(motion.move(apex_mm, HEART, 1), apex_mm + breath_mm, atol=1e-9)
    np.testing.assert_allclose(motion.move(apex_mm, HEART, 0), apex_mm, atol=1e-9)
    np.testing.assert_allclose(motion.move(base_mm, HEART, 0), base_mm + np.array([0, 0, 6]), atol=1e-9)


def test_arteries_move_with_the_heart_and_noise_is_fresh_in_every_frame(cine):
    line = cine.truth.centrelines[0]
    way = np.linalg.norm(line.points_px - line.points_px[:1], axis=2).max() * cine.spacing_mm
    assert 2 < way < 40
    assert (cine.frames[0] != cine.frames[1]).mean() > 0.5


def test_mask_is_the_same_scene_at_another_size():
    """With three times as many pixels, every third pixel has the coarse pixel's centre."""
    coarse, fine = (synthesize_cine(0, 1, 0, size=size, frames=8) for size in (64, 192))
    np.testing.assert_array_equal(coarse.truth.masks, fine.truth.masks[:, 1::3, 1::3])
    assert coarse.spacing_mm == pytest.approx(3 * fine.spacing_mm)


@pytest.mark.parametrize("patient", range(len(VENDORS)))
def test_dicom_file_reads_back_as_the_frames_and_tells_the_spacing_that_the_vendor_gives(tmp_path, patient):
    made = synthesize_cine(0, patient, 0, size=64, frames=10)
    write_xa(tmp_path / "run.dcm", made.frames, made.facts)
    dataset = pydicom.dcmread(tmp_path / "run.dcm")
    np.testing.assert_array_equal(dataset.pixel_array, made.frames)
    assert dataset.Manufacturer == made.vendor.name
    assert dataset.PositionerPrimaryAngle == made.view.primary_deg
    assert ("RWavePointer" in dataset) == made.vendor.tells_r_waves
    if made.vendor.tells_r_waves:
        assert np.atleast_1d(dataset.RWavePointer).tolist() == [frame + 1 for frame in made.r_wave_frames]
    if made.vendor.spacing == "none":
        assert "ImagerPixelSpacing" not in dataset
        assert "DistanceSourceToPatient" not in dataset
        return
    magnification = dataset.DistanceSourceToDetector / dataset.DistanceSourceToPatient
    assert dataset.ImagerPixelSpacing[0] / magnification == pytest.approx(made.spacing_mm, rel=1e-8)
    if made.vendor.spacing == "factor":
        assert dataset.EstimatedRadiographicMagnificationFactor == pytest.approx(magnification)
    if made.vendor.spacing == "calibrated":
        assert dataset.PixelSpacing[0] == pytest.approx(made.spacing_mm)
        assert dataset.PixelSpacingCalibrationType == "GEOMETRY"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("patient", range(len(VENDORS)))
def test_dciodvfy_finds_no_error_in_the_file_of_any_vendor(tmp_path, patient):
    made = synthesize_cine(3, patient, 0, size=64, frames=8)
    write_xa(tmp_path / "run.dcm", made.frames, made.facts)
    found = subprocess.run(["dciodvfy", str(tmp_path / "run.dcm")], capture_output=True, text=True, check=False)
    assert [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")] == []
    assert "XAImage" in found.stdout + found.stderr


def test_declared_shutter_is_where_the_picture_is_open():
    made = synthesize_cine(3, 2, 0, size=96, frames=8)
    edges = made.facts.shutter
    assert edges is not None
    shown = np.zeros((96, 96), bool)
    shown[edges.upper - 1 : edges.lower, edges.left - 1 : edges.right] = True
    mean = made.frames.mean(axis=0)
    assert mean[~shown].mean() < 0.5 * mean[shown].mean()
    # Its edges are the first and last open columns and rows: just inside there is light.
    inside = np.s_[edges.upper : edges.lower - 1, [edges.left, edges.right - 2]]
    assert mean[inside].mean() > 0.7 * mean[shown].mean()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frames": 7}, "`frames` must be 8 or more, got 7"),
        ({"min_calibre_mm": 4}, "`min_calibre_mm` must be 0 to 3"),
        ({"stenoses_percent": (0,)}, "more than 0 and less than 100 percent, got 0"),
    ],
)
def test_what_cannot_be_made_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        synthesize_cine(0, 0, 0, **{"size": 64, "frames": 8, **options})
