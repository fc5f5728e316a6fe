import csv
import re

from data_prep.ingestion.frames import Record
from data_prep.ingestion.report import write_reports

FACTS = {"spacing_source": "header", "spacing_mm": 0.3, "frames": 12, "flags": ""}
KEPT = Record(
    "file_1",
    "kept",
    run="run_1",
    patient="patient_1",
    facts=FACTS,
    frames=({"id": "run_1_2", "frame": 2, "choices": "fullest"},),
    filling=(0.1, 0.5, 0.2, 0.0),
)


def page_of(records, folder):
    write_reports(records, folder)
    return (folder / "report" / "index.html").read_text(encoding="utf-8")


def test_words_of_files_cannot_become_markup(tmp_path):
    hostile = "<script>x</script>\"'&"
    lost = Record("file_2", "quarantined", hostile, run=hostile, facts=FACTS)
    flagged = Record("file_3", "kept", run="run_3", facts=FACTS | {"flags": hostile, "spacing_source": hostile})
    page = page_of([KEPT, lost, flagged], tmp_path)
    assert "<script" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;&#34;&#39;&amp;") == 6
    # run and reason to look at, the reason in its table, the flags, the source in its table and below the picture


def test_a_run_has_its_pictures_and_its_filling_with_the_chosen_frames(tmp_path):
    page = page_of([KEPT], tmp_path)
    assert 'src="frames/run_1_2.png"' in page
    assert 'viewBox="0 0 3 100"' in page
    assert 'points="0,80.0 1,0.0 2,60.0 3,100.0"' in page  # the fullest, 0.5, stands at the top, which is 0
    assert re.findall(r'<line x1="(\d+)" x2="(\d+)"', page) == [("2", "2")]
    assert "run_1<br>patient_1<br>fullest 2 of 12<br>0.300 mm (header)</figcaption>" in page


def test_files_are_counted_by_what_became_of_them(tmp_path):
    lost = [Record(f"file_{number}", "passed over", "no XA") for number in range(3)]
    page = page_of([KEPT, *lost], tmp_path)
    assert "4 files, of which 1 runs of 1 patients were kept: 1 frames." in page
    assert "<tr><td>passed over</td><td>no XA</td><td>3</td></tr>" in page
    with (tmp_path / "files.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["kept", *["passed over"] * 3]


def test_an_export_without_any_run_has_a_page(tmp_path):
    page = page_of([Record("file_1", "passed over", "no XA")], tmp_path)
    assert "1 files, of which 0 runs of 0 patients were kept: 0 frames." in page
    assert page.count("<p>None.</p>") == 2  # sizes of a pixel, runs to look at
    assert not (tmp_path / "runs.csv").exists()
