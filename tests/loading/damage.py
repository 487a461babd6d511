"""Damaged copies of model files, the same ones on every run."""

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py


def rewrite_archive(path: Path, version: str, change: Callable[[str], str]) -> None:
    """Write a `.keras` file again with another version and config."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = change(content["config.json"].decode()).encode()
    about = json.loads(content["metadata.json"])
    content["metadata.json"] = json.dumps({**about, "keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def mutated(content: bytes, numbers: random.Random) -> bytes:
    """Return a file with some bytes changed, a part cut out, doubled, or cut off."""
    data = bytearray(content)
    kind = numbers.randrange(4)
    if kind == 0:
        for _ in range(numbers.choice([1, 1, 4, 64])):
            data[numbers.randrange(len(data))] = numbers.randrange(256)
        return bytes(data)
    start = numbers.randrange(len(data))
    length = numbers.choice([1, 8, 512])
    if kind == 1:
        del data[start : start + length]
    elif kind == 2:
        data[start:start] = data[start : start + length]
    else:
        del data[start:]
    return bytes(data)


def mutated_config(text: str, numbers: random.Random) -> str:
    """Return JSON with one of its numbers, words or punctuation marks changed."""
    where = numbers.randrange(len(text))
    return text[:where] + numbers.choice('0-9{}[]",:aZnull') + text[where + 1 :]


def damaged_models(sources: list[Path], count: int, folder: Path) -> Iterator[Path]:
    """Give the paths of damaged copies, one after the other: by bytes, and by config."""
    numbers = random.Random(7)
    for number in range(count):
        source = sources[number // 2 % len(sources)]
        path = folder / f"{number}{source.suffix}"
        if number % 2:
            path.write_bytes(mutated(source.read_bytes(), numbers))
        elif source.suffix == ".keras":
            shutil.copy(source, path)
            with zipfile.ZipFile(source) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
            rewrite_archive(path, version, lambda text: mutated_config(text, numbers))
        else:
            shutil.copy(source, path)
            with h5py.File(path, "r+") as file:
                text = file.attrs["model_config"]
                text = text.decode() if isinstance(text, bytes) else text
                file.attrs["model_config"] = mutated_config(text, numbers)
        yield path
        os.unlink(path)
