"""The verbs `package` and `verify` as a person uses them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cmunet_monai.handover import extract as extract_module
from cmunet_monai.handover.package_command import main as package
from cmunet_monai.handover.verify_command import main as verify

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "coronary_xa_segmentation"


def test_signed_package_is_accepted_and_says_what_it_is(good, capsys):
    assert verify([str(good.path), "--key", str(good.public)]) == 0
    out = capsys.readouterr().out
    assert "accepted, signed by the given key" in out
    assert "channels [4, 8], image_size [64, 64]" in out


def test_without_a_key_it_says_integrity_only_and_the_sha256_of_the_zip(good, capsys):
    assert verify([str(good.path)]) == 0
    out = capsys.readouterr().out
    digest = subprocess.run(["sha256sum", good.path], capture_output=True, text=True).stdout.split()[0]
    assert "integrity only" in out
    assert f"SHA-256: {digest}\n" in out


def test_refused_package_exits_with_1_and_a_line_for_each_reason(good, tmp_path, capsys):
    path = good.changed(tmp_path / "bad.zip", {"LICENSE": b"mine", "requirements.txt": b"evil"})
    assert verify([str(path), "--extract", str(tmp_path / "new"), "--run-test"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split(":")[:2] for line in lines[:2]] == [["refused", " LICENSE"], ["refused", " requirements.txt"]]
    assert lines[-1] == f"{path}: refused; do not unpack or run it"
    assert not (tmp_path / "new").exists()


def test_accepted_package_is_unpacked_where_asked(good, tmp_path, capsys):
    assert verify([str(good.path), "--extract", str(tmp_path)]) == 0
    assert f"unpacked to {tmp_path / 'coronary_xa_segmentation'}" in capsys.readouterr().out
    assert (tmp_path / "coronary_xa_segmentation" / "configs" / "inference.json").is_file()


def test_test_frame_that_fails_exits_with_1_and_unpacks_nothing(good, tmp_path, capsys, monkeypatch):
    def segment(bundle, frame, folder):
        raise RuntimeError("no memory")

    monkeypatch.setattr(extract_module, "segment_frame", segment)
    assert verify([str(good.path), "--run-test", "--extract", str(tmp_path / "new")]) == 1
    assert "test frame: failed: no memory" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_key_pair_is_made_once_and_the_private_one_is_the_owners_alone(tmp_path, capsys):
    key = tmp_path / "key.pem"
    assert package(["--new-key", str(key)]) == 0
    assert "KEY" not in capsys.readouterr().out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PRIVATE" not in (tmp_path / "key.public.pem").read_text()
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        package(["--new-key", str(key)])
    (tmp_path / "key.public.pem").unlink()
    with pytest.raises(FileExistsError):
        package(["--new-key", str(key)])
    assert key.read_bytes() == before
    with pytest.raises(ValueError, match=r"must end in .pem"):
        package(["--new-key", str(tmp_path / "key")])


def test_openssl_agrees_with_the_signature(good, tmp_path):
    import base64

    for name, content in (
        ("sums", good.files["SHA256SUMS"]),
        ("sig", base64.b64decode(good.files["SHA256SUMS.sig"])),
    ):
        (tmp_path / name).write_bytes(content)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", good.public, "-rawin", "-in", "sums", "-sigfile"]
    try:
        done = subprocess.run([*command, "sig"], cwd=tmp_path, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    assert done.returncode == 0, done.stderr


def test_keys_of_other_kinds_are_refused(good, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "ec.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(ValueError, match="must hold an Ed25519 key"):
        verify([str(good.path), "--key", str(tmp_path / "ec.pem")])
    with pytest.raises(ValueError, match="no private key"):
        package([str(BUNDLE), "--output", str(tmp_path / "a.zip"), "--sign", str(good.public)])


def test_missing_arguments_are_a_mistake_of_the_user(capsys):
    for command, words in ((package, []), (package, [str(BUNDLE)]), (verify, [])):
        with pytest.raises(SystemExit) as stopped:
            command(words)
        assert stopped.value.code == 2
    assert "usage: python -m cmunet_monai" in capsys.readouterr().err


@pytest.mark.parametrize("command", [package, verify])
def test_help_explains_without_failing(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m cmunet_monai ")
    assert "obtained separately" in text


def test_nothing_is_imported_from_the_folder_it_is_called_in(good, tmp_path):
    """Modules that verifying needs lie there under their names, as a zip that was unpacked by hand may leave them."""
    canary = tmp_path / "canary"
    for name in ("argparse", "hashlib", "json", "zlib", "tempfile", "packaging", "torch", "cryptography", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(canary)!r}, 'w'); raise SystemExit(9)")
    program = "import sys; from cmunet_monai.handover.verify_command import main; sys.exit(main(sys.argv[1:]))"
    bad = good.changed(tmp_path / "bad.zip", {"evil.py": b""})
    command = [sys.executable, "-c", program, str(bad), "--key", str(good.public)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert not canary.exists(), done.stderr
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("refused: 'evil.py'")


def test_verifying_a_broken_zip_needs_neither_torch_nor_monai(tmp_path):
    """A verdict on the form of a zip comes before anything large is imported."""
    path = tmp_path / "bad.zip"
    path.write_bytes(b"not a zip")
    program = (
        "import sys; from cmunet_monai.handover.verify_command import main\n"
        "code = main(sys.argv[1:]); assert not {'torch', 'monai', 'yaml'} & set(sys.modules); sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("refused: not a zip")
