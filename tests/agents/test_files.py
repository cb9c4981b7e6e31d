"""Files: whole or not at all, and refused by the reason where damaged."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recurrent_rl.agents.files import (
    PolicyFileError,
    load_tensors,
    save_tensors,
    write_atomically,
)

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4).t(),  # not contiguous
    "bytes": torch.arange(5, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "none": torch.zeros(0, 3),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "words": torch.tensor([-(2**62), 2**62]),
}
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


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [x.name for x in tmp_path.iterdir()] == ["x"]
