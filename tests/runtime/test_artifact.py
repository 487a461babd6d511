"""An artifact: what is written, and what comes back."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest

from tfprune.runtime.artifact import (
    Artifact,
    ConversionReport,
    Parity,
    TensorSpec,
    gzip_bytes,
    sha256,
)

_REPORT = ConversionReport(
    scheme="int8",
    io="int8",
    versions={"tfprune": "0.1.0"},
    sha256=sha256(b"abc"),
    raw_bytes=3,
    gzip_bytes=gzip_bytes(b"abc"),
    ops={"CONV_2D": 2},
    inputs=(TensorSpec("image", (-1, 8, 8, 1), "int8", 0.5, -3),),
    outputs=(TensorSpec("logits", (-1, 10), "int8", 0.25, 0),),
    parity=(Parity("logits", 8, "random", 0.1, 0.01, 1.0, 0.999, 1.0, 0.25),),
    notes=("batch 1",),
)


def test_a_report_is_equal_after_json() -> None:
    assert ConversionReport.from_dict(json.loads(_REPORT.to_json())) == _REPORT


def test_the_text_has_size_operations_and_agreement() -> None:
    assert str(Artifact(b"abc", None, _REPORT)).splitlines() == [
        f"not written: int8: 3 bytes, {gzip_bytes(b'abc')} under gzip",
        "input   image: int8 ?×8×8×1, scale 0.5, zero point -3",
        "output  logits: int8 ?×10, scale 0.25, zero point 0",
        "parity  logits: error 0.01 (root mean square; allowed 0.25), at most 0.1, standard "
        "deviation 1; correlation 0.99900, agreement 100.0%, on 8 random samples",
        "ops     CONV_2D 2",
        "note    batch 1",
    ]
    assert str(Artifact(b"abc", Path("m.tflite"), _REPORT)).startswith("m.tflite: int8: 3 bytes")


def test_save_writes_the_file_and_its_report_beside_it(tmp_path) -> None:
    saved = Artifact(b"abc", None, _REPORT).save(tmp_path / "deep" / "model.tflite")

    assert saved.path == tmp_path / "deep" / "model.tflite"
    assert saved.path.read_bytes() == b"abc"
    assert json.loads((tmp_path / "deep" / "model.json").read_text())["sha256"] == sha256(b"abc")
    assert sorted(p.name for p in saved.path.parent.iterdir()) == ["model.json", "model.tflite"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_with_its_report(
    tmp_path, monkeypatch
) -> None:
    target = tmp_path / "model.tflite"
    Artifact(b"old", None, _REPORT).save(target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    other = dataclasses.replace(_REPORT, scheme="float32")
    with pytest.raises(OSError, match="No space left on device: .*model.tflite"):
        Artifact(b"new", None, other).save(target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_gzip_bytes_counts_what_gzip_would_write() -> None:
    assert gzip_bytes(b"\0" * 100_000) < 200
    assert gzip_bytes(b"") == 20  # 10 bytes of header, an empty block of 2, 8 of trailer
