"""The words that only AlexeyAB's Darknet and its heirs know: "the fork" all over this package.

A cfg that uses one of them was written for the fork, which fits pictures by stretching where the original letterboxes,
and differs in a few defaults.
"""

from __future__ import annotations

FORK_SECTIONS = frozenset((
    "scale_channels", "sam", "reorg3d", "local_avgpool", "Gaussian_yolo", "contrastive", "implicit", "empty",
    "silence", "conv_lstm", "history",
))  # fmt: skip

FORK_OPTIONS = frozenset((
    "adversarial_lr", "antialiasing", "assisted_excitation", "attention", "augment_speed",
    "badlabels_rejection_percentage", "beta_nms", "bin_output", "blur", "burnin_update", "cbn", "cls_normalizer",
    "contrastive", "contrastive_color", "contrastive_jit_flip", "counters_per_class", "cutmix", "delta_normalizer",
    "dilation", "dont_update", "dropblock", "dynamic_minibatch", "ema_alpha", "embedding_layer",
    "equidistant_point", "focal_loss", "gaussian_noise", "grad_centr", "group_id", "iou_loss", "iou_normalizer",
    "iou_thresh", "iou_thresh_kind", "label_smooth_eps", "learning_rate_min", "letter_box", "loss_scale",
    "max_chart_loss", "max_delta", "maxpool_depth", "mixup", "mosaic", "mosaic_bound", "new_coords", "nms_kind",
    "num_sigmas_reject_badlabels", "obj_normalizer", "objectness_smooth", "optimized_memory", "out_channels",
    "resize", "resize_step", "scale_x_y", "seq_scales", "sequential_subdivisions", "sgdr_cycle", "sgdr_mult",
    "share_index", "show_details", "sim_thresh", "stream", "stretch", "stride_x", "stride_y", "sway", "track",
    "track_history_size", "train_only_bn", "try_fix_nan", "uc_normalizer", "unsupervised", "use_cuda_graph",
    "wait_stream", "weights_normalization", "weights_reject_freq", "weights_type", "workspace_size_limit_MB",
    "yolo_point",
))  # fmt: skip

FORK_ACTIVATIONS = frozenset((
    "swish", "mish", "hard_mish", "relu6", "gelu", "revleaky", "normalize_channels", "normalize_channels_softmax",
    "normalize_channels_softmax_maxval",
))  # fmt: skip

# What the fork reads in [net] that only matters to its own way of learning.
FORK_NET_OPTIONS = (
    "flip", "blur", "gaussian_noise", "mixup", "cutmix", "mosaic", "mosaic_bound", "resize_step", "ema_alpha",
    "dynamic_minibatch", "optimized_memory", "workspace_size_limit_MB", "loss_scale", "use_cuda_graph",
    "max_chart_loss", "contrastive", "contrastive_jit_flip", "contrastive_color", "unsupervised", "adversarial_lr",
    "attention", "label_smooth_eps", "track", "augment_speed", "sequential_subdivisions", "try_fix_nan",
    "weights_reject_freq", "equidistant_point", "badlabels_rejection_percentage", "num_sigmas_reject_badlabels",
    "seq_scales", "sgdr_cycle", "sgdr_mult", "learning_rate_min", "letter_box",
)  # fmt: skip
