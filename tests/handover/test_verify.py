"""Packages made to do harm, each refused with its reason before any of them runs."""

import io
import json
import pickle
import stat
import struct
import sys
import warnings
import zipfile
import zlib

import pytest
import torch
from safetensors.torch import load, save

from cmunet_monai.handover.archive import read_archive, read_member, write_archive
from cmunet_monai.handover.release import this_release
from cmunet_monai.handover.verify import verify_package

NAME = "coronary_xa_segmentation"
VERSION = this_release().version
WHEEL = f"wheels/cmunet_monai-{VERSION}-py3-none-any.whl"


@pytest.fixture
def canary(tmp_path):
    """A file that malicious code would make; no test may leave it there, or a module of the package imported."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code of the package was run"
    assert "evil" not in sys.modules


@pytest.fixture
def bad(tmp_path):
    return tmp_path / "bad.zip"


def reasons(path, **options):
    """The findings of a refused package, as one text."""
    verdict = verify_package(path, **options)
    assert not verdict.accepted
    return "\n".join(verdict.findings)


def touch(canary):
    return f"__import__('os').system('touch {canary}')"


# What is accepted -----------------------------------------------------------------------------------------------------


def test_good_package_is_accepted_signed_by_its_key(good):
    verdict = verify_package(good.path, key=good.public)
    assert verdict.accepted
    assert verdict.signed
    assert verdict.remarks == ()


def test_without_a_key_integrity_alone_is_judged(good):
    verdict = verify_package(good.path)
    assert verdict.accepted
    assert (verdict.signed, verdict.has_signature) == (False, True)


def test_package_written_again_by_the_tests_is_accepted(good, bad):
    """So that every refusal below is for what was changed."""
    assert verify_package(good.changed(bad, {})).findings == ()
    assert verify_package(good.changed(bad, {}, signed=True), key=good.public).signed


def test_documents_for_people_may_differ(good, bad):
    assert verify_package(good.changed(bad, {"docs/README.md": b"ours\n", "docs/more/table.csv": b"a,b\n"})).accepted


def test_verifying_imports_nothing_from_the_folder_of_the_zip(good, tmp_path, monkeypatch, canary):
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert verify_package(good.path).accepted


# The zip --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, reason",
    [
        ("../evil.py", "`..` leads out of the folder"),
        (f"{NAME}/../../evil.py", "`..` leads out of the folder"),
        ("/tmp/evil.py", "an absolute path"),
        ("C:/evil.py", "an absolute path"),
        ("C:evil.py", "an absolute path"),
        ("//server/share/evil", "an absolute path"),
        (f"{NAME}\\..\\evil.py", "a backslash"),
        (f"{NAME}/evil\0.md", "hold only these"),
        (f"{NAME}/evil\n.md", "hold only these"),
        (f"{NAME}/docs/evil.", "not end in a dot"),
        (f"{NAME}/docs/evil ", "hold only these"),
        (f"{NAME}/docs/.hidden.md", "must begin with"),
        (f"{NAME}//docs/a.md", "must begin with"),
        (f"{NAME}/./docs/a.md", "must begin with"),
        (f"{NAME}/docs/-rf.md", "must begin with"),
        (f"{NAME}/docs/stream.md:evil", "hold only these"),
        (f"{NAME}/docs/~/a.md", "must begin with"),
        (f"{NAME}/docs/\u202egnp.md", "must begin with"),
        (f"{NAME}/docs/caf\u00e9.md", "hold only these"),
        (f"{NAME}/docs/NUL.md", "a device on Windows"),
        (f"{NAME}/docs/com1", "a device on Windows"),
        (f"{NAME}/docs/", "a folder of its own"),
        (f"{NAME}/" + "a/" * 12 + "a.md", "deeper than"),
        (f"{NAME}/docs/" + "a" * 300, "longer than"),
        ("", "must begin with"),
    ],
)
def test_name_that_means_different_files_to_different_systems_is_refused(bad, name, reason):
    raw = name.encode()
    content = b"x"
    crc = zlib.crc32(content)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, 1, 1, len(raw), 0) + raw + content
    facts = (b"PK\1\2", 3 << 8 | 20, 20, 0, 0, 0, 33, crc, 1, 1, len(raw), 0, 0, 0, 0, 0o100644 << 16, 0)
    central = struct.pack("<4s6H3I5H2I", *facts) + raw
    bad.write_bytes(local + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0))
    assert reason in reasons(bad)


def test_symlink_is_refused(good, bad):
    good.patched(bad, "docs/README.md", external=(stat.S_IFLNK | 0o777) << 16)
    assert "a symlink" in reasons(bad)


@pytest.mark.parametrize("mode", [stat.S_IFIFO | 0o644, stat.S_IFREG | 0o4755, stat.S_IFDIR | 0o755, 0])
def test_anything_but_a_plain_file_is_refused(good, bad, mode):
    good.patched(bad, "docs/README.md", external=mode << 16)
    assert "not a plain file" in reasons(bad)


def test_encrypted_file_is_refused(good, bad):
    assert "encrypted" in reasons(good.patched(bad, "docs/README.md", flags=1))


def test_sizes_that_lie_are_refused(good, bad):
    size = len(good.files["docs/README.md"])
    assert "compressed" in reasons(good.patched(bad, "docs/README.md", size=size + 1))
    assert "two headers" in reasons(good.patched(bad, "docs/README.md", size=size + 1, packed=size + 1))
    assert "compressed" in reasons(good.patched(bad, "docs/README.md", size=2**32 - 1))


def deflated_zeros(gigabytes):
    """A raw deflate stream of zeros, without making them."""
    block = bytes(2**20)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return piece * (1024 * gigabytes) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


@pytest.mark.parametrize("stated", [10 * 2**30, 1000])
def test_bomb_of_10_gb_is_refused_unread(bad, stated, monkeypatch):
    packed = deflated_zeros(10)
    raw = f"{NAME}/docs/README.md".encode()
    size, extra = stated, b""
    if stated >= 2**32:
        size, extra = 2**32 - 1, struct.pack("<HHQ", 1, 8, stated)
    with bad.open("wb") as file:
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(packed), size, len(raw), len(extra)))
        file.write(raw + extra + packed)
        start = file.tell()
        facts = (
            b"PK\1\2",
            788,
            20,
            0,
            8,
            0,
            33,
            0,
            len(packed),
            size,
            len(raw),
            len(extra),
            0,
            0,
            0,
            0o100644 << 16,
            0,
        )
        central = struct.pack("<4s6H3I5H2I", *facts) + raw + extra
        file.write(central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), start, 0))
    with zipfile.ZipFile(bad) as archive:  # a real one
        assert archive.infolist()[0].file_size == stated
    monkeypatch.setattr(zlib, "decompressobj", None)
    assert "a package stores its files" in reasons(bad)


def test_bomb_inside_the_wheel_is_refused(good, bad):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("cmunet_monai/zeros.json", bytes(10**7))
    assert f"{WHEEL}: " in (found := reasons(good.changed(bad, {WHEEL: stream.getvalue()})))
    assert "compressed" in found


def test_name_that_stands_twice_is_refused(good, bad):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        append(good.path.read_bytes(), bad, f"{NAME}/configs/inference.json", b"{}")
    assert "stands twice" in reasons(bad)


def test_name_that_differs_in_case_alone_is_refused(good, bad):
    append(good.path.read_bytes(), bad, f"{NAME}/configs/Inference.json", b"{}")
    assert "in case alone" in reasons(bad)
    append(good.path.read_bytes(), bad, f"{NAME}/Configs/evil.json", b"{}")
    assert "in case alone" in reasons(bad)


def test_name_that_is_file_and_folder_is_refused(good, bad):
    append(good.path.read_bytes(), bad, f"{NAME}/LICENSE/evil.md", b"x")
    assert "a file and a folder at once" in reasons(bad)


def append(data, path, name, content):
    """Add a member to a zip in the form of `write_archive`, out of order and without its checks."""
    count, length, start = struct.unpack_from("<HII", data, len(data) - 12)
    body, central = data[:start], data[start : start + length]
    raw, crc, size = name.encode(), zlib.crc32(content), len(content)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, size, size, len(raw), 0) + raw + content
    facts = (b"PK\1\2", 788, 20, 0, 0, 0, 33, crc, size, size, len(raw), 0, 0, 0, 0, 0o100644 << 16, start)
    central += struct.pack("<4s6H3I5H2I", *facts) + raw
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count + 1, count + 1, len(central), start + len(local), 0)
    path.write_bytes(body + local + central + end)


def test_two_headers_that_disagree_are_refused(good, bad):
    data = good.path.read_bytes()
    bad.write_bytes(data.replace(f"{NAME}/docs/README.md".encode(), f"{NAME}/docs/EVIL__.py".encode(), 1))
    assert "two headers in the zip disagree" in reasons(bad)


def test_data_outside_the_files_are_refused(good, bad):
    data = good.path.read_bytes()
    _, length, start = struct.unpack_from("<HII", data, len(data) - 12)
    for content, reason in (
        (b"#!/bin/sh\n" + data, "in front of the zip's first file"),
        (b"PK\3\4" + data, "not where its end says"),
        (data + b"x", "data follow the zip's end"),
        (data + data, "not where its end says"),
        (data[:-2] + b"\4\0evil", "data follow the zip's end"),
        (data[:start] + b"evil" + data[start:-6] + struct.pack("<IH", start + 4, 0), "4 bytes of the zip belong to no"),
        (data[:-22] + b"evil" + data[-22:-10] + struct.pack("<IIH", length + 4, start, 0), "belong to no file"),
        (data[:-22] + bytes(20) + data[-22:], "not where its end says"),
    ):
        bad.write_bytes(content)
        assert reason in reasons(bad), reason


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_file_that_is_cut_is_refused(good, bad, share):
    data = good.path.read_bytes()
    bad.write_bytes(data[: int(len(data) * share)])
    assert "not a zip" in reasons(bad)


def test_zip64_is_refused(good, bad):
    data = bytearray(good.path.read_bytes())
    struct.pack_into("<I", data, len(data) - 6, 2**32 - 1)
    bad.write_bytes(data)
    assert "zip64" in reasons(bad)
    with zipfile.ZipFile(bad, "w") as archive, archive.open(f"{NAME}/LICENSE", "w", force_zip64=True) as file:
        file.write(b"x")
    assert "not a plain file" in reasons(bad)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"PK\5\6" + bytes(18), b"\x1f\x8b" + bytes(100)])
def test_what_is_no_zip_is_refused(bad, content):
    bad.write_bytes(content)
    assert reasons(bad)


def test_zip_of_ordinary_tools_is_refused(good, bad):
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in good.files.items():
            archive.writestr(f"{NAME}/{name}", content)
    assert "not a plain file of mode 644" in reasons(bad)


def test_every_single_changed_byte_is_noticed(good, bad):
    """Around the beginning of a file in the middle, its header included, and at the end of the zip."""
    data = good.path.read_bytes()
    start = data.index(good.files["configs/inference.json"])
    places = [*range(start - 80, start + 20), *range(len(data) - 80, len(data))]
    for place in places:
        bad.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        assert reasons(bad), place


# Sums and signature ---------------------------------------------------------------------------------------------------


def test_changed_byte_is_refused_by_its_sum(good, bad):
    weights = bytearray(good.files["models/model.safetensors"])
    weights[-1] ^= 1
    changes = {"models/model.safetensors": bytes(weights)}
    assert "models/model.safetensors: its SHA-256 is" in reasons(good.changed(bad, changes, sums=False))


def test_file_outside_the_sums_is_refused(good, bad):
    assert "docs/new.md: not in SHA256SUMS" in reasons(good.changed(bad, {"docs/new.md": b"x"}, sums=False))


def test_sum_of_a_file_that_is_not_there_is_refused(good, bad):
    name = next(name for name in good.files if name.endswith(".csv"))
    assert f"names '{name}', which is not there" in reasons(good.changed(bad, {name: None}, sums=False))


def test_a_million_reasons_are_cut_short(good, bad):
    sums = good.files["SHA256SUMS"] + b"".join(b"%064d  n%d\n" % (n, n) for n in range(100_000))
    verdict = verify_package(good.changed(bad, {"SHA256SUMS": sums}, sums=False))
    assert len(verdict.findings) == 51
    assert verdict.findings[-1] == "and 99950 more reasons"


def test_sums_in_another_form_are_refused(good, bad):
    sums = good.files["SHA256SUMS"]
    for other in (sums + b"\n", sums.upper(), sums.replace(b"  ", b" *"), b"\xff" + sums, b""):
        assert "SHA256SUMS" in reasons(good.changed(bad, {"SHA256SUMS": other}, sums=False))


def test_wrong_key_is_refused(good):
    assert "not by the key that was given" in reasons(good.path, key=good.other_public)


def test_missing_signature_is_refused_with_a_key(good, bad):
    assert "SHA256SUMS.sig: missing" in reasons(good.changed(bad, {}), key=good.public)


def test_signature_of_other_sums_is_refused(good, bad):
    old = {"SHA256SUMS.sig": good.files["SHA256SUMS.sig"]}
    good.changed(bad, old | {"docs/README.md": b"changed\n"})
    assert "of another SHA256SUMS" in reasons(bad, key=good.public)
    assert verify_package(bad).accepted  # a document may differ where no key is asked for


@pytest.mark.parametrize("signature", [b"", b"!", b"A" * 89, b"AAAA\n", b"\n" * 89, bytes(64)])
def test_signature_that_is_none_is_refused_with_and_without_key(good, bad, signature):
    good.changed(bad, {"SHA256SUMS.sig": signature})
    for key in (good.public, None):
        assert "not an Ed25519 signature" in reasons(bad, key=key)


def test_signature_vouches_for_code_and_for_nothing_else(good, bad, canary):
    with_code = {WHEEL: rewheel(good, {"cmunet_monai/__init__.py": b"x = 1\n"})}
    verdict = verify_package(good.changed(bad, with_code, signed=True), key=good.public)
    assert verdict.accepted
    assert "the signature alone vouches" in verdict.remarks[0]
    config = {"configs/inference.json": good.files["configs/inference.json"].replace(b"'cuda'", b"'cpu'")}
    assert "is run as Python" in reasons(good.changed(bad, config, signed=True), key=good.public)


# Configs --------------------------------------------------------------------------------------------------------------


def test_expression_that_runs_a_shell_is_refused(good, bad, canary):
    def change(config):
        config["run"] = ["$" + touch(canary)]

    assert "is run as Python" in reasons(good.config(bad, change))


def test_harmful_target_of_an_allowed_package_is_refused(good, bad, canary):
    def change(config):
        config["initialize"][0] = {"_target_": "torch.utils.collect_env.run", "command": f"touch {canary}"}

    assert "`_target_` calls what it names" in reasons(good.config(bad, change))


def edit(*path, value):
    def change(config):
        for key in path[:-1]:
            config = config[key]
        if isinstance(config, list) and path[-1] == len(config):
            config.append(value)
        else:
            config[path[-1]] = value

    return change


EVIL = "$__import__('os').system('false')"


@pytest.mark.parametrize(
    "change, reason",
    [
        (edit("imports", 0, value="$import evil"), "is run as Python"),
        (edit("imports", 3, value="$import evil"), "has 4 items"),
        (edit("device", value=EVIL), "is run as Python"),
        (edit("bundle_root", value=EVIL), "is run as Python"),
        (edit("bundle_root", value="/tmp"), "`bundle_root` is '/tmp'"),
        (edit("weights", value="/tmp/evil.pt"), "`weights` is '/tmp/evil.pt'"),
        (edit("output_dir", value="$@bundle_root + '/../../..'"), "is run as Python"),
        (edit("channels", value=EVIL), "is run as Python"),
        (edit("channels", value=["$1", 2]), "is run as Python"),
        (edit("channels", value="@imports"), "refers to something else"),
        (edit("channels", value="%configs/evil.json#channels"), "takes in another file"),
        (edit("channels", value=[True, 8]), "`channels#0` is True"),
        (edit("channels", value=[4.0, 8]), "`channels#0` is 4.0"),
        (edit("channels", value=[8, 16]), "`channels#0` is 8"),
        (edit("image_size", value=EVIL), "must be two whole numbers"),
        (edit("image_size", value=["$1", 64]), "must be two whole numbers"),
        (edit("image_size", value=[True, 64]), "must be two whole numbers"),
        (edit("image_size", value=[10**9, 10**9]), "must be two whole numbers"),
        (edit("image_size", value=[64, 128]), "configs/evaluate.json: `image_size#1` is 64"),
        (edit("network_def", "_target_", value="os.system"), "`_target_` calls"),
        (edit("network_def", "_target_", value="$" + "__import__('o' + 's').system"), "`_target_` calls"),
        (edit("network_def", "_target_", value="@device"), "`_target_` calls"),
        (edit("network_def", "_mode_", value="debug"), "key 'network_def#_mode_' = 'debug'"),
        (edit("network_def", "_requires_", value=EVIL), "is run as Python"),
        (edit("network_def", "_disabled_", value=EVIL), "is run as Python"),
        (edit("network_def", "command", value="touch x"), "key 'network_def#command'"),
        (edit("evil", value=EVIL), "is run as Python"),
        (edit("evil", value={"a": [{"_target_": "os.system"}]}), "key 'evil'"),
        (edit("evil#deep", value=EVIL), "is run as Python"),
        (edit("network_def#_target_", value="os.system"), "key 'network_def#_target_'"),
        (edit("network_def::_target_", value="os.system"), "key 'network_def::_target_'"),
        (edit("+run", value=[EVIL]), "key '+run'"),
        (edit("_meta_", value={"a": EVIL}), "key '_meta_'"),
        (edit("finalize", value=[EVIL]), "key 'finalize'"),
        (edit("initialize", 2, value=EVIL), "has 3 items"),
        (edit("num_workers", value=True), "`num_workers` is True"),
        (edit("num_workers", value=1.0), "`num_workers` is 1.0"),
        (edit("num_workers", value=10**6), "`num_workers` is 1000000"),
        (edit("amp_dtype", value="@device"), "refers to something else"),
        (edit("require_xa", value=1), "`require_xa` is 1"),
        (edit("_desc_", value="For diagnosis."), "`_desc_` is"),
        (lambda config: config.pop("key"), "key `key` is missing"),
        (lambda config: config.update(device=config.pop("device")), "in another order"),
    ],
)
def test_config_that_is_not_this_releases_is_refused(good, bad, change, reason):
    assert reason in reasons(good.config(bad, change))


@pytest.mark.parametrize("name", ["train", "evaluate", "multi_gpu_train", "metadata"])
def test_every_config_is_held_to_the_release(good, bad, name):
    assert "is run as Python" in reasons(good.config(bad, edit("_desc_", value=EVIL), name=name))


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"run": 1, "run": 2}', "stands twice"),
        (b'{"run": NaN}', "NaN is not JSON"),
        (b'{"run": -Infinity}', "-Infinity is not JSON"),
        (b'{"run": 1e999}', "too large a number"),
        (b'{"run": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"run": "\\ud800"}', "not UTF-8"),
        (b"[" * 100_000, "nested more than"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested more than"),
        (b'"' + b'\\"' * 400_000, "not JSON"),
        (b"{" + b",".join(b'"%d":1' % (i % 50_000) for i in range(100_000)) + b"}", "stands twice"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "more than the 1048576"),
        (b"[]", "must be a dictionary"),
        (b"null", "must be a dictionary"),
        (b"{}", "must be two whole numbers"),
    ],
)
def test_json_that_chokes_parsers_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"configs/inference.json": content}))


def test_config_with_other_whitespace_is_refused(good, bad):
    content = good.files["configs/train.json"] + b"\n"
    assert "not written as `package` writes it" in reasons(good.changed(bad, {"configs/train.json": content}))


@pytest.mark.parametrize(
    "change, reason",
    [
        (edit("schema", value="http://evil.example/schema.json"), "`schema` is"),
        (edit("intended_use", value="Diagnosis."), "`intended_use` is"),
        (edit("required_packages_version", "evil", value="1.0"), "key 'required_packages_version#evil'"),
        (edit("eval_metrics", "dice", value=EVIL), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", "dice", value={"_target_": "os.system"}), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", "$evil", value=1.0), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", "_target_", value=1.0), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", value=[EVIL]), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", value={"dice": True}), "`eval_metrics` must be numbers"),
        (edit("eval_metrics", value={"dice": 0.9}), "docs/MODEL_CARD.md: not what `package` makes"),
        (edit("network_data_format", "inputs", "image", "spatial_shape", value=["$1", 1]), "is run as Python"),
    ],
)
def test_metadata_that_are_not_this_releases_are_refused(good, bad, change, reason):
    assert reason in reasons(good.config(bad, change, name="metadata"))


def test_logging_configuration_that_evaluates_is_refused(good, bad, canary):
    content = good.files["configs/logging.conf"].replace(b"(sys.stdout,)", f"({touch(canary)},)".encode())
    assert "logging.config evaluates" in reasons(good.changed(bad, {"configs/logging.conf": content}))


# Files that a package does not hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "scripts/evil.py",
        "evil.py",
        "sitecustomize.py",
        "torch/__init__.py",
        "cmunet_monai/__init__.py",
        "configs/evil.py",
        "configs/evil.json",
        "configs/inference.yaml",
        "configs/inference.yml",
        "configs/metadata.yaml",
        "configs/methods/evil.json",
        "configs/compact.JSON",
        "large_files.yml",
        "evil.pth",
        "models/model.pt",
        "models/model.ts",
        "models/model.pth",
        "models/evil.safetensors",
        "models/model.onnx",
        "models/other.json",
        "docs/evil.html",
        "docs/evil.svg",
        "docs/evil.ipynb",
        "test/frame.nii.gz",
        "test/frame.dcm",
        "test/evil.json",
        "wheels/evil.py",
        "wheels/evil-1.0.tar.gz",
        "wheels/cmunet_monai-9.9.9-py3-none-any.whl",
        "wheels/cmunet-monai-0.1.0-py3-none-any.whl",
        "wheels/sub/evil-1.0-py3-none-any.whl",
        "setup.py",
        "Makefile",
        "SHA256SUMS.asc",
    ],
)
def test_file_that_a_package_does_not_hold_is_refused(good, bad, name, canary):
    content = f"import os; os.system('touch {canary}')\n".encode()
    assert name in reasons(good.changed(bad, {name: content}))
    assert name in reasons(good.changed(bad, {name: content}, signed=True), key=good.public)


@pytest.mark.parametrize("folder", ["torch", "cmunet_monai", "coronary_xa_pretraining", "json"])
def test_package_in_a_folder_of_another_name_is_refused(good, bad, folder):
    assert f"its folder is '{folder}'" in reasons(good.changed(bad, {}, folder=folder))


def test_file_outside_the_folder_is_refused(good, bad):
    for name in ("torch.py", NAME):
        append(good.path.read_bytes(), bad, name, b"x")
        assert reasons(bad)
    files = {f"{NAME}/{name}": content for name, content in good.files.items()}
    with bad.open("wb") as stream:
        write_archive(stream, files | {"torch/__init__.py": b"x"})
    assert "lies outside the one folder" in reasons(bad)


@pytest.mark.parametrize(
    "name",
    [
        *("LICENSE", "SHA256SUMS", "requirements.txt", "configs/inference.json", "configs/train.json"),
        *("configs/metadata.json", "configs/logging.conf", "docs/MODEL_CARD.md", "models/model.safetensors"),
        *("models/model.json", "test/frame.png", "test/mask.png", "test/test.json", WHEEL),
    ],
)
def test_package_that_lacks_a_file_is_refused(good, bad, name):
    assert (
        "missing" in (found := reasons(good.changed(bad, {name: None}, sums=name != "SHA256SUMS"))) or "0 of" in found
    )


def test_large_file_is_refused(good, bad):
    assert "more than the 8388608" in reasons(good.changed(bad, {"docs/README.md": b"x" * 2**23 + b"x"}))


def test_too_many_files_are_refused(good, bad):
    assert "where a package has 1 to" in reasons(good.changed(bad, {f"docs/n{i}.md": b"" for i in range(1000)}))


def test_control_characters_in_a_text_are_refused(good, bad):
    assert "control characters" in reasons(good.changed(bad, {"docs/README.md": b"\x1b]0;evil\x07"}))


def test_requirements_that_pip_would_run_are_refused(good, bad):
    own = good.files["requirements.txt"]
    for more in (b"evil\n", b"--index-url http://evil.example\n", b"-e .\n", b"git+https://evil.example/x\n"):
        assert "requirements.txt: not that of this release" in reasons(
            good.changed(bad, {"requirements.txt": own + more})
        )


# Code -----------------------------------------------------------------------------------------------------------------


def rewheel(good, changes):
    """The wheel with other files: name -> content, None to leave out."""
    stream = io.BytesIO(good.files[WHEEL])
    files = {member.name: read_member(stream, member) for member in read_archive(stream)} | changes
    out = io.BytesIO()
    write_archive(out, {name: content for name, content in files.items() if content is not None})
    return out.getvalue()


INFORMATION = f"cmunet_monai-{VERSION}.dist-info"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"cmunet_monai/__init__.py": b"import evil\n"}, "'cmunet_monai/__init__.py' is not that of the cmunet_monai"),
        ({"cmunet_monai/evil.py": b"x\n"}, "'cmunet_monai/evil.py' is not in the cmunet_monai"),
        ({"cmunet_monai/files/atomic.py": None}, "'cmunet_monai/files/atomic.py' is missing"),
        ({"cmunet_monai/handover/release.json": b"{}"}, "is not that of the cmunet_monai"),
        ({"evil.pth": b"import evil\n"}, "'evil.pth': a wheel of"),
        ({"torch/__init__.py": b"x\n"}, "'torch/__init__.py': a wheel of"),
        ({"cmunet_monai-0.1.0.data/scripts/evil": b"x\n"}, "data/scripts/evil': a wheel of"),
        ({f"{INFORMATION}/entry_points.txt": b"[console_scripts]\nevil=os:system\n"}, "entry_points.txt': a wheel of"),
        ({f"{INFORMATION}/METADATA": b"Name: cmunet_monai\nRequires-Dist: evil\n"}, "METADATA' is not that of"),
        ({f"{INFORMATION}/RECORD": b""}, "RECORD' is not that of"),
        ({f"{INFORMATION}/WHEEL": b"Root-Is-Purelib: false\n"}, "WHEEL' is not that of"),
        ({"cmunet_monai/evil.so": b"x"}, "evil.so': a wheel of"),
        ({"cmunet_monai/__pycache__/atomic.cpython-311.pyc": b"x"}, ".pyc': a wheel of"),
    ],
)
def test_changed_code_with_matching_sums_is_refused(good, bad, changes, reason):
    assert reason in reasons(good.changed(bad, {WHEEL: rewheel(good, changes)}))


@pytest.mark.parametrize("name", ["evil.pth", "torch/__init__.py", f"{INFORMATION}/entry_points.txt"])
def test_signed_wheel_holds_the_package_alone_all_the_same(good, bad, name):
    changes = {WHEEL: rewheel(good, {name: b"x"})}
    assert "a wheel of `cmunet_monai` holds" in reasons(good.changed(bad, changes, signed=True), key=good.public)


def test_wheels_of_other_packages_need_a_signature_that_was_checked(good, bad):
    wheel = {"wheels/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl": b"any"}
    assert "for which a signature must vouch" in reasons(good.changed(bad, wheel))
    assert "for which a signature must vouch" in reasons(good.changed(bad, wheel, signed=True))
    assert "for which a signature must vouch" in reasons(good.changed(bad, wheel, signed=True), key=good.other_public)
    verdict = verify_package(good.changed(bad, wheel, signed=True), key=good.public)
    assert verdict.accepted
    assert "1 wheels of other packages: the signature alone" in verdict.remarks[0]


# Weights --------------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["models/model.pt", "models/model.safetensors"])
def test_pickled_weights_are_refused(good, bad, canary, name, tmp_path):
    file = tmp_path / "weights"
    torch.save({"a": Evil(canary)}, file)
    for content in (file.read_bytes(), pickle.dumps(Evil(canary)), pickle.dumps(Evil(canary), protocol=0)):
        found = reasons(good.changed(bad, {name: content}))
        assert ("not safetensors" if name.endswith("safetensors") else "loading other formats can run code") in found


def header(content, data=b""):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(shape, first, last, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "shorter than the length"),
        (b"\xff" * 100, "a header of 18446744073709551615 bytes"),
        (struct.pack("<Q", 2**40) + b"{}", "a header of 1099511627776 bytes"),
        (header(b" {}"), "does not begin with"),
        (header(b"{}"), "0 tensors"),
        (header(b"{"), "not JSON"),
        (header(b"{" * 1000), "nested more than"),
        (header(b'{"a":1,"a":2}'), "stands twice"),
        (header({"__metadata__": {"a": 1}}), "`__metadata__` must be texts"),
        (header({"a": 1}), "must have a dtype"),
        (header({"a": tensor([1], 0, 4) | {"more": 1}}, bytes(4)), "must have a dtype"),
        (header({"a": tensor([1], 0, 4, "PICKLE")}, bytes(4)), "must be one of F32, I64"),
        (header({"a": tensor([1], 0, 4, ["F32"])}, bytes(4)), "must be one of F32, I64"),
        (header({"a": tensor([-1], 0, 4)}, bytes(4)), "not a list of sizes"),
        (header({"a": tensor([True], 0, 4)}, bytes(4)), "not a list of sizes"),
        (header({"a": tensor([1.0], 0, 4)}, bytes(4)), "not a list of sizes"),
        (header({"a": tensor("1", 0, 4)}, bytes(4)), "not a list of sizes"),
        (header({"a": tensor([2**39, 2**39], 0, 4)}, bytes(4)), "do not agree"),
        (header({"a": tensor([1], 4, 0)}, bytes(4)), "do not agree"),
        (header({"a": tensor([1], 4, 8)}, bytes(8)), "gaps or overlapping"),
        (header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, bytes(4)), "gaps or overlapping"),
        (header({"a": tensor([1], 0, 4)}, bytes(5)), "take 4 bytes, and 5 are there"),
        (header({"a": tensor([1], 0, 4)}), "take 4 bytes, and 0 are there"),
        (header({"a": tensor([1], 0, 4)}, bytes(4)), "not the weights of a UNet"),
    ],
)
def test_file_that_is_not_safetensors_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"models/model.safetensors": content}))


def test_tensors_of_another_network_are_refused(good, bad):
    def found(change):
        state = load(good.files["models/model.safetensors"])
        change(state)
        return reasons(good.changed(bad, {"models/model.safetensors": save(state)}))

    assert "1 tensors are not of the UNet of channels [4, 8], such as 'evil'" in found(
        lambda state: state.update(evil=torch.zeros(1))
    )
    assert "head.bias: they are no trained segmentation model" in found(lambda state: state.pop("head.bias"))
    assert "tensor head.bias is" in found(lambda state: state.update({"head.bias": torch.zeros(3)}))
    assert "must be one of F32, I64" in found(lambda state: state.update({"head.bias": torch.zeros(2).half()}))
    assert "of at most 4096 channels" in found(
        lambda state: state.update({"encoder.stages.0.0.weight": torch.zeros(5000, 1, 3, 3)})
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        (edit("sha256", value="0" * 64), "`sha256` is"),
        (edit("architecture", "channels", value=[4, 16]), "`architecture` is"),
        (edit("parts", value=["encoder"]), "`parts` is"),
        (edit("image_size", value=[32, 32]), "and that of the weights [32, 32]"),
        (edit("image_size", value="$1"), "must be two whole numbers"),
        (edit("origin", value="us"), "docs/MODEL_CARD.md: not what `package` makes"),
    ],
)
def test_sidecar_that_is_not_of_these_weights_is_refused(good, bad, change, reason):
    sidecar = json.loads(good.files["models/model.json"])
    change(sidecar)
    assert reason in reasons(good.changed(bad, {"models/model.json": json.dumps(sidecar).encode()}))


@pytest.mark.parametrize("content", [b"[]", b"1", b'"x"', b"null", b'{"a": NaN}', b"\x80\x04."])
def test_json_that_is_no_dictionary_is_refused(good, bad, content):
    for name in ("models/model.json", "test/test.json", "configs/metadata.json", "configs/train.json"):
        assert f"{name}: " in reasons(good.changed(bad, {name: content}))


# The test frame -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        edit("frame", value="../../etc/passwd"),
        edit("mask", value="docs/README.md"),
        edit("dice_tolerance", value=0.0),
        edit("dice_tolerance", value=True),
        edit("weights_sha256", value="0" * 64),
        edit("origin", value="real"),
        edit("command", value=EVIL),
        edit("runtime", value=None),
        edit("runtime", "python", value=["x"]),
        lambda record: record.pop("runtime"),
    ],
)
def test_record_of_the_test_that_says_something_else_is_refused(good, bad, change):
    record = json.loads(good.files["test/test.json"])
    change(record)
    assert "test/test.json: must say" in reasons(good.changed(bad, {"test/test.json": json.dumps(record).encode()}))


def png(width, height, *more):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(bytes((width + 1) * height) if width * height < 10**6 else b"")
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *more, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not a PNG"),
        (b"<script>", "not a PNG"),
        (png(64, 64)[:-5], "cut off"),
        (png(64, 64).replace(b"IDAT", b"IDBT"), "damaged or cut off"),
        (png(64, 64) + b"PK", "2 bytes follow the end"),
        (png(64, 64, (b"tEXt", b"Name\0Doe")), "more in it than the picture"),
        (png(64, 64, (b"IHDR", bytes(13))), "more in it than the picture"),
        (png(100_000, 100_000), "a picture of 100000 x 100000 pixels"),
        (png(0, 64), "a picture of 0 x 64 pixels"),
        (png(64, 64, *[(b"IDAT", b"")] * 30_000), "more than 20000 chunks"),
        (png(32, 64), "one format and size"),
    ],
)
def test_frame_that_is_no_plain_picture_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"test/frame.png": content}))


def test_frame_that_is_there_twice_is_refused(good, bad):
    changes = {"test/frame.nii": good.files["test/frame.png"]}
    assert "2 of them, where one is needed" in reasons(good.changed(bad, changes))


def test_file_whose_check_is_passed_over_is_refused(good, monkeypatch):
    """Should a later change forget a check, nothing comes through by it."""
    monkeypatch.setattr("cmunet_monai.handover.verify._Judgement._hold_wheels", lambda judgement: None)
    assert "was not judged, by a mistake" in reasons(good.path)


# Mistakes of the user -------------------------------------------------------------------------------------------------


def test_missing_file_and_folder_are_errors_not_verdicts(good, tmp_path):
    for path in (tmp_path / "none.zip", tmp_path):
        with pytest.raises(OSError, match=r"none.zip|is no file"):
            verify_package(path)


def test_key_that_is_no_public_key_is_an_error(good, tmp_path):
    with pytest.raises(ValueError, match="holds a private key"):
        verify_package(good.path, key=good.key)
    with pytest.raises(ValueError, match="no public key"):
        verify_package(good.path, key=good.weights)
    with pytest.raises(FileNotFoundError):
        verify_package(good.path, key=tmp_path / "none.pem")
