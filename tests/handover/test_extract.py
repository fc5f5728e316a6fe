import os
import sys
from dataclasses import replace

import pytest
from fire.parser import DefaultParseValue
from monai.bundle.scripts import run
from PIL import Image

from cmunet_monai.handover import extract as extract_module
from cmunet_monai.handover import segment_frame as segment_module
from cmunet_monai.handover.extract import extract_package, run_test
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.verify import verify_package

NAME = "coronary_xa_segmentation"


def test_accepted_package_is_unpacked_whole(good, tmp_path):
    folder = extract_package(verify_package(good.path), tmp_path / "new")
    assert folder == tmp_path / "new" / NAME
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == good.files
    assert os.listdir(tmp_path / "new") == [NAME]


def test_refused_package_is_not_unpacked(good, tmp_path):
    verdict = verify_package(good.path, key=good.other_public)
    with pytest.raises(ValueError, match="was refused and is not unpacked"):
        extract_package(verdict, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_zip_that_changed_after_the_verdict_is_not_unpacked(good, tmp_path):
    path = tmp_path / "package.zip"
    good.changed(path, {})
    verdict = verify_package(path)
    for changes in ({"docs/README.md": b"other\n"}, {"docs/new.md": b"x"}):
        good.changed(path, changes)
        with pytest.raises(Refused, match="changed since it was judged"):
            extract_package(verdict, tmp_path / "new")
        assert list((tmp_path / "new").iterdir()) == []


def test_what_is_there_is_never_written_over(good, tmp_path):
    (tmp_path / NAME).symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="is there already"):
        extract_package(verify_package(good.path), tmp_path)


def test_mask_of_the_test_frame_is_the_same_in_the_same_runtime(good, monkeypatch):
    """Inference of the packaged bundle by MONAI, here in this process, whereas `package` ran it in one of its own."""

    def run_here(words, folder, what):
        assert words[:2] == ["monai.bundle", "run"]
        pairs = zip(words[2::2], words[3::2], strict=True)
        settings = {name.removeprefix("--"): DefaultParseValue(value) for name, value in pairs}
        monkeypatch.setattr(sys, "path", list(sys.path))  # MONAI adds the bundle's folder
        run(**settings | {"num_workers": 0, "logging_file": False})

    monkeypatch.setattr(segment_module, "run_module", run_here)
    test = run_test(verify_package(good.path))
    assert (test.pixels, test.dice, test.same_runtime, test.passed) == (0, 1.0, True, True)


@pytest.fixture
def run_with_other_mask(good, monkeypatch):
    """`run_test` where inference marks `pixels` fewer of a mask of 2000, in this or another runtime."""

    def run(pixels, other_runtime):
        def segment(bundle, frame, folder):
            with Image.open(bundle / "test/mask.png") as picture:
                size = picture.size
            for path, count in ((bundle / "test/mask.png", 2000), (bundle / "found.png", 2000 - pixels)):
                image = Image.new("L", size)
                for place in range(count):
                    image.putpixel((place % size[0], place // size[0]), 255)
                image.save(path)
            return bundle / "found.png"

        monkeypatch.setattr(extract_module, "segment_frame", segment)
        verdict = verify_package(good.path)
        if other_runtime:
            record = verdict.facts["test"] | {"runtime": {"torch": "1.0"}}
            verdict = replace(verdict, facts=verdict.facts | {"test": record})
        return run_test(verdict)

    return run


@pytest.mark.parametrize(
    "pixels, other_runtime, passed",
    [(0, False, True), (1, False, False), (1, True, True), (39, True, True), (40, True, False)],
)
def test_no_pixel_may_differ_and_in_another_runtime_dice_decides(run_with_other_mask, pixels, other_runtime, passed):
    """39 of 2000 missing: Dice 2 * 1961 / 3961 = 0.99015; 40 missing: 0.98990."""
    test = run_with_other_mask(pixels, other_runtime)
    assert test.pixels == pixels
    assert test.dice == pytest.approx(2 * (2000 - pixels) / (4000 - pixels))
    assert test.passed is passed
