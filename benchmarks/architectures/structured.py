"""Networks for tables, recommendations and graphs."""

import keras
import numpy as np
from keras import layers, ops

from architectures.registry import Floats, Whole, architecture

NUMBERS = ("age", "hours", "gain", "loss")
CATEGORIES = {"education": 8, "job": 12}
TABLE = {name: Floats((1,)) for name in NUMBERS} | {
    name: Whole((1,), size) for name, size in CATEGORIES.items()
}


def _table_inputs():
    inputs = {name: keras.Input((1,), name=name) for name in NUMBERS}
    for name in CATEGORIES:
        inputs[name] = keras.Input((1,), name=name, dtype="int32")
    return inputs


def _encoded(inputs, use_embedding):
    """Return one tensor of all features: numbers, and embedded or one-hot categories."""
    parts = []
    for name, value in inputs.items():
        if name not in CATEGORIES:
            parts.append(value)
        elif use_embedding:
            parts.append(ops.squeeze(layers.Embedding(CATEGORIES[name], 4)(value), axis=1))
        else:
            encoding = layers.CategoryEncoding(num_tokens=CATEGORIES[name], output_mode="one_hot")
            parts.append(encoding(value))
    return layers.concatenate(parts)


@architecture("wide and deep", TABLE)
def wide_and_deep():
    inputs = _table_inputs()
    wide = layers.BatchNormalization()(_encoded(inputs, use_embedding=False))
    deep = _encoded(inputs, use_embedding=True)
    for units in (32, 32):
        deep = layers.BatchNormalization()(layers.Dense(units)(deep))
        deep = layers.Dropout(0.1)(layers.ReLU()(deep))
    merged = layers.concatenate([wide, deep])
    return keras.Model(inputs, layers.Dense(units=7, activation="softmax")(merged))


@architecture("deep and cross", TABLE)
def deep_and_cross():
    inputs = _table_inputs()
    x0 = _encoded(inputs, use_embedding=True)
    cross = x0
    for _ in (32, 32):
        units = cross.shape[-1]
        x = layers.Dense(units)(cross)
        cross = x0 * x + cross
    cross = layers.BatchNormalization()(cross)
    deep = x0
    for units in (32, 32):
        deep = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(deep)))
        deep = layers.Dropout(0.1)(deep)
    merged = layers.concatenate([cross, deep])
    return keras.Model(inputs, layers.Dense(units=7, activation="softmax")(merged))


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate):
        super().__init__()
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate):
        super().__init__()
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = ops.expand_dims(self.softmax(self.grn_concat(v)), axis=-1)
        x = [grn(value) for grn, value in zip(self.grns, inputs, strict=True)]
        x = ops.stack(x, axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


@architecture("gated residual and variable selection", TABLE)
def variable_selection():
    inputs = _table_inputs()
    features = [
        layers.Embedding(CATEGORIES[name], 16)(value)[:, 0]
        if name in CATEGORIES
        else layers.Dense(16)(value)
        for name, value in inputs.items()
    ]
    x = VariableSelection(len(features), 16, 0.15)(features)
    return keras.Model(inputs, layers.Dense(units=1, activation="sigmoid")(x))


@architecture("TabTransformer", TABLE)
def tab_transformer():
    inputs = _table_inputs()
    columns = [layers.Embedding(CATEGORIES[name], 16)(inputs[name]) for name in CATEGORIES]
    x = layers.Concatenate(axis=1)(columns)
    x = x + layers.Embedding(len(CATEGORIES), 16)(ops.arange(0, len(CATEGORIES), 1))
    for _ in range(2):
        attended = layers.MultiHeadAttention(num_heads=4, key_dim=16, dropout=0.1)(x, x)
        y = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([attended, x]))
        z = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(y))
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([layers.Dropout(0.1)(z), y]))
    categories = layers.Flatten()(x)
    numbers = layers.LayerNormalization(epsilon=1e-6)(
        layers.concatenate([inputs[name] for name in NUMBERS])
    )
    x = layers.concatenate([categories, numbers])
    for units in (32, 16):
        x = layers.Dense(units, activation=keras.activations.selu)(layers.BatchNormalization()(x))
        x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(units=1, activation="sigmoid")(x))


class NeuralDecisionTree(keras.Model):
    def __init__(self, depth, num_features, used_features_rate, num_classes, seed):
        super().__init__()
        self.depth = depth
        self.num_leaves = 2**depth
        self.num_classes = num_classes
        used = int(num_features * used_features_rate)
        one_hot = np.eye(num_features, dtype="float32")
        chosen = np.random.default_rng(seed).choice(num_features, used, replace=False)
        self.used_features_mask = ops.convert_to_tensor(one_hot[chosen])
        self.pi = self.add_weight(
            initializer="random_normal",
            shape=[self.num_leaves, self.num_classes],
            dtype="float32",
            trainable=True,
        )
        self.decision_fn = layers.Dense(
            units=self.num_leaves, activation="sigmoid", name="decision"
        )

    def call(self, features):
        batch_size = ops.shape(features)[0]
        features = ops.matmul(features, ops.transpose(self.used_features_mask))
        decisions = ops.expand_dims(self.decision_fn(features), axis=2)
        decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones([batch_size, 1, 1])
        begin, end = 1, 2
        for level in range(self.depth):
            mu = ops.reshape(mu, [batch_size, -1, 1])
            mu = ops.tile(mu, (1, 1, 2))
            mu = mu * decisions[:, begin:end, :]
            begin, end = end, end + 2 ** (level + 1)
        mu = ops.reshape(mu, [batch_size, self.num_leaves])
        return ops.matmul(mu, ops.softmax(self.pi))


class NeuralDecisionForest(keras.Model):
    def __init__(self, num_trees, depth, num_features, used_features_rate, num_classes):
        super().__init__()
        self.ensemble = [
            NeuralDecisionTree(depth, num_features, used_features_rate, num_classes, seed)
            for seed in range(num_trees)
        ]
        self.num_classes = num_classes

    def call(self, inputs):
        outputs = ops.zeros([ops.shape(inputs)[0], self.num_classes])
        for tree in self.ensemble:
            outputs += tree(inputs)
        return outputs / len(self.ensemble)


@architecture("neural decision forest", TABLE)
def decision_forest():
    inputs = _table_inputs()
    features = layers.BatchNormalization()(_encoded(inputs, use_embedding=True))
    forest = NeuralDecisionForest(3, 4, features.shape[1], 0.6, 2)
    return keras.Model(inputs, forest(features))


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        options = {
            "embeddings_initializer": "he_normal",
            "embeddings_regularizer": keras.regularizers.l2(1e-6),
        }
        self.user_embedding = layers.Embedding(num_users, embedding_size, **options)
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(num_movies, embedding_size, **options)
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        movie_vector = self.movie_embedding(inputs[:, 1])
        dot = ops.sum(user_vector * movie_vector, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.movie_bias(inputs[:, 1]))


@architecture("recommendations, embeddings and their product", Whole((2,), 20))
def recommender():
    return RecommenderNet(20, 30, 16)


@architecture("recommendations, two towers and Dot", [Whole((1,), 20), Whole((1,), 30)])
def matrix_factors():
    user, movie = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    u = layers.Dense(16, activation="relu")(layers.Flatten()(layers.Embedding(20, 24)(user)))
    m = layers.Dense(16, activation="relu")(layers.Flatten()(layers.Embedding(30, 24)(movie)))
    return keras.Model([user, movie], layers.Dot(axes=1, normalize=True)([u, m]))


@architecture(
    "behavior sequence transformer",
    {"history": Whole((7,), 30), "ratings": Floats((7,)), "target": Whole((1,), 30)},
)
def behavior_sequence():
    history = keras.Input((7,), dtype="int32", name="history")
    ratings = keras.Input((7,), name="ratings")
    target = keras.Input((1,), dtype="int32", name="target")
    embed = layers.Embedding(30, 16, name="movie_embedding")
    positions = layers.Embedding(7, 16)(ops.arange(7))
    x = (embed(history) + positions) * ops.expand_dims(ratings, axis=-1)
    x = layers.Concatenate(axis=1)([x, embed(target)])
    attended = layers.Dropout(0.1)(layers.MultiHeadAttention(num_heads=2, key_dim=16)(x, x))
    x1 = layers.LayerNormalization()(layers.Add()([x, attended]))
    x2 = layers.Dropout(0.1)(layers.Dense(units=16)(layers.LeakyReLU()(x1)))
    x = layers.Flatten()(layers.LayerNormalization()(layers.Add()([x1, x2])))
    for units in (32, 16):
        x = layers.LeakyReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
        x = layers.Dropout(0.1)(x)
    return keras.Model(
        {"history": history, "ratings": ratings, "target": target}, layers.Dense(1)(x)
    )


class GraphAttention(layers.Layer):
    """Attention along the edges of a dense adjacency matrix, by raw weights."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        width = input_shape[0][-1]
        self.kernel = self.add_weight(
            shape=(width, self.units), trainable=True, initializer="glorot_uniform", name="kernel"
        )
        self.kernel_attention = self.add_weight(
            shape=(self.units * 2, 1),
            trainable=True,
            initializer="glorot_uniform",
            name="attention",
        )
        self.built = True

    def call(self, inputs):
        node_states, adjacency = inputs
        states = ops.matmul(node_states, self.kernel)
        left = ops.matmul(states, self.kernel_attention[: self.units])
        right = ops.matmul(states, self.kernel_attention[self.units :])
        scores = ops.leaky_relu(left + ops.transpose(right, (0, 2, 1)))
        scores = scores - 1e4 * (1.0 - ops.cast(adjacency > 0.5, "float32"))
        return ops.matmul(ops.softmax(scores, axis=-1), states)


class MultiHeadGraphAttention(layers.Layer):
    def __init__(self, units, num_heads=4, merge_type="concat", **kwargs):
        super().__init__(**kwargs)
        self.merge_type = merge_type
        self.attention_layers = [GraphAttention(units) for _ in range(num_heads)]

    def call(self, inputs):
        features, adjacency = inputs
        outputs = [attention([features, adjacency]) for attention in self.attention_layers]
        if self.merge_type == "concat":
            outputs = ops.concatenate(outputs, axis=-1)
        else:
            outputs = ops.mean(ops.stack(outputs, axis=-1), axis=-1)
        return ops.relu(outputs)


@architecture("graph attention", [Floats((12, 16)), Floats((12, 12), positive=True)])
def graph_attention():
    nodes, adjacency = keras.Input((12, 16)), keras.Input((12, 12))
    x = layers.Dense(32, activation="relu")(nodes)
    for _ in range(2):
        x = MultiHeadGraphAttention(8, 4)([x, adjacency]) + x
    return keras.Model([nodes, adjacency], layers.Dense(7)(x))


def _feed_forward(hidden_units, dropout_rate, name=None):
    parts = []
    for units in hidden_units:
        parts.append(layers.BatchNormalization())
        parts.append(layers.Dropout(dropout_rate))
        parts.append(layers.Dense(units, activation=keras.activations.gelu))
    return keras.Sequential(parts, name=name)


class GraphConvLayer(layers.Layer):
    """Messages along a list of edges, added up at the nodes."""

    def __init__(self, hidden_units, dropout_rate=0.2, **kwargs):
        super().__init__(**kwargs)
        self.ffn_prepare = _feed_forward(hidden_units, dropout_rate)
        self.update_fn = _feed_forward(hidden_units, dropout_rate)

    def call(self, inputs):
        states, edges, edge_weights = inputs
        targets, sources = edges[0], edges[1]
        neighbors = ops.take(states, sources, axis=0)
        messages = self.ffn_prepare(neighbors) * ops.expand_dims(edge_weights, -1)
        aggregated = ops.segment_sum(messages, targets, num_segments=states.shape[0])
        h = ops.concatenate([states, aggregated], axis=1)
        return ops.normalize(self.update_fn(h), axis=-1)


class NodeClassifier(keras.Model):
    """The graph is part of the model; its input are the nodes to classify."""

    def __init__(self, num_nodes, num_classes, hidden_units, dropout_rate=0.2, **kwargs):
        super().__init__(**kwargs)
        random = np.random.default_rng(0)
        self.node_features = ops.convert_to_tensor(
            random.normal(size=(num_nodes, 16)).astype("float32")
        )
        self.edges = ops.convert_to_tensor(random.integers(0, num_nodes, (2, 60)).astype("int32"))
        self.edge_weights = ops.ones(shape=(60,)) / 60
        self.preprocess = _feed_forward(hidden_units, dropout_rate, name="preprocess")
        self.conv1 = GraphConvLayer(hidden_units, dropout_rate, name="graph_conv1")
        self.conv2 = GraphConvLayer(hidden_units, dropout_rate, name="graph_conv2")
        self.postprocess = _feed_forward(hidden_units, dropout_rate, name="postprocess")
        self.compute_logits = layers.Dense(units=num_classes, name="logits")

    def call(self, input_node_indices):
        x = self.preprocess(self.node_features)
        x = self.conv1((x, self.edges, self.edge_weights)) + x
        x = self.conv2((x, self.edges, self.edge_weights)) + x
        x = self.postprocess(x)
        return self.compute_logits(ops.take(x, ops.squeeze(input_node_indices, -1), axis=0))


@architecture("nodes of a graph", Whole((1,), 20))
def node_classifier():
    return NodeClassifier(20, 5, (32, 32))


@architecture("table, autoencoder", Floats((30,)))
def table_autoencoder():
    encoder = keras.Sequential(
        [layers.Dense(24, activation="relu"), layers.Dense(8, activation="relu")], name="encoder"
    )
    decoder = keras.Sequential([layers.Dense(24, activation="relu"), layers.Dense(30)])
    inputs = keras.Input((30,))
    return keras.Model(inputs, decoder(encoder(inputs)))


@architecture("table, imbalanced classes", Floats((30,)))
def imbalanced():
    return keras.Sequential(
        [
            keras.Input(shape=(30,)),
            layers.Normalization(mean=0.1, variance=1.5),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
