#include "planes.h"

#include <string.h>

#include <algorithm>

#include "pool.h"

namespace lookonce {

void pack(
    const Path& path, const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as, int wanted
) {
    const size_t part = std::max<size_t>(1, PACKED_AT_A_TIME / channels), parts = (pixels + part - 1) / part;
    const int threads = threads_for_work(wanted, pixels * channels, LEAST_VALUES);
    Shares<1> shares({parts}, threads);
    run_together(threads, [&](int who) {
        for (size_t p; (p = shares.take(0, who)) < parts;) {
            const size_t first = p * part;
            Packing here = as;
            if (as.magnitude != nullptr) here.magnitude += first;
            path.pack(values + first * channels, std::min(part, pixels - first), channels,
                      words + first * ((channels + WORD - 1) / WORD), here);
        }
    });
}

void max_pool(
    const uint64_t* bits, size_t pictures, size_t height, size_t width, size_t words, const PoolOptions& options,
    size_t out_height, size_t out_width, uint64_t* out, int wanted
) {
    const size_t rows = pictures * out_height;
    const int threads = threads_for_work(wanted, rows * out_width * words * options.size * options.size, LEAST_PAIRS);
    Shares<1> shares({rows}, threads);
    run_together(threads, [&](int who) {
        for (size_t row; (row = shares.take(0, who)) < rows;) {
            const uint64_t* picture = bits + row / out_height * height * width * words;
            const size_t top = row % out_height * options.stride_y;
            const size_t y_end = std::min(top + options.size, height + options.before);
            uint64_t* to = out + row * out_width * words;
            memset(to, 0, out_width * words * sizeof(uint64_t));
            for (size_t x = 0; x < out_width; ++x, to += words) {
                const size_t left = x * options.stride_x;
                const size_t x_end = std::min(left + options.size, width + options.before);
                for (size_t y = std::max(top, options.before); y < y_end; ++y) {
                    const uint64_t* line = picture + (y - options.before) * width * words;
                    for (size_t c = std::max(left, options.before); c < x_end; ++c) {
                        const uint64_t* from = line + (c - options.before) * words;
                        for (size_t w = 0; w < words; ++w) to[w] |= from[w];
                    }
                }
            }
        }
    });
}

void window_sums(
    const float* values, size_t pictures, size_t height, size_t width, const SumOptions& options, size_t out_height,
    size_t out_width, float* out
) {
    for (size_t row = 0; row < pictures * out_height; ++row, out += out_width) {
        const float* picture = values + row / out_height * height * width;
        memset(out, 0, out_width * sizeof(float));
        for (size_t r = 0; r < options.rows; ++r) {
            const size_t y = row % out_height * options.stride_y + r * options.dilation;      // from `padding` outside
            if (y < options.padding || y >= height + options.padding) continue;
            const float* line = picture + (y - options.padding) * width;
            for (size_t tap = 0; tap < options.columns; ++tap) {
                const size_t c = tap * options.dilation;
                const size_t before = options.padding > c ? options.padding - c : 0;
                const size_t first = (before + options.stride_x - 1) / options.stride_x;
                if (c >= width + options.padding) continue;
                const size_t end = std::min((width + options.padding - c - 1) / options.stride_x + 1, out_width);
                for (size_t x = first; x < end; ++x) out[x] += line[x * options.stride_x + c - options.padding];
            }
        }
        for (size_t x = 0; x < out_width; ++x) out[x] *= options.factor;
    }
}

}  // namespace lookonce
