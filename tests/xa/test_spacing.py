"""Spacing at the patient, with magnifications computed by hand."""

import pytest

from cmunet_monai.xa.spacing import Spacing, SpacingTags, spacing_at_patient, spacing_of_run

IMAGER = (0.3, 0.3)


def spacing(user_mm=None, **tags):
    return spacing_at_patient(SpacingTags(**tags), user_mm=user_mm)


def test_isocentre_magnification_shrinks_the_detectors_pixel():
    found = spacing(imager_mm=IMAGER, source_to_detector_mm=1200.0, source_to_patient_mm=800.0)
    assert found.value_mm == pytest.approx(0.2)  # 1200 / 800 = 1.5; 0.3 / 1.5
    assert (found.source, found.notes) == ("imager_over_isocentre_magnification", ())


def test_estimated_magnification_comes_before_distances():
    found = spacing(
        imager_mm=IMAGER, estimated_magnification=1.2, source_to_detector_mm=1200.0, source_to_patient_mm=800.0
    )
    assert found.value_mm == pytest.approx(0.25)  # 0.3 / 1.2
    assert (found.source, found.notes) == ("imager_over_estimated_magnification", ("magnifications_differ",))


@pytest.mark.parametrize("calibration", ["FIDUCIAL", "GEOMETRY"])
def test_calibrated_pixel_spacing_comes_before_the_estimate(calibration):
    found = spacing(pixel_mm=(0.21, 0.21), calibration=calibration, imager_mm=IMAGER, estimated_magnification=1.5)
    assert found == Spacing(0.21, f"pixel_spacing_{calibration.lower()}", ())


def test_calibration_far_from_the_estimate_is_noted():
    found = spacing(pixel_mm=(0.15, 0.15), calibration="FIDUCIAL", imager_mm=IMAGER, estimated_magnification=1.5)
    assert (found.value_mm, found.notes) == (0.15, ("differs_from_isocentre_estimate",))


def test_pixel_spacing_that_differs_from_the_detectors_is_calibrated():
    assert spacing(pixel_mm=(0.2, 0.2), imager_mm=IMAGER) == Spacing(0.2, "pixel_spacing_calibrated", ())


def test_pixel_spacing_equal_to_the_detectors_gives_no_mm():
    found = spacing(pixel_mm=IMAGER, imager_mm=IMAGER)
    assert found == Spacing(None, "detector_only", ("pixel_spacing_is_detectors",))


def test_pixel_spacing_equal_to_the_detectors_is_magnified_where_that_is_known():
    found = spacing(pixel_mm=IMAGER, calibration="GEOMETRY", imager_mm=IMAGER, estimated_magnification=1.5)
    assert found.value_mm == pytest.approx(0.2)
    assert found.source == "imager_over_estimated_magnification"
    assert found.notes == ("pixel_spacing_is_detectors", "calibration_contradicted")


def test_pixel_spacing_alone_is_unverified():
    assert spacing(pixel_mm=(0.2, 0.2)) == Spacing(None, "unverified", ())
    assert spacing(pixel_mm=(0.2, 0.2), user_mm=0.22) == Spacing(0.22, "user", ())


def test_pixel_spacing_above_the_detectors_is_believed_only_where_calibrated():
    above = spacing(pixel_mm=(0.4, 0.4), imager_mm=IMAGER)
    assert above == Spacing(None, "detector_only", ("pixel_spacing_above_detectors",))
    stated = spacing(pixel_mm=(0.4, 0.4), imager_mm=IMAGER, calibration="FIDUCIAL")
    assert stated == Spacing(0.4, "pixel_spacing_fiducial", ("pixel_spacing_above_detectors",))


def test_object_spacing_of_enhanced_xa_comes_first():
    found = spacing(object_mm=(0.19, 0.19), pixel_mm=(0.21, 0.21), calibration="FIDUCIAL")
    assert found == Spacing(0.19, "object_pixel_spacing", ())


def test_detectors_pixel_alone_gives_no_mm():
    assert spacing(imager_mm=IMAGER) == Spacing(None, "detector_only", ())


def test_nothing_known_is_none_unless_the_user_says():
    assert spacing() == Spacing(None, "unknown", ())
    assert spacing(user_mm=0.3) == Spacing(0.3, "user", ())


def test_users_value_comes_last_and_a_difference_is_noted():
    found = spacing(pixel_mm=(0.2, 0.2), calibration="FIDUCIAL", user_mm=0.3)
    assert found == Spacing(0.2, "pixel_spacing_fiducial", ("user_value_not_used",))


@pytest.mark.parametrize("magnification", [0.0, 0.9, 1.0, 6.0, -1.5])
def test_implausible_magnification_is_not_used(magnification):
    found = spacing(imager_mm=IMAGER, estimated_magnification=magnification)
    assert found == Spacing(None, "detector_only", ("magnification_implausible",))


def test_pixels_that_are_not_square_give_no_mm():
    found = spacing(pixel_mm=(0.2, 0.25), calibration="FIDUCIAL", user_mm=0.3)
    assert found == Spacing(None, "pixel_spacing_fiducial", ("anisotropic",), aspect=0.8)


@pytest.mark.parametrize("values", [(0.0, 0.2), (0.2,), (-0.2, -0.2), (0.2, 0.2, 0.2), (500.0, 500.0)])
def test_invalid_pairs_are_noted_and_not_used(values):
    assert spacing(pixel_mm=values, calibration="FIDUCIAL") == Spacing(None, "unknown", ("pixel_spacing_invalid",))


def test_one_spacing_of_frames_that_agree():
    frame = Spacing(0.2, "object_pixel_spacing", ())
    assert spacing_of_run([frame, frame]) == frame
    other = Spacing(0.21, "object_pixel_spacing", ("user_value_not_used",))
    varying = Spacing(None, "object_pixel_spacing", ("user_value_not_used", "varies_between_frames"))
    assert spacing_of_run([frame, other]) == varying
    mixed = spacing_of_run([frame, Spacing(None, "unknown", ())])
    assert (mixed.value_mm, mixed.notes) == (None, ("varies_between_frames",))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_users_value_must_be_positive(value):
    with pytest.raises(ValueError, match=r"must be between 0\.01 and 5 mm or None"):
        spacing(user_mm=value)


@pytest.mark.parametrize(
    "tags",
    [
        {"imager_mm": (0.2, 0.3)},
        {"pixel_mm": (0.2, 0.25)},
        {"aspect": (3.0, 4.0)},
        {"object_mm": (0.2, 0.3), "aspect": (1.0, 1.0)},
    ],
)
@pytest.mark.parametrize("user_mm", [None, 0.25])
def test_pixels_that_are_no_squares_have_no_size_in_mm_and_say_so(tags, user_mm):
    found = spacing_at_patient(SpacingTags(**tags), user_mm=user_mm)
    assert (found.value_mm, found.notes) == (None, ("anisotropic",))


@pytest.mark.parametrize("aspect", [(1.0, 1.0), (512.0, 512.0), ()])
def test_square_pixels_by_their_aspect_change_nothing(aspect):
    assert spacing_at_patient(SpacingTags(aspect=aspect), user_mm=0.25).value_mm == 0.25
    assert spacing_at_patient(SpacingTags(aspect=aspect)).notes == ()


def test_an_aspect_that_a_spacing_contradicts_is_not_used():
    assert spacing_at_patient(SpacingTags(object_mm=(0.2, 0.2), aspect=(3.0, 4.0))).value_mm == 0.2


def test_an_aspect_that_is_none_is_noted():
    assert spacing_at_patient(SpacingTags(aspect=(0.0, 1.0))).notes == ("pixel_aspect_ratio_invalid",)
