// A binary convolution, its weights laid out for one path.

#ifndef LOOKONCE_CONVOLUTION_H
#define LOOKONCE_CONVOLUTION_H

#include <memory>
#include <mutex>
#include <vector>

#include "layer.h"

namespace lookonce {

struct Options {
    size_t filters, rows, columns, channels;
    size_t stride_y, stride_x, padding, dilation;
    bool ternary;
    Activation activation;
};

// What is wanted of a run, and where: `out` is (B, H', W', O), or words of it. Reals are
// activation(sum * scale * factor + shift) + residual, with `factor` (B, H', W') and `residual` (B, H', W', O) if given.
struct Outcome {
    Result result;
    void* out;
    const float* factor = nullptr;
    const float* residual = nullptr;
};

class Convolution {
public:
    // `weights` are (O, kh, kw, words) with zeros beyond the last channel; `scale` and `shift` one a filter, finite.
    // A bit is 1 where (sum ^ flip) >= limit, one each a filter; without them where the result is above 0.
    Convolution(const Path& path, const Options& options, const uint64_t* weights, const float* scale,
                const float* shift, const int32_t* flip = nullptr, const int32_t* limit = nullptr);

    const Options& options() const { return options_; }
    const Path& path() const { return path_; }
    size_t words() const { return layer_.words; }

    // How many outputs an input of this length gives along an axis; 0 if the window does not fit.
    size_t out_height(size_t height) const { return out_length(height, layer_.rows, layer_.stride_y); }
    size_t out_width(size_t width) const { return out_length(width, layer_.columns, layer_.stride_x); }

    // One of `reals` (B, H, W, C) and `bits` (B, H, W, words) goes in.
    void run(const float* reals, const uint64_t* bits, size_t pictures, size_t height, size_t width,
             const Outcome& outcome, int threads) const;

private:
    size_t out_length(size_t length, size_t taps, size_t stride) const;
    struct Views;
    std::shared_ptr<const Views> views(size_t height, size_t width) const;
    std::shared_ptr<const Views> made_views(size_t height, size_t width) const;

    struct Free {
        void operator()(void* memory) const;
    };
    template <class T>
    using Aligned = std::unique_ptr<T[], Free>;
    template <class T>
    static Aligned<T> aligned(size_t count);

    const Path& path_;
    Options options_;
    Layer layer_{};
    size_t padded_;                           // filters up to a whole block
    Aligned<uint32_t> weights_;
    Aligned<float> scale_, shift_;
    Aligned<int32_t> flip_, limit_;
    // Of the size that was last seen: what every core reads stays in its cache, and is not made again.
    mutable std::mutex lock_;
    mutable std::shared_ptr<const Views> latest_;
    Aligned<int32_t> ones_;                   // (kh * kw, padded_): how many bits of each tap are 1; only if !ternary
};

}  // namespace lookonce

#endif
