// What else is done to whole pictures: signs packed, bits pooled, magnitudes summed.

#ifndef LOOKONCE_PLANES_H
#define LOOKONCE_PLANES_H

#include "layer.h"

namespace lookonce {

// Signs of (B * H * W, C) values as words, by as many threads.
void pack(const Path& path, const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as,
          int threads);

struct PoolOptions {
    size_t size, stride_y, stride_x, before;
};

// The largest of each window: the union of its bits. Rows and columns beyond the edge have none.
void max_pool(const uint64_t* bits, size_t pictures, size_t height, size_t width, size_t words,
              const PoolOptions& options, size_t out_height, size_t out_width, uint64_t* out, int threads);

struct SumOptions {
    size_t rows, columns, stride_y, stride_x, padding, dilation;
    float factor;
};

// The sum of each window of (B, H, W) values, row by row, times `factor`; beyond the edge stands 0.
void window_sums(const float* values, size_t pictures, size_t height, size_t width, const SumOptions& options,
                 size_t out_height, size_t out_width, float* out);

}  // namespace lookonce

#endif
