"""Packages made to do harm, each refused with its reason before any of them runs."""

import hashlib
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
    "name",
    [
        "../evil.py",
        f"{NAME}/../../evil.py",
        "/tmp/evil.py",
        "C:/evil.py",
        "C:evil.py",
        "//server/share/evil",
        f"{NAME}\\..\\evil.py",
        f"{NAME}/evil\0.md",
        f"{NAME}/evil\n.md",
        f"{NAME}/docs/evil.",
        f"{NAME}/docs/evil ",
        f"{NAME}/docs/.hidden.md",
        f"{NAME}//docs/a.md",
        f"{NAME}/./docs/a.md",
        f"{NAME}/docs/-rf.md",
        f"{NAME}/docs/stream.md:evil",
        f"{NAME}/docs/~/a.md",
        f"{NAME}/docs/\u202egnp.md",
        f"{NAME}/docs/caf\u00e9.md",
        f"{NAME}/docs/NUL.md",
        f"{NAME}/docs/com1",
        f"{NAME}/docs/",
        f"{NAME}/" + "a/" * 12 + "a.md",
        f"{NAME}/docs/" + "a" * 300,
        "",
    ],
)
def test_name_that_means_different_files_to_different_systems_is_refused(bad, name):
    raw = name.encode()
    content = b"x"
    crc = zlib.crc32(content)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, 1, 1, len(raw), 0) + raw + content
    facts = (b"PK\1\2", 3 << 8 | 20, 20, 0, 0, 0, 33, crc, 1, 1, len(raw), 0, 0, 0, 0, 0o100644 << 16, 0)
    central = struct.pack("<4s6H3I5H2I", *facts) + raw
    bad.write_bytes(local + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0))
    found, shown = reasons(bad), ascii(raw.decode("ascii", errors="backslashreplace"))
    assert found.startswith(f"name {shown[:90]}")
    assert "expected letters, digits and . _ + - in at most 200 characters and 10 folders" in found


def test_symlink_is_refused(good, bad):
    good.patched(bad, "docs/README.md", external=(stat.S_IFLNK | 0o777) << 16)
    assert "a symlink" in reasons(bad)


@pytest.mark.parametrize("mode", [stat.S_IFIFO | 0o644, stat.S_IFREG | 0o4755, stat.S_IFDIR | 0o755, 0])
def test_anything_but_a_plain_file_is_refused(good, bad, mode):
    good.patched(bad, "docs/README.md", external=mode << 16)
    assert "must be that of a plain file of mode 644" in reasons(bad)


def test_encrypted_file_is_refused(good, bad):
    assert "encrypted" in reasons(good.patched(bad, "docs/README.md", flags=1))


def test_sizes_that_lie_are_refused(good, bad):
    size = len(good.files["docs/README.md"])
    assert "compressed" in reasons(good.patched(bad, "docs/README.md", size=size + 1))
    assert "two headers" in reasons(good.patched(bad, "docs/README.md", size=size + 1, packed=size + 1))
    assert "compressed" in reasons(good.patched(bad, "docs/README.md", size=2**32 - 1))


def test_sizes_beyond_the_end_of_the_zip_are_refused(bad):
    """Both headers of each agree, and the third would begin where no zip without zip64 can have it."""
    body = central = b""
    for letter in (b"a", b"b", b"c"):
        raw, size, start = NAME.encode() + b"/docs/" + letter + b".md", 2**32 - 2, len(body)
        local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, size, size, len(raw), 0) + raw
        facts = (b"PK\1\2", 788, 20, 0, 0, 0, 33, 0, size, size, len(raw), 0, 0, 0, 0, 0o100644 << 16, start)
        body, central = body + local, central + struct.pack("<4s6H3I5H2I", *facts) + raw
    bad.write_bytes(body + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 3, 3, len(central), len(body), 0))
    assert f"'{NAME}/docs/a.md': 4294967294 bytes, more than the zip has for it" in reasons(bad)


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
    assert "stored: not compressed" in reasons(bad)


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
    assert "in another case" in reasons(bad)
    append(good.path.read_bytes(), bad, f"{NAME}/Configs/evil.json", b"{}")
    assert "in another case" in reasons(bad)


def test_name_that_is_file_and_folder_is_refused(good, bad):
    append(good.path.read_bytes(), bad, f"{NAME}/LICENSE/evil.md", b"x")
    assert "as a file and a folder at once" in reasons(bad)


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
        (b"#!/bin/sh\n" + data, "not where its end says"),
        (b"PK\3\4" + data, "not where its end says"),
        (data + b"x", "data follow its end"),
        (data + data, "not where its end says"),
        (data[:-2] + b"\4\0evil", "data follow its end"),
        (data[:start] + b"evil" + data[start:-6] + struct.pack("<IH", start + 4, 0), "4 bytes of the zip belong to no"),
        (data[:-22] + b"evil" + data[-22:-10] + struct.pack("<IIH", length + 4, start, 0), "is cut off"),
        (data[:-22] + bytes(20) + data[-22:], "not where its end says"),
    ):
        bad.write_bytes(content)
        assert reason in reasons(bad), reason


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_file_that_is_cut_is_refused(good, bad, share):
    data = good.path.read_bytes()
    bad.write_bytes(data[: int(len(data) * share)])
    assert "not a zip" in reasons(bad)


def test_comment_and_extra_fields_of_a_file_are_refused(good, bad):
    """In an extra field, another name or size could stand, and a program may go by it."""
    data = good.path.read_bytes()
    raw = f"{NAME}/LICENSE".encode()
    place = data.rindex(raw) - 46
    size, start = struct.unpack_from("<II", data, len(data) - 10)
    for offset, field in ((30, struct.pack("<HH4s", 0x7075, 4, b"evil")), (32, b"evil")):
        header = bytearray(data[place : place + 46])
        struct.pack_into("<H", header, offset, len(field))
        end = data[-22:-10] + struct.pack("<IIH", size + len(field), start, 0)
        bad.write_bytes(data[:place] + header + raw + field + data[place + 46 + len(raw) : -22] + end)
        with zipfile.ZipFile(bad) as archive:  # other programs read it
            info = archive.getinfo(f"{NAME}/LICENSE")
            assert field in (info.extra, info.comment)
        found = reasons(bad)
        assert found.startswith(f"'{NAME}/LICENSE': its header in the zip must be that of a plain file")
        assert "extra field or comment" in found


def test_comment_of_the_zip_is_refused(good, bad):
    bad.write_bytes(good.path.read_bytes())
    with zipfile.ZipFile(bad, "a") as archive:
        archive.comment = b"evil"
    assert "data follow its end (a comment, too)" in reasons(bad)


def test_ten_thousand_files_are_refused_by_their_number(bad):
    raw = b"coronary_xa_segmentation/docs/a.md"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(raw), 0) + raw
    facts = (b"PK\1\2", 788, 20, 0, 0, 0, 33, 0, 0, 0, len(raw), 0, 0, 0, 0, 0o100644 << 16, 0)
    central = struct.pack("<4s6H3I5H2I", *facts) + raw
    body, directory = local * 10_000, central * 10_000
    for number in (10_000, 1000):  # the latter a lie
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, number, number, len(directory), len(body), 0)
        bad.write_bytes(body + directory + end)
        assert f"{number} files, where a package has 1 to 1000" in reasons(bad)


def test_zip64_is_refused(good, bad):
    data = bytearray(good.path.read_bytes())
    struct.pack_into("<I", data, len(data) - 6, 2**32 - 1)
    bad.write_bytes(data)
    assert "zip64" in reasons(bad)
    with zipfile.ZipFile(bad, "w") as archive, archive.open(f"{NAME}/LICENSE", "w", force_zip64=True) as file:
        file.write(b"x")
    assert "must be that of a plain file of mode 644" in reasons(bad)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all", b"PK\5\6" + bytes(18), b"\x1f\x8b" + bytes(100)])
def test_what_is_no_zip_is_refused(bad, content):
    bad.write_bytes(content)
    assert reasons(bad)


def test_zip_of_ordinary_tools_is_refused(good, bad):
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in good.files.items():
            archive.writestr(f"{NAME}/{name}", content)
    assert "must be that of a plain file of mode 644" in reasons(bad)


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
    found = reasons(good.changed(bad, changes, sums=False))
    old, new = (hashlib.sha256(data).hexdigest() for data in (good.files["models/model.safetensors"], weights))
    assert f"is '{old}  models/model.safetensors', where `package` writes '{new}  models/model.safetensors'" in found


def test_file_outside_the_sums_is_refused(good, bad):
    digest = hashlib.sha256(b"x").hexdigest()
    found = reasons(good.changed(bad, {"docs/new.md": b"x"}, sums=False))
    assert f"where `package` writes '{digest}  docs/new.md'" in found


def test_sum_of_a_file_that_is_not_there_is_refused(good, bad):
    digest = hashlib.sha256(b"x").hexdigest()
    lines = sorted(
        [*good.files["SHA256SUMS"].decode().splitlines(), f"{digest}  docs/a.md"], key=lambda line: line[66:]
    )
    found = reasons(good.changed(bad, {"SHA256SUMS": "\n".join([*lines, ""]).encode()}, sums=False))
    assert f"is '{digest}  docs/a.md', where `package` writes" in found


def test_a_million_reasons_are_cut_short(good, bad):
    sums = good.files["SHA256SUMS"] + b"".join(b"%064d  n%d\n" % (n, n) for n in range(100_000))
    verdict = verify_package(good.changed(bad, {"SHA256SUMS": sums}, sums=False))
    assert len(verdict.findings) == 1
    assert len(verdict.findings[0]) < 1000
    code = {f"cmunet_monai/{number}.py": b"" for number in range(500)}
    verdict = verify_package(good.changed(bad, {WHEEL: rewheel(good, code)}))
    assert len(verdict.findings) == 51
    assert verdict.findings[-1] == "and 450 more reasons"


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
    found = reasons(good.changed(bad, config, signed=True), key=good.public)
    assert found.startswith("configs/inference.json: line")
    assert "'cpu'" in found.replace("\\", "")


# Configs --------------------------------------------------------------------------------------------------------------


def test_expression_that_runs_a_shell_is_refused(good, bad, canary):
    def change(config):
        config["run"] = ["$" + touch(canary)]

    assert '"$__import__(' in reasons(good.config(bad, change))


def test_harmful_target_of_an_allowed_package_is_refused(good, bad, canary):
    def change(config):
        config["initialize"][0] = {"_target_": "torch.utils.collect_env.run", "command": f"touch {canary}"}

    assert '"_target_": "torch.utils.collect_env.run"' in reasons(good.config(bad, change))


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
        (edit("imports", 0, value="$import evil"), '"$import evil"'),
        (edit("imports", 3, value="$import evil"), '"$import evil"'),
        (edit("device", value=EVIL), '"device": "$__import__('),
        (edit("bundle_root", value=EVIL), '"bundle_root": "$__import__('),
        (edit("bundle_root", value="/tmp"), '"bundle_root": "/tmp"'),
        (edit("weights", value="/tmp/evil.pt"), '"weights": "/tmp/evil.pt"'),
        (edit("output_dir", value="$@bundle_root + '/../../..'"), '"output_dir": "$@bundle_root + '),
        (edit("channels", value=EVIL), '"channels": "$__import__('),
        (edit("channels", value=["$1", 2]), """'"channels": [', where `package` writes '"channels": [4, 8]'"""),
        (edit("channels", value="@imports"), '"channels": "@imports"'),
        (edit("channels", value="%configs/evil.json#channels"), '"channels": "%configs/evil.json#channels"'),
        (edit("channels", value=[True, 8]), """'"channels": [', where `package` writes '"channels": [4, 8]'"""),
        (edit("channels", value=[4.0, 8]), '"channels": [4.0, 8]'),
        (edit("channels", value=[8, 16]), '"channels": [8, 16]'),
        (edit("image_size", value=EVIL), "must be two whole numbers"),
        (edit("image_size", value=["$1", 64]), "must be two whole numbers"),
        (edit("image_size", value=[True, 64]), "must be two whole numbers"),
        (edit("image_size", value=[10**9, 10**9]), "must be two whole numbers"),
        (edit("image_size", value=[64, 128]), """[64, 64]', where `package` writes '"image_size": [64, 128]'"""),
        (edit("network_def", "_target_", value="os.system"), '"_target_": "os.system"'),
        (edit("network_def", "_target_", value="$" + "__import__('o' + 's').system"), '"_target_": "$__import__('),
        (edit("network_def", "_target_", value="@device"), '"_target_": "@device"'),
        (edit("network_def", "_mode_", value="debug"), '"_mode_": "debug"'),
        (edit("network_def", "_requires_", value=EVIL), '"_requires_": "$__import__('),
        (edit("network_def", "_disabled_", value=EVIL), '"_disabled_": "$__import__('),
        (edit("network_def", "command", value="touch x"), '"command": "touch x"'),
        (edit("evil", value=EVIL), '"evil": "$__import__('),
        (edit("evil", value={"a": [{"_target_": "os.system"}]}), '"evil": {'),
        (edit("evil#deep", value=EVIL), '"evil#deep": "$__import__('),
        (edit("network_def#_target_", value="os.system"), '"network_def#_target_": "os.system"'),
        (edit("network_def::_target_", value="os.system"), '"network_def::_target_": "os.system"'),
        (edit("+run", value=[EVIL]), '"+run": ['),
        (edit("_meta_", value={"a": EVIL}), '"_meta_": {'),
        (edit("finalize", value=[EVIL]), '"finalize": ['),
        (edit("initialize", 2, value=EVIL), '"$__import__('),
        (edit("num_workers", value=True), '"num_workers": true'),
        (edit("num_workers", value=1.0), '"num_workers": 1.0'),
        (edit("num_workers", value=10**6), '"num_workers": 1000000'),
        (edit("amp_dtype", value="@device"), '"amp_dtype": "@device"'),
        (edit("require_xa", value=1), '"require_xa": 1'),
        (edit("_desc_", value="For diagnosis."), '"_desc_": "For diagnosis."'),
        (lambda config: config.pop("key"), """where `package` writes '"key": """),
        (lambda config: config.update(device=config.pop("device")), """where `package` writes '"device": """),
    ],
)
def test_config_that_is_not_this_releases_is_refused(good, bad, change, reason):
    assert reason in reasons(good.config(bad, change)).replace("\\'", "'")


@pytest.mark.parametrize("name", ["train", "evaluate", "multi_gpu_train", "metadata"])
def test_every_config_is_held_to_the_release(good, bad, name):
    found = reasons(good.config(bad, edit("_desc_", value=EVIL), name=name))
    assert found.startswith(f"configs/{name}.json: line")
    assert '"_desc_": "$__import__(' in found


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"run": 1, "run": 2}', "must be two whole numbers"),
        (b'{"run": NaN}', "not JSON"),
        (b'{"run": -Infinity}', "not JSON"),
        (b'{"run": 1e999}', "not JSON"),
        (b'{"run": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"run": "\\ud800"}', "not JSON"),
        (b"[" * 100_000, "nested more than"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested more than"),
        (b'"' + b'\\"' * 400_000, "not JSON"),
        (b"{" + b",".join(b'"%d":1' % (i % 50_000) for i in range(100_000)) + b"}", "must be two whole numbers"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "more than 1048576"),
        (b"[]", "must be a dictionary"),
        (b"null", "must be a dictionary"),
        (b"{}", "must be two whole numbers"),
    ],
)
def test_json_that_chokes_parsers_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"configs/inference.json": content}))
    for name in ("models/model.json", "test/test.json", "configs/metadata.json", "configs/train.json"):
        assert f"{name}: " in reasons(good.changed(bad, {name: content}))


@pytest.mark.parametrize(
    "name", ["configs/inference.json", "configs/metadata.json", "models/model.json", "test/test.json"]
)
def test_key_that_stands_twice_is_refused(good, bad, name):
    """Which of its values counts depends on the parser; here ours sees nothing wrong."""
    first = next(iter(json.loads(good.files[name])))
    content = f'{{"{first}": "$evil",'.encode() + good.files[name][1:]
    assert f"{name}: the content is right, but not written as `package` writes it" in reasons(
        good.changed(bad, {name: content})
    )


def test_config_with_other_whitespace_is_refused(good, bad):
    content = good.files["configs/train.json"] + b"\n"
    assert "not written as `package` writes it" in reasons(good.changed(bad, {"configs/train.json": content}))


@pytest.mark.parametrize(
    "change, reason",
    [
        (edit("schema", value="http://evil.example/schema.json"), '"schema": "http://evil.example/schema.json"'),
        (edit("intended_use", value="Diagnosis."), '"intended_use": "Diagnosis."'),
        (edit("required_packages_version", "evil", value="1.0"), '"evil": "1.0"'),
        (edit("eval_metrics", "dice", value=EVIL), "configs/metadata.json: line"),
        (edit("eval_metrics", "dice", value={"_target_": "os.system"}), "configs/metadata.json: line"),
        (edit("eval_metrics", "$evil", value=1.0), "configs/metadata.json: line"),
        (edit("eval_metrics", "_target_", value=1.0), "configs/metadata.json: line"),
        (edit("eval_metrics", value=[EVIL]), "configs/metadata.json: line"),
        (edit("eval_metrics", value={"dice": True}), "configs/metadata.json: line"),
        (edit("eval_metrics", value={"dice": 0.9}), "docs/MODEL_CARD.md: line"),
        (edit("network_data_format", "inputs", "image", "spatial_shape", value=["$1", 1]), '"spatial_shape": ['),
    ],
)
def test_metadata_that_are_not_this_releases_are_refused(good, bad, change, reason):
    assert reason in reasons(good.config(bad, change, name="metadata"))


def test_logging_configuration_that_evaluates_is_refused(good, bad, canary):
    content = good.files["configs/logging.conf"].replace(b"(sys.stdout,)", f"({touch(canary)},)".encode())
    assert "configs/logging.conf: not that of this release" in reasons(
        good.changed(bad, {"configs/logging.conf": content})
    )


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
        *("configs/metadata.json", "configs/logging.conf", "docs/MODEL_CARD.md", "docs/README.md"),
        "models/model.safetensors",
        *("models/model.json", "test/frame.png", "test/mask.png", "test/test.json", WHEEL),
    ],
)
def test_package_that_lacks_a_file_is_refused(good, bad, name):
    assert f"{name}: missing" in reasons(good.changed(bad, {name: None}, sums=name != "SHA256SUMS"))


def test_large_file_is_refused(good, bad):
    assert "more than the 8388608" in reasons(good.changed(bad, {"docs/README.md": b"x" * 2**23 + b"x"}))


def test_too_many_files_are_refused(good, bad):
    assert "where a package has 1 to" in reasons(good.changed(bad, {f"docs/n{i}.md": b"" for i in range(1000)}))


def test_control_characters_in_a_text_are_refused(good, bad):
    for content in (b"\x1b]0;evil\x07", "\u202eevil".encode(), b"\xff", b"a\0b"):
        for name in ("docs/README.md", "docs/results/evil.csv"):
            assert f"{name}: control characters in a text, or not UTF-8" in reasons(good.changed(bad, {name: content}))


def test_picture_of_a_document_with_more_in_it_is_refused(good, bad):
    more = {"docs/evil.png": png(8, 8, (b"tEXt", b"Name\0Doe"))}
    assert "docs/evil.png: more in it than the picture" in reasons(good.changed(bad, more))
    assert "docs/evil.png: not a PNG file" in reasons(good.changed(bad, {"docs/evil.png": b"<script>"}))


def test_requirements_that_pip_would_run_are_refused(good, bad):
    own = good.files["requirements.txt"]
    for more in ("evil", "--index-url http://evil.example", "-e .", "git+https://evil.example/x"):
        found = reasons(good.changed(bad, {"requirements.txt": own + f"{more}\n".encode()}))
        assert "requirements.txt: line" in found
        assert f"is '{more}', where `package` writes ''" in found


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
        (b"", "not safetensors, or damaged"),
        (b"\xff" * 100, "a header of 18446744073709551615 bytes"),
        (struct.pack("<Q", 2**40) + b"{}", "a header of 1099511627776 bytes"),
        (header(b" {}"), "not the weights of a UNet"),
        (header(b"{}"), "not the weights of a UNet"),
        (header(b"{"), "not JSON"),
        (header(b"{" * 1000), "nested more than"),
        (header(b'{"a":1,"a":2}'), "not the weights of a UNet"),
        (header({"__metadata__": {"a": 1}}), "not the weights of a UNet"),
        (header({"a": 1}), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4) | {"more": 1}}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4, "PICKLE")}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4, ["F32"])}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([-1], 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([True], 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1.0], 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor("1", 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([2**39, 2**39], 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1], 4, 0)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1], 4, 8)}, bytes(8)), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, bytes(4)), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4)}, bytes(5)), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4)}), "not the weights of a UNet"),
        (header({"a": tensor([1], 0, 4)}, bytes(4)), "not the weights of a UNet"),
    ],
)
def test_file_that_is_not_safetensors_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"models/model.safetensors": content}))


def rewritten(good, change):
    """The weights with another header, in which `change` edited the tensors in place; numbers as they are."""
    data = good.files["models/model.safetensors"]
    (length,) = struct.unpack_from("<Q", data)
    tensors = json.loads(data[8 : 8 + length])
    change(tensors)
    text = json.dumps(tensors, separators=(",", ":")).encode()
    return header(text.ljust(length), data[8 + length :])


LAST = "head.weight"  # of the numbers


def test_weights_written_again_by_the_tests_are_accepted(good, bad):
    weights = rewritten(good, lambda tensors: None)
    assert verify_package(good.changed(bad, {"models/model.safetensors": weights})).accepted


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda tensors: tensors.update(__metadata__={"note": "x"}), "'__metadata__'] beside them"),
        (lambda tensors: tensors.update(evil=tensor([0], 0, 0)), "'evil'] beside them"),
        (lambda tensors: tensors.update(evil=tensor([1], 0, 4)), "'evil'] beside them"),
        (lambda tensors: tensors.pop("head.bias"), "['head.bias'] missing"),
        (lambda tensors: tensors[LAST].update(more=1), '"more": 1'),
        (lambda tensors: tensors[LAST].update(dtype="PICKLE"), '"dtype": "PICKLE"'),
        (lambda tensors: tensors[LAST].update(dtype="I32"), '"dtype": "I32"'),
        (lambda tensors: tensors[LAST].update(dtype=["F32"]), '"dtype": ['),
        (lambda tensors: tensors[LAST].update(shape=[2, -4, 1, 1]), '"shape": [2, -4, 1, 1]'),
        (lambda tensors: tensors[LAST].update(shape=[4, 2, 1, 1]), '"shape": [4, 2, 1, 1]'),
        (lambda tensors: tensors[LAST].update(shape=[True]), '"shape": ['),
        (lambda tensors: tensors[LAST].update(data_offsets=[0, 32]), '"data_offsets": [0, 32]'),
        (lambda tensors: tensors.update({"head.bias": tensors.pop("head.bias")}), "its header is not that of"),
    ],
)
def test_header_that_is_not_that_of_the_network_is_refused(good, bad, change, reason):
    found = reasons(good.changed(bad, {"models/model.safetensors": rewritten(good, change)}))
    assert found.startswith("models/model.safetensors: ")
    assert "UNet of channels [4, 8]" in found
    assert reason in found


def test_bytes_beside_the_tensors_are_refused(good, bad):
    data = good.files["models/model.safetensors"]
    (length,) = struct.unpack_from("<Q", data)
    text, numbers = data[8 : 8 + length], data[8 + length :]
    first = b'{"decoder.stages.0.1.num_batches_tracked":{"dtype":"I64","shape":[9],"data_offsets":[0,8]},'
    for content, reason in (
        (
            data + b"evil",
            f"{len(data) + 4} bytes, where the trained segmentation UNet of channels [4, 8] takes {len(data)}",
        ),
        (data[:-1], f"{len(data) - 1} bytes, where"),
        (header(text + b" " * 8, numbers), "not written as `package` writes it"),
        (header(first + text[1:], numbers), "not written as `package` writes it"),
    ):
        assert reason in reasons(good.changed(bad, {"models/model.safetensors": content}))


def test_tensors_of_another_network_are_refused(good, bad):
    def found(change):
        state = load(good.files["models/model.safetensors"])
        change(state)
        return reasons(good.changed(bad, {"models/model.safetensors": save(state)}))

    assert "['evil'] beside them" in found(lambda state: state.update(evil=torch.zeros(1)))
    assert "['head.bias'] missing" in found(lambda state: state.pop("head.bias"))
    assert '"shape": [3]' in found(lambda state: state.update({"head.bias": torch.zeros(3)}))
    assert "its header is not that of" in found(lambda state: state.update({"head.bias": torch.zeros(2).half()}))
    assert "of at most 4096 channels" in found(
        lambda state: state.update({"encoder.stages.0.0.weight": torch.zeros(5000, 1, 3, 3)})
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        (edit("sha256", value="0" * 64), '"sha256": "000'),
        (edit("architecture", "channels", value=[4, 16]), '"channels": [4, 16]'),
        (edit("architecture", "command", value="x"), '"command": "x"'),
        (edit("parts", value=["encoder"]), "where `package` writes '\"decoder\"'"),
        (
            edit("image_size", value=[32, 32]),
            """'"image_size": [32, 32]', where `package` writes '"image_size": [64, 64]'""",
        ),
        (edit("image_size", value="$1"), '"image_size": "$1"'),
        (edit("origin", value="us"), "docs/MODEL_CARD.md: line"),
        (edit("$evil", value="<script>"), "docs/MODEL_CARD.md: line"),
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


@pytest.mark.parametrize(
    "old, new", [(b"# Coronary", b"# <b>Coronary"), (b"null is unknown", b"[all](http://evil.example)")]
)
def test_card_with_other_markup_is_refused(good, bad, old, new):
    content = good.files["docs/MODEL_CARD.md"].replace(old, new, 1)
    assert content != good.files["docs/MODEL_CARD.md"]
    found = reasons(good.changed(bad, {"docs/MODEL_CARD.md": content}))
    assert found.startswith("docs/MODEL_CARD.md: line")
    assert new.decode() in found


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
        edit("runtime", "evil", value="x"),
        edit("runtime", "python", value="x" * 101),
        edit("origin", value=["synthetic"]),
        lambda record: record.pop("runtime"),
    ],
)
def test_record_of_the_test_that_says_something_else_is_refused(good, bad, change):
    record = json.loads(good.files["test/test.json"])
    change(record)
    content = json.dumps(record, indent=4).encode() + b"\n"
    found = reasons(good.changed(bad, {"test/test.json": content}))
    assert "test/test.json: line" in found
    assert "where `package` writes" in found


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
        (png(64, 64) + b"PK", "more in it than the picture"),
        (png(64, 64, (b"tEXt", b"Name\0Doe")), "more in it than the picture"),
        (png(64, 64, (b"IHDR", bytes(13))), "or with several"),
        (png(100_000, 100_000), "a picture of 100000 x 100000 pixels"),
        (png(0, 64), "a picture of 0 x 64 pixels"),
        (png(64, 64, *[(b"IDAT", b"")] * 30_000), "more in it than the picture"),
        (png(32, 64), "one format and size"),
        (png(64, 64, (b"zTXt", b"Name\0\0" + zlib.compress(b"Doe"))), "more in it than the picture"),
        (png(64, 64, (b"eXIf", b"II*\0")), "more in it than the picture"),
        (png(64, 64, (b"acTL", bytes(8))), "more in it than the picture"),
        (png(64, 64, (b"evIl", b"x")), "more in it than the picture"),
    ],
)
def test_frame_that_is_no_plain_picture_is_refused(good, bad, content, reason):
    assert reason in reasons(good.changed(bad, {"test/frame.png": content}))


def test_frame_that_is_there_twice_is_refused(good, bad):
    changes = {"test/frame.nii": good.files["test/frame.png"]}
    found = reasons(good.changed(bad, changes))
    assert "test/mask.nii: missing" in found
    assert "test/frame.png: not of this release" in found


def test_wheel_in_which_no_difference_is_found_is_refused_all_the_same(good, bad, monkeypatch):
    """Should a later change forget a check, nothing comes through by it."""
    monkeypatch.setattr("cmunet_monai.handover.verify.check_wheel", lambda *arguments, **options: iter(()))
    changes = {WHEEL: rewheel(good, {"cmunet_monai/evil.py": b"x"})}
    assert f"{WHEEL}: not that of this release" in reasons(good.changed(bad, changes))


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
