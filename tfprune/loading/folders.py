"""SavedModel folders of Keras 2: reading their config and weights.

The graph in such a folder is code, and restoring it would run it. The model is rebuilt from config
and weights alone.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError
from tfprune.utils.extras import require

_AGAIN = "Copy or save the model again."
_MODELS = ("_tf_keras_model", "_tf_keras_network", "_tf_keras_sequential")
_METADATA = "keras_metadata.pb"


def check_model_folder(path: Path) -> None:
    """Raise unless a folder is a SavedModel with a Keras model in it."""
    if not (path / "saved_model.pb").is_file():
        raise ArtifactError(
            f"{path}: a folder without saved_model.pb. Give a .keras or .h5 file, or the folder of "
            "a SavedModel."
        )
    if not (path / _METADATA).is_file():
        read_config(path)


def read_config(path: Path) -> Any:
    """Return the config of the model in a SavedModel folder.

    Before TensorFlow 2.5 it was in saved_model.pb, since then it is in a separate file.

    Raises:
        ArtifactError: A file is damaged, or there is no Keras model with a config.
    """
    kinds = _kinds(path)
    found = _metadata(path) if (path / _METADATA).is_file() else kinds
    if not found:
        raise ArtifactError(
            f"{path}: a SavedModel without Keras layers (written by model.export or "
            "tf.saved_model.save), which has a graph but no layers. Save the model itself "
            "as .keras."
        )
    kind, text = found.get(0, ("", ""))
    if kind not in _MODELS:
        raise ArtifactError(
            f"{path}: a SavedModel with Keras layers, but not of a Keras model (its root is "
            f"{kind or 'no Keras object'}): written by tf.saved_model.save. Save the model itself "
            "as .keras."
        )
    if not text:
        raise ArtifactError(
            f"{path}: a SavedModel of a Keras model without its config: written by "
            "tf.saved_model.save. Save it by model.save, as .keras."
        )
    about = _json(path, text)
    config = about.get("model_config") or {key: about.get(key) for key in ("class_name", "config")}
    if not isinstance(config, dict) or not _is_graph(config.get("config")):
        raise ArtifactError(
            f"{path}: the model is subclassed ({about.get('class_name')}): its layers are "
            "connected by Python code that is not in the folder. Rebuild it as a functional model, "
            "and save it as .keras."
        )
    return config


def load_weights_into(model: Any, path: Path) -> None:
    """Load the weights of a SavedModel folder into a model; read nothing else.

    Raises:
        ArtifactError: A weight of the model is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = model.load_weights(str(path / "variables" / "variables"))
    try:
        status.assert_existing_objects_matched().expect_partial()
    except AssertionError as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path}: weights of the model are missing: {reason}") from None


def _is_graph(config: Any) -> bool:
    return isinstance(config, list) or (isinstance(config, dict) and "layers" in config)


def _kinds(path: Path) -> dict[int, tuple[str, str]]:
    """Return the Keras objects listed in saved_model.pb, with their metadata."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ArtifactError(f"{path}: saved_model.pb is damaged: {error}. {_AGAIN}") from None
    if not saved.meta_graphs:
        raise ArtifactError(f"{path}: saved_model.pb contains no graph. {_AGAIN}")
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    return {
        number: (node.user_object.identifier, node.user_object.metadata)
        for number, node in enumerate(nodes)
        if node.user_object.identifier.startswith("_tf_keras_")
    }


def _metadata(path: Path) -> dict[int, tuple[str, str]]:
    require(f"{path}: a SavedModel of Keras 2", "tf-keras", "tf_keras")
    from google.protobuf.message import DecodeError
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = saved_metadata_pb2.SavedMetadata()
    try:
        metadata.ParseFromString((path / _METADATA).read_bytes())
    except DecodeError as error:
        raise ArtifactError(f"{path}: {_METADATA} is damaged: {error}. {_AGAIN}") from None
    return {node.node_id: (node.identifier, node.metadata) for node in metadata.nodes}


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: its metadata is damaged: {error}. {_AGAIN}") from None
    if not isinstance(about, dict):
        raise ArtifactError(f"{path}: its metadata is damaged: not an object. {_AGAIN}")
    return about
