"""Networks that read tokens by experts, or beside another input."""

import keras
from keras import layers, ops

from architectures.registry import Whole, architecture
from architectures.text import LENGTH, TOKENS, VOCABULARY, WIDTH, TokenAndPositionEmbedding


class Router(layers.Layer):
    """Send each token to one expert, as far as that has room."""

    def __init__(self, num_experts, expert_capacity):
        super().__init__()
        self.num_experts = num_experts
        self.route = layers.Dense(units=num_experts)
        self.expert_capacity = expert_capacity

    def call(self, inputs, training=False):
        router_inputs = ops.cast(inputs, "float32")
        router_logits = self.route(router_inputs)
        if training:
            router_logits += keras.random.uniform(router_logits.shape, minval=0.9, maxval=1.1)
        router_probs = keras.activations.softmax(router_logits, axis=-1)
        expert_gate, expert_index = ops.top_k(router_probs, k=1)
        expert_mask = ops.one_hot(expert_index, self.num_experts)[:, 0]
        position_in_expert = ops.cast(ops.cumsum(expert_mask, axis=0) * expert_mask, "int32")
        fits = ops.less(ops.cast(position_in_expert, "int32"), self.expert_capacity)
        expert_mask *= ops.cast(fits, "float32")
        gate = expert_gate * ops.sum(expert_mask, axis=-1, keepdims=True)
        hot = ops.one_hot(ops.squeeze(expert_index, -1), self.num_experts)
        place = ops.one_hot(ops.sum(position_in_expert, axis=-1), self.expert_capacity)
        combine = ops.expand_dims(gate * hot, -1) * ops.expand_dims(place, 1)
        return ops.cast(combine, "bool"), combine


class Switch(layers.Layer):
    def __init__(self, num_experts, embed_dim, ff_dim, num_tokens_per_batch, capacity_factor=1):
        super().__init__()
        self.num_experts = num_experts
        self.embed_dim = embed_dim
        self.experts = [
            keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
            for _ in range(num_experts)
        ]
        self.expert_capacity = num_tokens_per_batch // num_experts
        self.router = Router(num_experts, self.expert_capacity)

    def call(self, inputs):
        tokens = ops.reshape(inputs, (-1, self.embed_dim))
        dispatch, combine = self.router(tokens)
        expert_inputs = ops.einsum("ab,acd->cdb", tokens, ops.cast(dispatch, "float32"))
        outputs = [self.experts[i](expert_inputs[i]) for i in range(self.num_experts)]
        outputs = ops.einsum("abc,xba->xc", ops.stack(outputs, axis=1), combine)
        return ops.reshape(outputs, (-1, LENGTH, self.embed_dim))


class SwitchBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ffn, dropout_rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = ffn
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(dropout_rate)
        self.dropout2 = layers.Dropout(dropout_rate)

    def call(self, inputs, training=False):
        attention = self.dropout1(self.att(inputs, inputs), training=training)
        out1 = self.layernorm1(inputs + attention)
        ffn_output = self.dropout2(self.ffn(out1), training=training)
        return self.layernorm2(out1 + ffn_output)


@architecture("switch transformer", TOKENS)
def switch_transformer():
    switch = Switch(3, WIDTH, 32, num_tokens_per_batch=8 * LENGTH)
    inputs = layers.Input(shape=(LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = layers.GlobalAveragePooling1D()(SwitchBlock(WIDTH, 2, switch)(x))
    x = layers.Dense(32, activation="relu")(layers.Dropout(0.1)(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dropout(0.1)(x)))


class Experts(layers.Layer):
    """A mixture of experts whose kernels are one array: every expert reads every token."""

    def __init__(self, experts, hidden, **kwargs):
        super().__init__(**kwargs)
        self.experts, self.hidden = experts, hidden
        self.gate = layers.Dense(experts, activation="softmax")

    def build(self, shape):
        width = shape[-1]
        self.up = self.add_weight(
            shape=(self.experts, width, self.hidden), initializer="glorot_uniform", name="up"
        )
        self.down = self.add_weight(
            shape=(self.experts, self.hidden, width), initializer="glorot_uniform", name="down"
        )

    def call(self, x):
        hidden = ops.relu(ops.einsum("btd,edh->bteh", x, self.up))
        outputs = ops.einsum("bteh,ehd->bted", hidden, self.down)
        return ops.einsum("bted,bte->btd", outputs, self.gate(x))


@architecture("mixture of experts", TOKENS)
def mixture():
    inputs = layers.Input(shape=(LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
    x = layers.LayerNormalization()(x + Experts(3, 32)(x))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


@architecture("two towers, image and text", {"image": Whole((16,), 256), "caption": TOKENS})
def two_towers():
    def projected(x, name):
        x = layers.Dense(24)(x)
        for _ in range(2):
            y = layers.Dropout(0.1)(layers.Dense(24)(ops.nn.gelu(x)))
            x = layers.LayerNormalization()(layers.Add()([x, y]))
        return layers.Identity(name=name)(x)

    pixels = keras.Input((16,), dtype="int32", name="image")
    x = layers.Dense(32, activation="relu")(ops.cast(pixels, "float32") / 255.0)
    image = projected(x, "image_embedding")
    tokens = keras.Input((LENGTH,), dtype="int32", name="caption")
    x = layers.Embedding(VOCABULARY, WIDTH, mask_zero=True)(tokens)
    text = projected(layers.GlobalAveragePooling1D()(x), "caption_embedding")
    return keras.Model(
        {"image": pixels, "caption": tokens}, {"image_embedding": image, "text_embedding": text}
    )
