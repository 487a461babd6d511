"""The classes and functions of Keras that a model file may name: none runs code from the file.

Lambda and the layers that hold a foreign model (TorchModuleWrapper, TFSMLayer, JaxLayer,
FlaxLayer) are not here, nor are functions that read, write or load. A class that a new Keras adds
is refused until it is added here; tests/loading/test_classes.py finds those that are missing.
"""

import re


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS = _names("""
AbstractRNNCell Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop Concatenate
ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose Convolution2D
Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D
CuDNNGRU CuDNNLSTM CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
EinsumDense Embedding Equalization Flatten GRU GRUCell GRUCellV2 GRUV2 GaussianDropout GaussianNoise
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention GroupedQueryAttention
HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM LSTMCell LSTMCellV2 LSTMV2 Layer
LayerNormalization LayerScale LeakyReLU LocallyConnected1D LocallyConnected2D Masking
MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum
MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization
RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom
ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D
SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax
Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization
StackedRNNCells StochasticDepth StringLookup Subtract TextVectorization ThresholdedReLU
TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D
ZeroPadding2D ZeroPadding3D
""")
MODELS = _names("Functional Model Sequential")
PARTS = _names("""
AWQConfig AWQDTypePolicy AbsMaxQuantizer Constant Constraint DTypePolicy DTypePolicyMap
Float8QuantizationConfig FloatDTypePolicy GPTQConfig GPTQDTypePolicy GlorotNormal GlorotUniform
HeNormal HeUniform Identity IdentityInitializer Int4DTypePolicy Int4QuantizationConfig
Int8QuantizationConfig L1 L1L2 L2 LecunNormal LecunUniform MaxNorm MinMaxNorm NonNeg Ones Orthogonal
OrthogonalInitializer OrthogonalRegularizer Policy PolicyV1 QuantizedDTypePolicy
QuantizedFloat8DTypePolicy RadialConstraint RandomNormal RandomUniform STFT STFTInitializer
SeedGenerator TruncatedNormal UnitNorm VarianceScaling Zeros
""")
TRAINING = _names("""
AUC Accuracy Adadelta Adafactor Adagrad Adam AdamW Adamax BinaryAccuracy BinaryCrossentropy
BinaryFocalCrossentropy BinaryIoU CTC CategoricalAccuracy CategoricalCrossentropy
CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
ConcordanceCorrelation CosineDecay CosineDecayRestarts CosineSimilarity Dice ExponentialDecay
F1Score FBetaScore FalseNegatives FalsePositives Ftrl Hinge Huber InverseTimeDecay IoU KLDivergence
Lamb Lion LogCosh LogCoshError LossScaleOptimizer Mean MeanAbsoluteError MeanAbsolutePercentageError
MeanIoU MeanMetricWrapper MeanRelativeError MeanSquaredError MeanSquaredLogarithmicError MeanTensor
MultiOptimizer Muon Nadam OneHotIoU OneHotMeanIoU OptimizerMap PearsonCorrelation
PiecewiseConstantDecay Poisson PolynomialDecay Precision PrecisionAtRecall R2Score RMSprop Recall
RecallAtPrecision RootMeanSquaredError SGD ScheduleFreeAdamW SensitivityAtSpecificity
SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy
SpecificityAtSensitivity SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives
Tversky
""")
# Operations of Keras 3 graphs; those that take functions are not allowed.
OPERATIONS = _names("""
Abs Absolute AdaptiveAveragePool AdaptiveMaxPool Add AffineTransform All AllClose Amax Amin Angle
Any Append Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition
Argsort Array ArraySplit Average AveragePool BatchNorm BinaryCrossentropy Bincount BitwiseAnd
BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo CDist
CTCDecode CTCLoss Cast CategoricalCrossentropy Cbrt Ceil Celu Cholesky CholeskyInverse Clip
Concatenate Conj Conjugate Conv ConvTranspose ConvertToTensor Copy Corrcoef Correlate Cos Cosh
CountNonzero CropImages Cross Cumprod Cumsum Deg2rad DepthToSpace DepthwiseConv Det Diag Diagflat
Diagonal Diff Digitize Divide DivideNoNan Dot DotProductAttention Dsplit Dstack Eig Eigh Einsum
ElasticTransform Elu EmptyLike Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches
ExtractSequences FFT FFT2 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Fold Full
FullLike GaussianBlur Gcd Gelu Geomspace GetItem Glu Greater GreaterEqual HSVToRGB HardShrink
HardSigmoid HardSilu HardSwish HardTanh Heaviside Histogram Hsplit Hstack Hypot I0 IFFT2 IRFFT ISTFT
Imag InTopK Inner Inv IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal Kron LayerNorm Lcm
Ldexp LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax
Logaddexp Logaddexp2 Logdet LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp Lstsq
LuFactor MapCoordinates Matmul MatrixRank Max MaxPool Maximum Mean Median Meshgrid Min Minimum Mod
Moments Moveaxis MultiHot Multiply NanToNum Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean
Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd Nansum Nanvar Ndim Negative Nextafter
Nonzero Norm Normalize NotEqual OneHot OnesLike Outer PSNR Pad PadImages Percentile
PerspectiveTransform Pinv Polar Power Prod Ptp Qr Quantile RFFT RGBToGrayscale RGBToHSV RMSNorm
Rad2deg Ravel Real Rearrange Reciprocal Relu Relu6 Repeat Reshape Resize RightShift Roll Rot90 Round
Rsqrt SSIM STFT SVD SaturateCast ScaleAndTranslate Scatter ScatterUpdate SearchSorted SegmentMax
SegmentMin SegmentProd SegmentSum Select Selu SeparableConv Sigmoid Sign Signbit Silu Sin Sinc Sinh
Size Slice SliceUpdate Slogdet SobelEdges SoftShrink Softmax Softplus Softsign Solve SolveTriangular
Sort SpaceToDepth SparseCategoricalCrossentropy SparsePlus SparseSigmoid Sparsemax Split Sqrt Square
Squareplus Squeeze Stack Std StopGradient Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh
TanhShrink Tensordot Threshold Tile TopK Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unfold
Unique UnravelIndex Unstack Vander Var Vdot View ViewAsComplex ViewAsReal Vsplit Vstack Where
ZerosLike
""")
_OBJECTS = LAYERS | MODELS | PARTS | TRAINING
CLASSES = _OBJECTS | OPERATIONS
"""All classes that a file may name."""

FUNCTIONS = _names("""
acc accuracy bce binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy
categorical_crossentropy categorical_focal_crossentropy categorical_generalized_cross_entropy
categorical_hinge celu circle concordance_correlation cosine_similarity ctc dice elu exponential
gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh hinge huber kl_divergence kld
kullback_leibler_divergence l1_l2 leaky_relu linear log_cosh log_sigmoid log_softmax log_softmax_v2
logcosh mae mape mean_absolute_error mean_absolute_percentage_error mean_squared_error
mean_squared_logarithmic_error mish mse msle pearson_correlation poisson relu relu6 selu sigmoid
silu soft_shrink softmax softplus softsign sparse_categorical_accuracy
sparse_categorical_crossentropy sparse_plus sparse_sigmoid sparse_top_k_categorical_accuracy
sparsemax squared_hinge squareplus swish tanh tanh_shrink threshold top_k_categorical_accuracy
softmax_v2 tversky KLD MAE MAPE MSE MSLE
""")
"""All functions that a file may name: activations, losses, metrics."""

# Other ways to write an initializer, regularizer or constraint; compared without underscores.
_SHORT = {"one", "zero", "uniform", "normal", "nonneg", "maxnorm", "minmaxnorm", "unitnorm"}
_PLAIN = _SHORT | {name.replace("_", "").lower() for name in LAYERS | PARTS | FUNCTIONS}

VALUES = _names(
    "TensorShape __bytes__ __complex__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ "
    "__tensor__ __tuple__"
)
"""Class names that mark plain values."""

_HOME = re.compile(
    r"(tf_)?keras(\.src)?(\._tf_keras\.keras)?"
    r"(\.(activations|applications|backend\.common\.dtype|constraints|dtype_policies|engine"
    r"|experimental|initializers|layers|losses|metrics|mixed_precision|models|optimizers"
    r"|quantizers|random|regularizers)(\.[a-z0-9_]+)*)?"
)
_OPERATION_HOME = re.compile(r"keras(\.src)?\.ops(\.[a-z0-9_]+)*")
_FUNCTION_HOME = re.compile(
    r"builtins|(tf_)?keras(\.src)?\.(activations|losses|metrics|regularizers)(\.[a-z0-9_]+)*"
)


def is_listed(kind: str, module: str | None) -> bool:
    """Return whether a file may name a class: by name alone, or in a module of Keras.

    Example:
        >>> is_listed("Dense", "keras.layers"), is_listed("Dense", "os"), is_listed("Lambda", None)
        (True, False, False)
    """
    if module is None:
        return kind in CLASSES
    if _OPERATION_HOME.fullmatch(module):
        return kind in OPERATIONS
    return kind in _OBJECTS and _HOME.fullmatch(module) is not None


def is_function_home(module: str) -> bool:
    """Return whether a module has the functions above, and no others of the same names."""
    return _FUNCTION_HOME.fullmatch(module) is not None


def is_word(name: str) -> bool:
    """Return whether a word names an activation, initializer, regularizer or constraint.

    Example:
        >>> is_word("glorot_uniform"), is_word("load_model")
        (True, False)
    """
    return name.replace("_", "").lower() in _PLAIN
