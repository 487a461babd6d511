"""The runtime's profile of a file, read through its C library. Use it in a child process.

The Python API has no profile. The library in the wheel does: a model compiled with
`enable_profiling` records an event for each operation, and for each kernel that a delegate ran
instead. The structs differ between versions of the library, so only known ones are allowed.
"""

import ctypes
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.errors import ArtifactError, OptionError
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.registry import check_inputs, noise, shape_of
from tfprune.runtime.stored_numbers import quantize, specs

VERSIONS = ("2.1.", "2.2.", "2.3.")
"""Prefixes of the versions of ai-edge-litert whose C interface is known."""

# Since these versions, options are text, and a model is loaded for an environment.
_OPTIONS_AS_TEXT = (2, 1, 3)
_MODEL_OF_ENVIRONMENT = (2, 1, 6)

_CPU = 1
_WRITE = 1
# Kinds of events: an operation of the file, and a kernel of a delegate that replaces several.
_SIDES = {1 << 1: "op", 1 << 2: "kernel", 1 << 3: "kernel"}


def _event_type(memory_words: int) -> type[ctypes.Structure]:
    """Return the layout of an event, given how many 64-bit numbers its memory usage has."""

    class Event(ctypes.Structure):
        _fields_ = (
            ("tag", ctypes.c_void_p),
            ("kind", ctypes.c_int),
            ("start_us", ctypes.c_uint64),
            ("elapsed_us", ctypes.c_uint64),
            ("before", ctypes.c_uint64 * memory_words),
            ("after", ctypes.c_uint64 * memory_words),
            ("node", ctypes.c_uint64),
            ("more", ctypes.c_uint64),
            ("source", ctypes.c_int),
        )

    return Event


# The header and the library disagree on the size, so the returned data decides.
_EVENT_TYPES = tuple(_event_type(words) for words in (3, 4, 2))
EVENT_BYTES = max(map(ctypes.sizeof, _EVENT_TYPES))
"""Memory for one event, in whatever layout."""
_KINDS = frozenset(1 << place for place in range(9))


def _read_events(raw: ctypes.Array[Any], count: int) -> list[tuple[int, str, float]]:
    """Return kind, name and microseconds of the events in a block of memory.

    Raises:
        ArtifactError: Their layout is unknown.
    """
    for kind in _EVENT_TYPES:
        events = (kind * count).from_buffer(raw)
        if all(
            event.tag and event.kind in _KINDS and event.source in (0, 1, 2) for event in events
        ):
            return [
                (event.kind, ctypes.string_at(event.tag).decode("utf-8", "replace"),
                 float(event.elapsed_us))
                for event in events
            ]  # fmt: skip
    raise ArtifactError("the runtime's profile has an unknown layout")


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


def check_version() -> str:
    """Return the version of the runtime.

    Raises:
        OptionError: Its profile cannot be read.
    """
    version = importlib.metadata.version("ai-edge-litert")
    if not version.startswith(VERSIONS):
        raise OptionError(
            f"profile: ai-edge-litert {version} is not supported; supported versions: "
            f"{', '.join(f'{known}x' for known in VERSIONS)}. Install one of them"
        )
    return version


class ProfiledModel:
    """A file compiled with its profiler on; sizes other than the batch may need shapes.

    Raises:
        ArtifactError: The runtime cannot load it.
        OptionError: The version is not supported, or a shape is missing.
    """

    def __init__(self, path: str, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        version = tuple(map(int, re.findall(r"\d+", check_version())[:3]))
        self._library = _library()
        self._inputs, outputs = specs(flatbuffer.parse(Path(path).read_bytes(), path))
        check_inputs(shapes, self._inputs)
        environment, model, options = (ctypes.c_void_p() for _ in range(3))
        self._compiled = ctypes.c_void_p()
        self._profiler = ctypes.c_void_p()
        self._call("CreateEnvironment", 0, None, ctypes.byref(environment))
        owner = [environment] if version >= _MODEL_OF_ENVIRONMENT else []
        self._call("CreateModelFromFile", *owner, path.encode(), ctypes.byref(model))
        self._call("CreateOptions", ctypes.byref(options))
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        if version >= _OPTIONS_AS_TEXT:
            self._text(options, b"runtime_options_string", b"enable_profiling = true\n")
            self._text(options, b"xnnpack", f"num_threads = {threads}\n".encode())
        else:
            self._option(options, "Runtime", "EnableProfiling", ctypes.c_bool(True))
            self._option(options, "Cpu", "NumThread", ctypes.c_int(threads))
        self._call("CreateCompiledModel", environment, model, options, ctypes.byref(self._compiled))
        self._call("CompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        signature = ctypes.c_void_p()
        self._call("GetModelSignature", model, ctypes.c_size_t(0), ctypes.byref(signature))
        self._takes = self._buffers(environment, signature, "Input", len(self._inputs), shapes)
        self._gives = self._buffers(environment, signature, "Output", len(outputs), {})

    def run(self, times: int) -> Iterator[list[tuple[str, str, float]]]:
        """Run on noise and yield, for each run, its events: "op" or "kernel", name, microseconds.

        Args:
            times: Number of runs, after one for warm-up.
        """
        self._run()
        for _ in range(times):
            self._call("ResetProfiler", self._profiler)
            self._call("StartProfiler", self._profiler)
            self._run()
            self._call("StopProfiler", self._profiler)
            yield self._events()

    def _run(self) -> None:
        self._call(
            "RunCompiledModel",
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self._takes)),
            self._takes,
            ctypes.c_size_t(len(self._gives)),
            self._gives,
        )

    def _events(self) -> list[tuple[str, str, float]]:
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        if count.value < 1:
            return []
        raw = (ctypes.c_char * (EVENT_BYTES * count.value))()
        self._call("GetProfilerEvents", self._profiler, count, raw)
        return [
            (_SIDES[kind], name, time_us)
            for kind, name, time_us in _read_events(raw, count.value)
            if kind in _SIDES
        ]

    def _buffers(
        self,
        environment: ctypes.c_void_p,
        signature: ctypes.c_void_p,
        side: str,
        count: int,
        shapes: Mapping[str, Sequence[int]],
    ) -> Any:
        random = np.random.default_rng(0)
        buffers = (ctypes.c_void_p * count)()
        types = [_TensorType() for _ in range(count)]
        for i, kind in enumerate(types):
            place, tensor = ctypes.c_size_t(i), ctypes.c_void_p()
            self._call(f"GetSignature{side}TensorByIndex", signature, place, ctypes.byref(tensor))
            self._call("GetRankedTensorType", tensor, ctypes.byref(kind))
            if side == "Input":
                self._resize(signature, i, kind, shapes)
        if side == "Output":
            layouts = (_Layout * count)()
            self._call(
                "GetCompiledModelOutputTensorLayouts", self._compiled, ctypes.c_size_t(0),
                ctypes.c_size_t(count), layouts, ctypes.c_bool(True),
            )  # fmt: skip
            for kind, layout in zip(types, layouts, strict=True):
                kind.layout = layout
        for i, kind in enumerate(types):
            place, needs, buffer = ctypes.c_size_t(i), ctypes.c_void_p(), ctypes.c_void_p()
            self._call(
                f"GetCompiledModel{side}BufferRequirements", self._compiled, ctypes.c_size_t(0),
                place, ctypes.byref(needs),
            )  # fmt: skip
            self._call(
                "CreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind),
                needs, ctypes.byref(buffer),
            )  # fmt: skip
            if side == "Input":
                shape = tuple(kind.layout.dimensions[: kind.layout.rank & 0x7F])
                self._fill(buffer, self._spec(signature, i), shape, random)
            buffers[i] = buffer
        return buffers

    def _resize(
        self, signature: ctypes.c_void_p, index: int, kind: _TensorType, shapes: Mapping[str, Any]
    ) -> None:
        spec = self._spec(signature, index)
        wanted = shape_of(spec, shapes)
        if -1 in spec.shape:
            sides = (ctypes.c_int * len(wanted))(*wanted)
            self._call(
                "CompiledModelResizeInputTensor", self._compiled, ctypes.c_size_t(0),
                ctypes.c_size_t(index), sides, ctypes.c_size_t(len(wanted)),
            )  # fmt: skip
        kind.layout.dimensions[: len(wanted)] = wanted

    def _spec(self, signature: ctypes.c_void_p, index: int) -> TensorSpec:
        name = ctypes.c_char_p()
        self._call("GetSignatureInputName", signature, ctypes.c_size_t(index), ctypes.byref(name))
        text = (name.value or b"").decode()
        return next((s for s in self._inputs if s.name == text), self._inputs[index])

    def _fill(
        self,
        buffer: ctypes.c_void_p,
        spec: TensorSpec,
        shape: tuple[int, ...],
        random: np.random.Generator,
    ) -> None:
        content = quantize(noise(spec, shape, random), spec).tobytes()
        address = ctypes.c_void_p()
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
        ctypes.memmove(address, content, len(content))
        self._call("UnlockTensorBuffer", buffer)

    def _option(self, options: ctypes.c_void_p, group: str, name: str, value: Any) -> None:
        made, found = ctypes.c_void_p(), ctypes.c_void_p()
        self._call(f"Create{group}Options", ctypes.byref(made))
        self._call(f"Find{group}Options", made, ctypes.byref(found))
        self._call(f"Set{group}Options{name}", found, value)
        self._call("AddOpaqueOptions", options, made)

    def _text(self, options: ctypes.c_void_p, name: bytes, text: bytes) -> None:
        c = ctypes.CDLL(None)
        c.strdup.restype = ctypes.c_void_p
        made = ctypes.c_void_p()
        # The library frees the text, so it must be allocated by C.
        self._call("CreateOpaqueOptions", name, ctypes.c_void_p(c.strdup(text)), c.free,
                   ctypes.byref(made))  # fmt: skip
        self._call("AddOpaqueOptions", options, made)

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self._library, f"LiteRt{name}")
        status = function(*arguments)
        if status:
            raise ArtifactError(f"LiteRt{name} failed with status {status}")


def _library() -> ctypes.CDLL:
    found = importlib.util.find_spec("ai_edge_litert")
    if found is None or not found.submodule_search_locations:
        raise OptionError("profile: ai-edge-litert is not installed")
    path = Path(found.submodule_search_locations[0], "libLiteRt.so")
    if not path.exists():
        raise OptionError(f"profile: {path} is missing: this wheel does not include the library")
    return ctypes.CDLL(str(path))
