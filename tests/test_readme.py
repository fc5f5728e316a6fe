"""The commands that the README shows, run as they stand there, with small numbers in place of large ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAINING = re.compile(r"(train\.json','\$(?:PRE|SEG)/configs/compact\.json'\]\")")


def shown_commands(title):
    """The bash block below a heading of the README."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1]
    return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]


def test_the_path_from_frames_to_masks_runs_as_shown(tmp_path):
    script = shown_commands("From frames to measurements")
    lines = [line for line in script.splitlines() if "--source ARCADE" not in line]  # real frames, not shipped
    script = "\n".join(lines).replace("--frames 64 --size 256", "--frames 24 --size 64 --frames-per-patient 1")
    script = script.replace("--finetune-images 12", "--finetune-images 6")
    script = TRAINING.sub(r"\1 --max_epochs 1 --batch_size 4 --num_workers 0", script)
    script = script.replace(
        "$PRE --config_file", "$PRE --image_size [64,64] --view_size 48 --max_shift 8 --config_file"
    )
    script = script.replace("$SEG --config_file", "$SEG --image_size [64,64] --config_file")
    script = script.replace("# 6.", "ln -s data/images frames  # 6.")
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    frames = sorted(path.name for path in (tmp_path / "data" / "images").iterdir())
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == frames
    assert (tmp_path / "runs" / "evaluation" / "per_image.csv").is_file()
    assert "loaded" in done.stdout + done.stderr  # the fine-tuning says what it starts from
