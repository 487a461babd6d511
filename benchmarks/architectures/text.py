"""Networks that read tokens."""

import keras
from keras import layers, ops

from architectures.registry import Whole, architecture

LENGTH, VOCABULARY, WIDTH = 16, 60, 32
TOKENS = Whole((LENGTH,), VOCABULARY)


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = self.pos_emb(ops.arange(start=0, stop=maxlen, step=1))
        return self.token_emb(x) + positions


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.dropout1(self.att(inputs, inputs))
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


@architecture("text transformer", TOKENS)
def text_transformer():
    inputs = layers.Input(shape=(LENGTH,))
    x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = TransformerBlock(WIDTH, 2, 32)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = layers.Dropout(0.1)(layers.Dense(20, activation="relu")(x))
    return keras.Model(inputs=inputs, outputs=layers.Dense(2, activation="softmax")(x))


@architecture("text, bidirectional LSTM", TOKENS)
def text_bidirectional():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(VOCABULARY, WIDTH)(inputs)
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(16))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@architecture("text, masked LSTM", TOKENS)
def text_masked():
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(VOCABULARY, WIDTH, mask_zero=True),
            layers.LSTM(32, dropout=0.2, recurrent_dropout=0.2),
            layers.Dense(4, activation="softmax"),
        ]
    )


@architecture("text, convolutions over an open length", TOKENS)
def text_convolutions():
    inputs = keras.Input(shape=(None,), dtype="int64")
    x = layers.Dropout(0.5)(layers.Embedding(VOCABULARY, WIDTH)(inputs))
    x = layers.Conv1D(32, 5, padding="valid", activation="relu", strides=2)(x)
    x = layers.Conv1D(32, 3, padding="valid", activation="relu", strides=2)(x)
    x = layers.Dense(32, activation="relu")(layers.GlobalMaxPooling1D()(x))
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x))


@architecture("seq2seq, LSTM", [Whole((12,), 40), Whole((10,), 50)])
def seq2seq():
    encoder_inputs = keras.Input(shape=(12,), dtype="int32")
    x = layers.Embedding(40, 24)(encoder_inputs)
    _, state_h, state_c = layers.LSTM(32, return_state=True)(x)
    decoder_inputs = keras.Input(shape=(10,), dtype="int32")
    y = layers.Embedding(50, 24)(decoder_inputs)
    decoder = layers.LSTM(32, return_sequences=True, return_state=True)
    outputs, _, _ = decoder(y, initial_state=[state_h, state_c])
    outputs = layers.Dense(50, activation="softmax")(outputs)
    return keras.Model([encoder_inputs, decoder_inputs], outputs)


@architecture("addition, repeated vector", Whole((7,), 12))
def addition():
    model = keras.Sequential([layers.Input((7,), dtype="int32"), layers.Embedding(12, 12)])
    model.add(layers.LSTM(32))
    model.add(layers.RepeatVector(4))
    model.add(layers.LSTM(32, return_sequences=True))
    model.add(layers.Dense(12, activation="softmax"))
    return model


def causal_mask(batch_size, n_dest, n_src):
    i = ops.arange(n_dest)[:, None]
    j = ops.arange(n_src)
    mask = ops.reshape(ops.cast(i >= j - n_src + n_dest, "bool"), [1, n_dest, n_src])
    return ops.tile(mask, (batch_size, 1, 1))


class CausalBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        shape = ops.shape(inputs)
        mask = causal_mask(shape[0], shape[1], shape[1])
        attention_output = self.att(inputs, inputs, attention_mask=mask)
        out1 = self.layernorm1(inputs + self.dropout1(attention_output))
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


@architecture("GPT, own causal mask", TOKENS)
def gpt():
    inputs = layers.Input(shape=(LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = CausalBlock(WIDTH, 2, 64)(x)
    return keras.Model(inputs=inputs, outputs=[layers.Dense(VOCABULARY)(x), x])


class TiedDecoder(keras.Model):
    """A language model whose embedding is read back for the logits."""

    def __init__(self, vocabulary, width, blocks):
        super().__init__()
        self.embedding = layers.Embedding(vocabulary, width)
        self.norms = [layers.LayerNormalization() for _ in range(blocks)]
        self.attentions = [layers.MultiHeadAttention(2, width // 2) for _ in range(blocks)]
        self.feed_forwards = [
            keras.Sequential([layers.Dense(2 * width, "gelu"), layers.Dense(width)])
            for _ in range(blocks)
        ]
        self.final_norm = layers.LayerNormalization()

    def call(self, tokens):
        x = self.embedding(tokens)
        for norm, attention, ffn in zip(
            self.norms, self.attentions, self.feed_forwards, strict=True
        ):
            y = norm(x)
            x = x + attention(y, y, use_causal_mask=True)
            x = x + ffn(x)
        x = self.final_norm(x)
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


@architecture("language model, tied embedding", TOKENS)
def tied():
    return TiedDecoder(VOCABULARY, WIDTH, 2)


class EncoderLayer(layers.Layer):
    def __init__(self, embed_dim, dense_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential(
            [layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        padding_mask = None if mask is None else ops.cast(mask[:, None, :], dtype="int32")
        attention = self.attention(
            query=inputs, value=inputs, key=inputs, attention_mask=padding_mask
        )
        x = self.layernorm_1(inputs + attention)
        return self.layernorm_2(x + self.dense_proj(x))


class MaskedEmbedding(layers.Layer):
    def __init__(self, length, vocabulary, width, **kwargs):
        super().__init__(**kwargs)
        self.token_embeddings = layers.Embedding(vocabulary, width)
        self.position_embeddings = layers.Embedding(length, width)

    def call(self, inputs):
        positions = ops.arange(0, ops.shape(inputs)[-1], 1)
        return self.token_embeddings(inputs) + self.position_embeddings(positions)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class DecoderLayer(layers.Layer):
    def __init__(self, embed_dim, latent_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention_1 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.attention_2 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential(
            [layers.Dense(latent_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.layernorm_3 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs, encoded = inputs
        causal = self.get_causal_attention_mask(inputs)
        own_mask, encoded_mask = (None, None) if mask is None else mask
        out = self.attention_1(inputs, inputs, attention_mask=causal, query_mask=own_mask)
        out_1 = self.layernorm_1(inputs + out)
        out = self.attention_2(
            query=out_1, value=encoded, key=encoded, query_mask=own_mask, key_mask=encoded_mask
        )
        out_2 = self.layernorm_2(out_1 + out)
        return self.layernorm_3(out_2 + self.dense_proj(out_2))

    def get_causal_attention_mask(self, inputs):
        batch_size, length = ops.shape(inputs)[0], ops.shape(inputs)[1]
        i, j = ops.arange(length)[:, None], ops.arange(length)
        mask = ops.reshape(ops.cast(i >= j, dtype="int32"), (1, length, length))
        return ops.broadcast_to(mask, (batch_size, length, length))


@architecture(
    "translation transformer",
    {"encoder_inputs": Whole((12,), 40), "decoder_inputs": Whole((10,), 50)},
)
def translation():
    encoder_inputs = keras.Input(shape=(12,), dtype="int64", name="encoder_inputs")
    x = MaskedEmbedding(12, 40, WIDTH)(encoder_inputs)
    encoded = EncoderLayer(WIDTH, 64, 2)(x)
    encoder = keras.Model(encoder_inputs, encoded)
    decoder_inputs = keras.Input(shape=(10,), dtype="int64", name="decoder_inputs")
    states = keras.Input(shape=(12, WIDTH), name="decoder_state_inputs")
    x = MaskedEmbedding(10, 50, WIDTH)(decoder_inputs)
    x = layers.Dropout(0.5)(DecoderLayer(WIDTH, 64, 2)([x, states]))
    decoder = keras.Model([decoder_inputs, states], layers.Dense(50, activation="softmax")(x))
    outputs = decoder([decoder_inputs, encoder(encoder_inputs)])
    return keras.Model(
        {"encoder_inputs": encoder_inputs, "decoder_inputs": decoder_inputs}, outputs
    )


class FNetEncoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, **kwargs):
        super().__init__(**kwargs)
        self.dense_proj = keras.Sequential(
            [layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()

    def call(self, inputs):
        zeros = ops.zeros_like(inputs)
        mixed, _ = ops.fft2((ops.cast(inputs, "float32"), zeros))
        x = self.layernorm_1(inputs + mixed)
        return self.layernorm_2(x + self.dense_proj(x))


@architecture("FNet, text", TOKENS)
def fnet_text():
    inputs = keras.Input(shape=(LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = FNetEncoder(WIDTH, 64)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


class NERModel(keras.Model):
    def __init__(self, num_tags, vocab_size, maxlen=LENGTH, embed_dim=WIDTH):
        super().__init__()
        self.embedding_layer = TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim)
        self.transformer_block = TransformerBlock(embed_dim, 4, 32)
        self.dropout1 = layers.Dropout(0.1)
        self.ff = layers.Dense(32, activation="relu")
        self.dropout2 = layers.Dropout(0.1)
        self.ff_final = layers.Dense(num_tags, activation="softmax")

    def call(self, inputs, training=False):
        x = self.transformer_block(self.embedding_layer(inputs))
        x = self.dropout1(x, training=training)
        x = self.dropout2(self.ff(x), training=training)
        return self.ff_final(x)


@architecture("named entities", TOKENS)
def entities():
    return NERModel(7, VOCABULARY)
