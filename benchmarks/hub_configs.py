"""Small configs of KerasHub's backbones: nothing is downloaded, every kind of block is there.

A builder takes the package and returns the backbone.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

Build = Callable[[Any], Any]

TEXT = {"vocabulary_size": 50, "num_layers": 2, "num_heads": 4, "hidden_dim": 32,
        "intermediate_dim": 48}  # fmt: skip
GROUPED = {"vocabulary_size": 50, "num_layers": 2, "num_query_heads": 4,
           "num_key_value_heads": 2, "hidden_dim": 32, "intermediate_dim": 48}  # fmt: skip
VISION = {"patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 32,
          "intermediate_dim": 48, "image_shape": (32, 32, 3)}  # fmt: skip
SHORT = {"max_sequence_length": 16}
PAIR = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in {
    "hidden_dim": 32, "intermediate_dim": 48, "num_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "layer_types": ["full_attention"] * 2,
}.items()}  # fmt: skip


def _text(name: str, base: dict = TEXT, **more: Any) -> Build:
    return lambda hub: getattr(hub.models, name)(**{**base, **more})


def _resnet(hub: Any, **more: Any) -> Any:
    return hub.models.ResNetBackbone(**{
        "input_conv_filters": [16], "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 24, 32, 40], "stackwise_num_blocks": [2, 1, 1, 1],
        "stackwise_num_strides": [1, 2, 2, 2], "block_type": "bottleneck_block", **more,
    })  # fmt: skip


def _clip(hub: Any, kind: str, **more: Any) -> Any:
    vision = getattr(hub.models, f"{kind}VisionEncoder")(**VISION)
    text = getattr(hub.models, f"{kind}TextEncoder")(**TEXT, embedding_dim=32, **SHORT)
    return getattr(hub.models, f"{kind}Backbone")(vision_encoder=vision, text_encoder=text, **more)


def _hgnet(hub: Any) -> Any:
    return hub.models.HGNetV2Backbone(
        depths=[1, 2], embedding_size=16, hidden_sizes=[32, 48], stem_channels=[3, 8, 16],
        hidden_act="relu", use_learnable_affine_block=True,
        stackwise_stage_filters=[(16, 8, 32, 1, 2, 3), (32, 12, 48, 2, 2, 3)],
        apply_downsample=[False, True], use_lightweight_conv_block=[False, True],
        image_shape=(32, 32, 3), out_features=["stage1", "stage2"],
    )  # fmt: skip


def _d_fine(hub: Any) -> Any:
    backbone = hub.models.HGNetV2Backbone(
        stem_channels=[3, 8, 8],
        stackwise_stage_filters=[[8, 8, 16, 1, 2, 3], [16, 8, 24, 1, 2, 3], [24, 12, 32, 1, 2, 5],
                                 [32, 16, 48, 1, 2, 5]],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1], hidden_sizes=[16, 24, 32, 48], embedding_size=8,
        use_learnable_affine_block=True, hidden_act="relu", image_shape=(64, 64, 3),
        out_features=["stage3", "stage4"],
    )  # fmt: skip
    return hub.models.DFineBackbone(
        backbone=backbone, decoder_in_channels=[16, 16], encoder_hidden_dim=16, num_denoising=0,
        num_labels=4, hidden_dim=16, learn_initial_query=False, num_queries=8,
        anchor_image_size=(64, 64), feat_strides=[16, 32], num_feature_levels=2,
        encoder_in_channels=[32, 48], encode_proj_layers=[1], num_attention_heads=4,
        encoder_ffn_dim=32, num_encoder_layers=1, hidden_expansion=0.5, depth_multiplier=0.5,
        eval_idx=-1, num_decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=32,
        decoder_n_points=[2, 2], lqe_hidden_dim=16, num_lqe_layers=2, seed=0,
        out_features=["stage3", "stage4"], image_shape=(64, 64, 3),
    )  # fmt: skip


def _dino(hub: Any) -> Any:
    return hub.models.DINOV2Backbone(**VISION, position_embedding_shape=(32, 32))


def _sam(hub: Any) -> Any:
    encoder = hub.models.ViTDetBackbone(
        hidden_size=16, num_layers=2, intermediate_dim=32, num_heads=4,
        global_attention_layer_indices=[1], patch_size=16, num_output_channels=8, window_size=2,
        image_shape=(64, 64, 3),
    )  # fmt: skip
    prompt = hub.layers.SAMPromptEncoder(
        hidden_size=8, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_channels=16
    )
    decoder = hub.layers.SAMMaskDecoder(
        num_layers=2, hidden_size=8, intermediate_dim=32, num_heads=4, embedding_dim=8,
        num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=8,
    )  # fmt: skip
    return hub.models.SAMBackbone(
        image_encoder=encoder, prompt_encoder=prompt, mask_decoder=decoder
    )


def _sam3(hub: Any) -> Any:
    small = {"hidden_dim": 32, "intermediate_dim": 48, "num_heads": 2}
    return hub.models.SAM3PromptableConceptBackbone(
        vision_encoder=hub.layers.SAM3VisionEncoder(
            image_shape=(56, 56, 3), patch_size=14, num_layers=2, **small, fpn_hidden_dim=32,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5], pretrain_image_shape=(28, 28, 3),
            window_size=2, global_attn_indexes=[1],
        ),
        text_encoder=hub.layers.SAM3TextEncoder(
            vocabulary_size=50, embedding_dim=32, num_layers=2, **small
        ),
        geometry_encoder=hub.layers.SAM3GeometryEncoder(num_layers=2, roi_size=7, **small),
        detr_encoder=hub.layers.SAM3DetrEncoder(num_layers=2, **small),
        detr_decoder=hub.layers.SAM3DetrDecoder(
            image_shape=(56, 56, 3), patch_size=14, num_layers=2, num_queries=8, **small
        ),
        mask_decoder=hub.layers.SAM3MaskDecoder(num_upsampling_stages=2, hidden_dim=32,
                                                num_heads=2),
    )  # fmt: skip


def _vae(_hub: Any) -> Any:
    kind = import_module("keras_hub.src.models.vae.vae_backbone").VAEBackbone
    return kind(
        encoder_num_filters=[32, 32], encoder_num_blocks=[1, 1], decoder_num_filters=[32, 32],
        decoder_num_blocks=[1, 1], sample_channels=8,
    )  # fmt: skip


def _diffusion(hub: Any) -> Any:
    text = {**TEXT, "embedding_dim": 32, **SHORT, "intermediate_output_index": -2}
    return hub.models.StableDiffusion3Backbone(
        mmdit_patch_size=2, mmdit_hidden_dim=32, mmdit_num_layers=2, mmdit_num_heads=4,
        mmdit_position_size=8, mmdit_qk_norm=None, mmdit_dual_attention_indices=None,
        vae=_vae(hub), clip_l=hub.models.CLIPTextEncoder(**text, name="clip_l"),
        clip_g=hub.models.CLIPTextEncoder(**text, name="clip_g"), latent_channels=4,
        image_shape=(32, 32, 3),
    )  # fmt: skip


def _gemma3n(hub: Any) -> Any:
    return hub.models.Gemma3nBackbone(
        text_vocab_size=50, text_hidden_size=16, num_hidden_layers=2, pad_token_id=0,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=[32, 32],
        hidden_activation="gelu_approximate", layer_types=["full_attention"] * 2,
        sliding_window=4, rope_theta=10000.0, max_position_embeddings=16,
        vocab_size_per_layer_input=50, hidden_size_per_layer_input=2, altup_num_inputs=2,
        laurel_rank=1,
    )  # fmt: skip


BACKBONES: dict[str, Build] = {
    "AlbertBackbone": _text("AlbertBackbone", embedding_dim=16, **SHORT),
    "BartBackbone": _text("BartBackbone", **SHORT),
    "BASNetBackbone": lambda hub: hub.models.BASNetBackbone(
        image_encoder=_resnet(hub, input_conv_filters=[64], stackwise_num_filters=[64, 128, 256,
                              512], block_type="basic_block"), num_classes=1,
        image_shape=(64, 64, 3),
    ),
    "BertBackbone": _text("BertBackbone", **SHORT),
    "BLIP2Backbone": lambda hub: hub.models.BLIP2Backbone(
        vision_encoder=None, qformer=None,
        language_model=hub.models.OPTBackbone(**TEXT, **SHORT),
    ),
    "BloomBackbone": _text("BloomBackbone"),
    "CLIPBackbone": lambda hub: _clip(hub, "CLIP", projection_dim=16),
    "CSPNetBackbone": lambda hub: hub.models.CSPNetBackbone(
        stem_filters=16, stem_kernel_size=3, stem_strides=1, stackwise_depth=[1, 2],
        stackwise_strides=[1, 2], stackwise_num_filters=[32, 48], block_type="dark_block",
        stage_type="dark", stem_padding="same", image_shape=(32, 32, 3),
    ),
    "DebertaV3Backbone": _text("DebertaV3Backbone", bucket_size=8, **SHORT),
    "DeepLabV3Backbone": lambda hub: hub.models.DeepLabV3Backbone(
        image_encoder=_resnet(hub, image_shape=(64, 64, 3)), projection_filters=8,
        low_level_feature_key="P2", spatial_pyramid_pooling_key="P5", upsampling_size=8,
        dilation_rates=[2, 4], image_shape=(64, 64, 3),
    ),
    "DeiTBackbone": lambda hub: hub.models.DeiTBackbone(**VISION),
    "DenseNetBackbone": lambda hub: hub.models.DenseNetBackbone(
        stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=(32, 32, 3)
    ),
    "DepthAnythingBackbone": lambda hub: hub.models.DepthAnythingBackbone(
        image_encoder=hub.models.DINOV2Backbone(
            **{**VISION, "num_layers": 4, "image_shape": (64, 64, 3)},
            position_embedding_shape=(64, 64)),
        reassemble_factors=[4, 2, 1, 0.5], neck_hidden_dims=[8, 16, 24, 32],
        fusion_hidden_dim=16, head_hidden_dim=8, head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    ),
    "DFineBackbone": _d_fine,
    "DINOV2Backbone": _dino,
    "DINOV3Backbone": lambda hub: hub.models.DINOV3Backbone(**VISION),
    "DistilBertBackbone": _text("DistilBertBackbone", **SHORT),
    "EdRecBackbone": lambda hub: hub.models.EdRecBackbone(
        vocab_size=50, num_layers_enc=2, num_layers_dec=2, hidden_dim=32, intermediate_dim=48,
        num_heads=4,
    ),
    "EfficientNetBackbone": lambda hub: hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 3, stackwise_depth_coefficients=[1.0] * 3,
        stackwise_kernel_sizes=[3, 3, 5], stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[16, 16, 24], stackwise_output_filters=[16, 24, 32],
        stackwise_expansion_ratios=[1, 4, 4], stackwise_squeeze_and_excite_ratios=[0, 0, 0.25],
        stackwise_strides=[1, 2, 2], stackwise_block_types=["fused", "fused", "unfused"],
        stackwise_force_input_filters=[0] * 3, stackwise_nores_option=[False] * 3,
        input_shape=(32, 32, 3), num_features=64,
    ),
    "ElectraBackbone": lambda hub: hub.models.ElectraBackbone(
        vocab_size=50, num_layers=2, num_heads=4, hidden_dim=32, embedding_dim=16,
        intermediate_dim=48, **SHORT,
    ),
    "ESMBackbone": _text("ESMBackbone", **SHORT),
    "FalconBackbone": lambda hub: hub.models.FalconBackbone(
        vocabulary_size=50, num_layers=2, num_attention_heads=4, hidden_dim=32,
        intermediate_dim=48,
    ),
    "FluxBackbone": lambda hub: hub.models.FluxBackbone(
        input_channels=16, hidden_size=32, mlp_ratio=2.0, num_heads=4, depth=1,
        depth_single_blocks=1, axes_dim=[4, 2, 2], theta=100, use_bias=True,
        image_shape=(8, 16), text_shape=(6, 16), image_ids_shape=(8, 3), text_ids_shape=(6, 3),
        y_shape=(16,),
    ),
    "FNetBackbone": lambda hub: hub.models.FNetBackbone(
        vocabulary_size=50, num_layers=2, hidden_dim=32, intermediate_dim=48, **SHORT
    ),
    "GemmaBackbone": _text("GemmaBackbone", GROUPED, head_dim=8),
    "Gemma3Backbone": _text("Gemma3Backbone", GROUPED, head_dim=8, image_size=16),
    "Gemma3nBackbone": _gemma3n,
    "Gemma4Backbone": _text("Gemma4Backbone", GROUPED, head_dim=8, image_size=16),
    "GPT2Backbone": _text("GPT2Backbone", **SHORT),
    "GPTNeoXBackbone": _text("GPTNeoXBackbone", rotary_percentage=0.5, **SHORT),
    "GptOssBackbone": _text("GptOssBackbone", GROUPED, num_experts=2, head_dim=8),
    "HGNetV2Backbone": _hgnet,
    "Llama3Backbone": _text("Llama3Backbone", GROUPED),
    "LlamaBackbone": _text("LlamaBackbone", GROUPED),
    "MetaCLIP2Backbone": lambda hub: _clip(hub, "MetaCLIP2", projection_dim=16),
    "MistralBackbone": _text("MistralBackbone", GROUPED),
    "MiTBackbone": lambda hub: hub.models.MiTBackbone(
        layerwise_depths=[1, 1], num_layers=2, layerwise_num_heads=[2, 4],
        layerwise_sr_ratios=[2, 1], max_drop_path_rate=0.1, layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2], image_shape=(32, 32, 3), hidden_dims=[16, 32],
    ),
    "MixtralBackbone": _text("MixtralBackbone", GROUPED, num_experts=2),
    "MobileNetBackbone": lambda hub: hub.models.MobileNetBackbone(
        stackwise_expansion=[[24, 32], [48, 48]], stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]], stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]], stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]], output_num_filters=64, depthwise_filters=8,
        depthwise_stride=2, depthwise_residual=False, last_layer_filter=64,
        squeeze_and_excite=0.5, image_shape=(32, 32, 3),
    ),
    "MobileNetV5Backbone": lambda hub: hub.models.MobileNetV5Backbone(
        stackwise_block_types=[["er"], ["uir", "mqa"]], stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[24], [48, 48]], stackwise_strides=[[2], [2, 1]],
        stackwise_act_layers=[["relu"], ["relu", "relu"]], stackwise_exp_ratios=[[4.0], [2.0, 2.0]],
        stackwise_se_ratios=[[0.0], [0.0, 0.0]], stackwise_dw_kernel_sizes=[[0], [5, 3]],
        stackwise_dw_start_kernel_sizes=[[0], [0, 0]], stackwise_dw_end_kernel_sizes=[[0], [0, 0]],
        stackwise_exp_kernel_sizes=[[3], [0, 0]], stackwise_pw_kernel_sizes=[[1], [0, 0]],
        stackwise_num_heads=[[0], [0, 4]], stackwise_key_dims=[[0], [0, 8]],
        stackwise_value_dims=[[0], [0, 8]], stackwise_kv_strides=[[0], [0, 1]],
        stackwise_use_cpe=[[False], [False, False]], use_msfa=False, num_features=64,
        image_shape=(32, 32, 3),
    ),
    "MoonshineBackbone": lambda hub: hub.models.MoonshineBackbone(
        vocabulary_size=50, filter_dim=32, encoder_num_layers=2, decoder_num_layers=2,
        hidden_dim=32, intermediate_dim=48, encoder_num_heads=4, decoder_num_heads=4,
    ),
    "OPTBackbone": _text("OPTBackbone", **SHORT),
    "PaliGemmaBackbone": _text("PaliGemmaBackbone", GROUPED, head_dim=8, image_size=16,
                               vit_patch_size=8, vit_num_heads=4, vit_hidden_dim=16,
                               vit_num_layers=2, vit_intermediate_dim=24),
    "PARSeqBackbone": lambda hub: hub.models.PARSeqBackbone(
        image_encoder=hub.models.ViTBackbone(
            image_shape=(16, 32, 3), patch_size=(8, 8), num_layers=2, num_heads=4, hidden_dim=32,
            mlp_dim=48, use_class_token=False),
        vocabulary_size=20, max_label_length=15, decoder_hidden_dim=32, num_decoder_layers=1,
        num_decoder_heads=4, decoder_mlp_dim=48,
    ),
    "Phi3Backbone": _text("Phi3Backbone", GROUPED, max_sequence_length=64,
                          pretraining_sequence_length=64),
    "QwenBackbone": _text("QwenBackbone", GROUPED),
    "Qwen3Backbone": _text("Qwen3Backbone", GROUPED, head_dim=8),
    "Qwen3_5Backbone": _text("Qwen3_5Backbone", GROUPED, head_dim=8, linear_num_key_heads=2,
                             linear_num_value_heads=4, linear_key_head_dim=8,
                             linear_value_head_dim=8,
                             layer_types=["linear_attention", "full_attention"]),
    "Qwen3_5MoeBackbone": lambda hub: hub.models.Qwen3_5MoeBackbone(
        vocabulary_size=50, num_layers=2, num_query_heads=4, num_key_value_heads=2, head_dim=8,
        hidden_dim=32, moe_intermediate_dim=24, shared_expert_intermediate_size=24,
        num_experts=2, top_k=1, linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "Qwen3MoeBackbone": _text("Qwen3MoeBackbone", GROUPED, moe_intermediate_dim=24,
                              num_experts=2, top_k=1, head_dim=8),
    "QwenMoeBackbone": _text("QwenMoeBackbone", GROUPED, moe_intermediate_dim=24, num_experts=2,
                             top_k=1, shared_expert_intermediate_dim=24),
    "ResNetBackbone": lambda hub: _resnet(hub, image_shape=(32, 32, 3)),
    "RetinaNetBackbone": lambda hub: hub.models.RetinaNetBackbone(
        image_encoder=_resnet(hub, image_shape=(128, 128, 3)), min_level=3, max_level=5,
        use_p5=False, image_shape=(128, 128, 3),
    ),
    "RobertaBackbone": _text("RobertaBackbone", **SHORT),
    "RoformerV2Backbone": _text("RoformerV2Backbone", head_size=8),
    "RQVAEBackbone": lambda hub: import_module(
        "keras_hub.src.models.rqvae.rqvae_backbone").RQVAEBackbone(
            input_dim=10, encoder_layer_dims=[32, 16], output_dim=8, decoder_layer_dims=[16, 32],
            num_embeddings=16, num_quantizers=2,
    ),
    "RWKV7Backbone": lambda hub: hub.models.RWKV7Backbone(
        hidden_size=32, head_size=8, num_layers=2, vocabulary_size=50, intermediate_dim=48,
        gate_lora=8, mv_lora=8, aaa_lora=8, decay_lora=8,
    ),
    "SAM3PromptableConceptBackbone": _sam3,
    "SAMBackbone": _sam,
    "SegFormerBackbone": lambda hub: hub.models.SegFormerBackbone(
        image_encoder=hub.models.MiTBackbone(
            layerwise_depths=[1, 1, 1, 1], num_layers=4, layerwise_num_heads=[1, 2, 2, 4],
            layerwise_sr_ratios=[4, 2, 1, 1], max_drop_path_rate=0.1,
            layerwise_patch_sizes=[7, 3, 3, 3], layerwise_strides=[4, 2, 2, 2],
            image_shape=(64, 64, 3), hidden_dims=[8, 16, 24, 32]),
        projection_filters=16,
    ),
    "SigLIPBackbone": lambda hub: _clip(hub, "SigLIP"),
    "SmolLM3Backbone": lambda hub: hub.models.SmolLM3Backbone(
        vocabulary_size=50, hidden_dim=32, intermediate_dim=48, num_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attention_bias=False,
        attention_dropout=0.0, rope_layer_enabled_list=[True, False],
        layer_types=["attention"] * 2, mlp_bias=False, layer_norm_epsilon=1e-5,
        max_position_embeddings=64, rope_theta=10000.0, partial_rotary_factor=1.0,
    ),
    "StableDiffusion3Backbone": _diffusion,
    "SwinTransformerBackbone": lambda hub: hub.models.SwinTransformerBackbone(
        image_shape=(32, 32, 3), embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4,
        patch_size=2,
    ),
    "T5Backbone": _text("T5Backbone"),
    "T5GemmaBackbone": lambda hub: hub.models.T5GemmaBackbone(vocabulary_size=50, **PAIR),
    "T5Gemma2Backbone": lambda hub: hub.models.T5Gemma2Backbone(vocabulary_size=50, **PAIR),
    "VAEBackbone": _vae,
    "VGGBackbone": lambda hub: hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 2, 1], stackwise_num_filters=[16, 24, 32],
        image_shape=(32, 32, 3),
    ),
    "VideoPrismBackbone": lambda hub: hub.models.VideoPrismBackbone(
        num_frames=2, patch_size=8, hidden_dim=32, intermediate_dim=48, num_heads=4,
        num_spatial_layers=1, num_temporal_layers=1, num_auxiliary_layers=1,
        image_shape=(32, 32, 3),
    ),
    "ViTBackbone": lambda hub: hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=4, hidden_dim=32,
        mlp_dim=48,
    ),
    "ViTDetBackbone": lambda hub: hub.models.ViTDetBackbone(
        hidden_size=32, num_layers=2, intermediate_dim=48, num_heads=4,
        global_attention_layer_indices=[1], image_shape=(32, 32, 3), patch_size=4,
        num_output_channels=8, window_size=2,
    ),
    "WhisperBackbone": _text("WhisperBackbone", num_mels=8, max_encoder_sequence_length=16,
                             max_decoder_sequence_length=16),
    "XceptionBackbone": lambda hub: hub.models.XceptionBackbone(
        stackwise_conv_filters=[[16, 24], [24, 32], [32, 32]],
        stackwise_pooling=[True, True, False], image_shape=(64, 64, 3),
    ),
    "XLNetBackbone": _text("XLNetBackbone"),
}  # fmt: skip
