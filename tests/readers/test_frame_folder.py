"""The frames of a folder."""

import pytest

from cmunet_monai.readers import list_frames


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.nii.gz", "sub/c.NII", "notes.txt", ".hidden.png", ".cache/d.png", "out/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_frames_are_sorted_and_hidden_files_passed_over(folder):
    assert [row["id"] for row in list_frames(folder)] == ["a.nii.gz", "b.png", "out/b.png", "sub/c.NII"]
    assert list_frames(folder)[0]["image"] == str(folder / "a.nii.gz")


def test_a_folder_is_left_out(folder):
    assert [row["id"] for row in list_frames(folder, leave_out=folder / "out")] == ["a.nii.gz", "b.png", "sub/c.NII"]


def test_a_folder_without_frames_is_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no frame .*1 other files"):
        list_frames(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder at .*nowhere"):
        list_frames(tmp_path / "nowhere")


def test_frames_inside_the_output_folder_are_refused(folder):
    with pytest.raises(ValueError, match="choose another output folder"):
        list_frames(folder / "out", leave_out=folder)
