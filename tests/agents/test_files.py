"""Files: whole or not at all, and refused by the reason where damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.files import (
    FileWriteError,
    PolicyFileError,
    kind_of,
    load_tensors,
    load_text,
    remove_leftovers,
    save_tensors,
    temporary_folder,
    unwritable,
    write_atomically,
    write_together,
)

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4).t(),  # not contiguous
    "bytes": torch.arange(5, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "none": torch.zeros(0, 3),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "words": torch.tensor([-(2**62), 2**62]),
    "turning": torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex128),
    "waves": torch.tensor([1 + 2j], dtype=torch.complex64),
}
TENSORS |= {"tied": TENSORS["words"], "part": TENSORS["bytes"][2:], "conj": TENSORS["waves"].conj()}
TEXT = {"note": '{"a": "é"}'}


def saved(path: Path) -> Path:
    save_tensors(path, TENSORS, TEXT, "thing", 3)
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors, text = load_tensors(saved(tmp_path / "new" / "x.safetensors"), "thing", 3)
    assert tensors.keys() == TENSORS.keys()
    for name, x in TENSORS.items():
        assert tensors[name].dtype == x.dtype
        assert torch.equal(tensors[name], x)
    assert text["note"] == TEXT["note"]


def test_any_reader_of_safetensors_opens_it(tmp_path: Path) -> None:
    assert load_file(saved(tmp_path / "x")).keys() == TENSORS.keys()


def test_a_file_cut_short_anywhere_is_refused_as_truncated(tmp_path: Path) -> None:
    path = saved(tmp_path / "x")
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 50, *range(100, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(PolicyFileError, match="is truncated"):
            load_tensors(path, "thing", 3)


def test_a_change_of_any_byte_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x")
    whole = path.read_bytes()
    reasons = set()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with pytest.raises(PolicyFileError) as caught:
            load_tensors(path, "thing", 3)
        reasons.add(str(caught.value).split(" ", 1)[1][:11])
    assert "was altered" in reasons


def test_a_newer_format_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"format version 3; .* up to 2\. Install a newer"):
        load_tensors(saved(tmp_path / "x"), "thing", 2)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="is not a policy file: it is of kind 'thing'"):
        load_tensors(saved(tmp_path / "x"), "policy", 3)


@pytest.mark.parametrize("data", [b"PK\x03\x04 a zip file", b"\x80\x04 another format", b"x" * 99])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(PolicyFileError, match="is not a safetensors file"):
        load_tensors(path, "thing", 3)


def test_a_missing_file_is_refused_with_its_neighbours(tmp_path: Path) -> None:
    saved(tmp_path / "policy.safetensors")
    with pytest.raises(PolicyFileError, match=r"no file .*; beside it lie policy\.safetensors"):
        load_tensors(tmp_path / "polcy.safetensors", "thing", 3)


def test_a_missing_run_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    for run in "first", "second":
        (tmp_path / run).mkdir()
        saved(tmp_path / run / "policy.safetensors")
    with pytest.raises(PolicyFileError, match=r"no file .*; beside it lie first, second"):
        load_tensors(tmp_path / "third", "thing", 3)


def test_the_text_is_read_alone_and_refused_as_with_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x")
    _, text = load_tensors(path, "thing", 3)
    monkeypatch.setattr("recurrent_rl.agents.files.load", lambda _: pytest.fail("read"))
    assert load_text(path, "thing", 3) == text
    whole = path.read_bytes()
    for arguments, message in (
        ((path, "policy", 3), "is not a policy file"),
        ((path, "thing", 2), "Install a newer"),
        ((tmp_path / "none", "thing", 3), "There is no file"),
        ((tmp_path, "thing", 3), "cannot be read"),
    ):
        with pytest.raises(PolicyFileError, match=message):
            load_text(*arguments)
    for data, message in (
        (whole[:-1], "is truncated"),
        (whole[:20], "is truncated"),
        (b"", "is truncated"),
        (b"x" * 99, "is not a safetensors file"),
        (b"\xff" * 8 + whole[8:], "is not a safetensors file"),
    ):
        path.write_bytes(data)
        with pytest.raises(PolicyFileError, match=message):
            load_text(path, "thing", 3)


def failing(error: OSError) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(f"os.{call}", failing(full))
    match = r"x cannot be written: No space .*Make room.* held before is untouched"
    with pytest.raises(FileWriteError, match=match):
        write_atomically(path, b"new")
    with pytest.raises(FileWriteError, match=r"another folder\.$"):
        write_atomically(tmp_path / "new" / "folder" / "x", b"new")
    assert path.read_bytes() == b"old"
    assert [x.name for x in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_of_files_written_together_none_is_where_one_cannot_be(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "x", tmp_path / "y"
    write_together({first: b"old", second: b"old"})
    if call == "fsync":
        flush, flushed = os.fsync, []

        def full(file: int) -> None:
            flushed.append(file)
            flush(file)
            if len(flushed) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
    else:
        second = tmp_path  # a folder where a file is to be
    with pytest.raises(FileWriteError, match=f"{second.name} cannot be written"):
        write_together({first: b"new", second: b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "x": b"old",
        "y": b"old",
    }


def test_a_file_that_cannot_be_made_in_a_folder_that_is_there_is_told_so(tmp_path: Path) -> None:
    missing = OSError(errno.ENOENT, "No such file or directory")
    assert "is a folder that you may write to" in str(unwritable(tmp_path / "x", missing))
    assert "was moved or deleted" in str(unwritable(tmp_path / "gone" / "x", missing))


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for mode in (0o600, 0o664):
        write_atomically(path, b"old")
        path.chmod(mode)
        write_atomically(path, b"new")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    for name in ("x" * 255, "\U0001f600" * 63):
        write_atomically(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    with pytest.raises(FileWriteError, match=r"File name too long\. Give a shorter name, or"):
        write_atomically(tmp_path / ("x" * 256), b"new")


def test_a_file_that_is_none_of_ours_has_no_kind(tmp_path: Path) -> None:
    assert kind_of(saved(tmp_path / "x")) == "thing"
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    (tmp_path / "text").write_text("words")
    for name in ("other", "text", "none", "."):
        assert kind_of(tmp_path / name) is None


def test_a_write_beyond_the_limit_of_the_system_is_refused_and_leaves_the_old_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    code = """
import resource, sys
from recurrent_rl.agents.files import FileWriteError, write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(sys.argv[1], bytes(5000))
except FileWriteError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "File too large. Make room" in ended.stdout
    assert path.read_bytes() == b"old"
    assert [x.name for x in tmp_path.iterdir()] == ["x"]


def test_a_write_into_no_folder_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileWriteError, match=r"See that .*file is a folder that you may write to"):
        write_atomically(tmp_path / "file" / "x", b"new")
    with pytest.raises(FileWriteError, match="cannot be written"):
        write_atomically(tmp_path, b"new")  # a folder where a file is to be
    assert [x.name for x in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_vanishes_during_the_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(FileWriteError, match="No such file or directory"):
        write_atomically(tmp_path / "run" / "x", b"new")


def test_what_a_killed_save_leaves_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    write_atomically(path, b"old")
    code = """
import os, signal, sys
from recurrent_rl.agents.files import write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], b"new")
"""
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (leftover,) = set(tmp_path.iterdir()) - {path}
    kept = [path, tmp_path / ".lock", tmp_path / ".notes.saving", tmp_path / "x.abcdefgh.saving"]
    for other in kept[1:]:
        other.touch()
    remove_leftovers(tmp_path)
    assert not leftover.exists()
    assert sorted(tmp_path.iterdir()) == sorted(kept)


# ------------------------------------------------------------------------------- forged headers


def with_header(path: Path, header: str, content: bytes = b"") -> Path:
    encoded = header.encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, -4]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, "4"]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, null]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0, NaN]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": [0]}',
        '{"dtype": "F32", "shape": [1], "data_offsets": {}}',
        '{"dtype": "F32", "shape": [1], "data_offsets": 4}',
        '{"dtype": "F32", "shape": [4611686018427387904, 16], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [0, 9223372036854775808], "data_offsets": [0, 0]}',
        '{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}',
        '{"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}',
        '{"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}',
        '{"dtype": "object", "shape": [1], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}',
        '{"dtype": "F32"}',
        "[]",
        "7",
        "null",
    ],
)
def test_a_header_with_a_forged_entry_is_refused(tmp_path: Path, entry: str) -> None:
    text = '"__metadata__": {"kind": "thing", "format_version": "1", "sha256": "0"}'
    for header in (f'{{{text}, "x": {entry}}}', f'{{"x": {entry}, "x": {entry}, {text}}}'):
        path = with_header(tmp_path / "x", header, bytes(4))
        with pytest.raises(PolicyFileError, match=r"was altered|is truncated"):
            load_tensors(path, "thing", 1)


@pytest.mark.parametrize(
    "header",
    [
        "{" + '"a":[' * 50_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"__metadata__": []}',
        '{"__metadata__": 7}',
        '{"__metadata__": {"kind": 7}}',
        '{"__metadata__": {"kind": null}}',
        "{",
        "{}" * 2,
        '{"a": 1' + "0" * 5000 + "}",
        "{\ud800}".encode("utf-8", "replace").decode(),
    ],
    ids=range(10),
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(PolicyFileError, match="was altered"):
        load_tensors(with_header(tmp_path / "x", header), "thing", 1)


def test_a_header_of_a_hundred_thousand_tensors_is_refused_at_once(tmp_path: Path) -> None:
    entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    entries = ",".join(f'"{i}":{entry}' for i in range(100_001))
    path = with_header(tmp_path / "x", f'{{"__metadata__":{{"kind":"thing"}},{entries}}}')
    with pytest.raises(PolicyFileError, match="holds 100,001 tensors, more than any file"):
        load_tensors(path, "thing", 1)


@pytest.mark.parametrize("version", ["", "0", "-1", "1.5", "one", "\u0663", "9" * 5000])
def test_a_format_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    text = {"kind": "thing", "format_version": version}
    header = json.dumps({"__metadata__": text})
    with pytest.raises(PolicyFileError, match=r"its format version is .*, which is none"):
        load_tensors(with_header(tmp_path / "x", header), "thing", 1)


def test_a_kind_of_any_length_is_told_in_one_line(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"kind": "\n" * 10_000}})
    with pytest.raises(PolicyFileError) as caught:
        load_tensors(with_header(tmp_path / "x", header), "thing", 1)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(PolicyFileError, match="cannot be read: embedded null byte"):
        load_tensors("a\0b", "thing", 1)


def test_where_no_temporary_folder_can_be_made_the_fix_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(UserError, match=r"No usable temporary directory .* TMPDIR"):
        temporary_folder()
