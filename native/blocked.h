// The convolution, written once over a vector type; each path includes it, compiled for its own instructions.
//
// Everything here has internal linkage, and nothing of the standard library is used: a function that two paths share
// by name would be kept once, with the instructions of either.
//
// Weights stand as [block][tap][32 channels][filter of the block]: one vector holds the same 32 channels of `lanes`
// filters, and the word of the picture is broadcast to all of them. A block of V::pixels x F vectors of sums stays in
// registers over all taps. Pixels that see the same taps are taken together, wherever they stand, and taps outside the
// picture are not computed at all: for a border of zeros that is the exact result.

#ifndef LOOKONCE_BLOCKED_H
#define LOOKONCE_BLOCKED_H

#include <string.h>

#include "layer.h"

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#else
#define INLINE inline
#define NOINLINE
#endif

namespace lookonce {
namespace {

// Writes the sums of a pixel where they belong: as they are, as floats after the activation A, or as bits.
template <class V, int F, Result R, Activation A>
class Finish {
public:
    Finish(const Layer& layer, const Call& call, size_t block) {
        const size_t first = block * V::block, left = layer.filters - first;
        count_ = left < wide ? left : wide;
        scale_ = layer.scale + first;
        shift_ = layer.shift + first;
        flip_ = layer.flip + first;
        limit_ = layer.limit + first;
        const size_t bytes = (layer.filters + WORD - 1) / WORD * (WORD / 8);     // of a pixel's bits
        step_ = R == Result::bits ? bytes : layer.filters * 4;
        out_ = static_cast<unsigned char*>(call.out) + (R == Result::bits ? first / 8 : first * 4);
        count_bytes_ = left > V::block ? V::block / 8 : bytes - first / 8;       // the last block fills the word up
    }

    void operator()(size_t place, const typename V::Lanes (&differing)[F], const int32_t* base) const {
        unsigned char* out = out_ + place * step_;
        if constexpr (R == Result::bits) {
            uint64_t bits = 0;
            #pragma GCC unroll 8
            for (int f = 0; f < F; ++f) {
                const size_t at = size_t(f) * V::lanes;
                bits |= V::reached(V::signed_sum(differing[f], base + at), flip_ + at, limit_ + at) << at;
            }
            if (count_bytes_ == 8) {
                memcpy(out, &bits, 8);
            } else {
                memcpy(out, &bits, count_bytes_);
            }
        } else {
            unsigned char some[wide * 4];
            unsigned char* to = count_ == wide ? out : some;
            #pragma GCC unroll 8
            for (int f = 0; f < F; ++f) {
                const size_t at = size_t(f) * V::lanes;
                const typename V::Lanes sum = V::signed_sum(differing[f], base + at);
                if constexpr (R == Result::counts) {
                    V::store(to + 4 * at, sum);
                } else {
                    V::template store_real<A>(to + 4 * at, sum, scale_ + at, shift_ + at);
                }
            }
            if (count_ != wide) memcpy(out, some, count_ * 4);
        }
    }

private:
    static constexpr size_t wide = size_t(F) * V::lanes;

    unsigned char* out_;
    size_t step_, count_, count_bytes_;
    const float *scale_, *shift_;
    const int32_t *flip_, *limit_;
};

// One word of P pixels and F vectors of filters.
template <class V, int P, int F>
inline void step(const Half* const (&at)[P], size_t k, const uint32_t*& weights, typename V::Lanes (&sums)[P][F]) {
    typename V::Lanes weight[F];
    #pragma GCC unroll 8
    for (int f = 0; f < F; ++f) weight[f] = V::load(weights + f * V::lanes);
    weights += F * V::lanes;
    #pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
        const typename V::Lanes bits = V::broadcast(at[p][k]);
        #pragma GCC unroll 8
        for (int f = 0; f < F; ++f) V::count(sums[p][f], bits, weight[f]);
    }
}

// P pixels and F vectors of filters: counts the bits that differ, over all words that they share.
template <class V, int P, int F, class Finished>
INLINE void pixels_by_filters(
    const Half* const (&pixels)[V::pixels], const size_t (&places)[V::pixels], const View& view,
    const uint32_t* weights, const int32_t* base, const Finished& finish
) {
    using Lanes = typename V::Lanes;
    Lanes total[P][F];
    #pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
        #pragma GCC unroll 8
        for (int f = 0; f < F; ++f) total[p][f] = V::zero();
    const Segment* const end = view.segments + view.segment_count;
    for (const Segment* segment = view.segments; segment != end; ++segment) {
        const uint32_t* w = weights + segment->weights * (F * V::lanes);
        const Half* at[P];
        #pragma GCC unroll 8
        for (int p = 0; p < P; ++p) at[p] = pixels[p] + segment->picture;
        if constexpr (V::most == 0) {
            for (size_t k = 0; k < view.run; ++k) step<V>(at, k, w, total);
        } else {                              // counted in bytes, which hold so many steps
            for (size_t k = 0; k < view.run;) {
                const size_t stop = view.run - k > V::most ? k + V::most : view.run;
                Lanes bytes[P][F];
                #pragma GCC unroll 8
                for (int p = 0; p < P; ++p)
                    #pragma GCC unroll 8
                    for (int f = 0; f < F; ++f) bytes[p][f] = V::zero();
                for (; k < stop; ++k) step<V>(at, k, w, bytes);
                #pragma GCC unroll 8
                for (int p = 0; p < P; ++p)
                    #pragma GCC unroll 8
                    for (int f = 0; f < F; ++f) total[p][f] = V::add_bytes(total[p][f], bytes[p][f]);
            }
        }
    }
    #pragma GCC unroll 8
    for (int p = 0; p < P; ++p) finish(places[p], total[p], base);
}

// Less than a whole block of pixels, which ends a view.
template <class V, int P, int F, class Finished>
NOINLINE void few_by_filters(
    const Half* const (&pixels)[V::pixels], const size_t (&places)[V::pixels], const View& view,
    const uint32_t* weights, const int32_t* base, const Finished& finish
) {
    pixels_by_filters<V, P, F>(pixels, places, view, weights, base, finish);
}

// The part of a view that lies in a unit.
template <class V, int F, class Finished>
void rectangle(const Layer& layer, const Call& call, const Unit& unit, const View& view, const Finished& finish) {
    const size_t y = view.y > unit.row_begin ? view.y : unit.row_begin;
    const size_t y_end = view.y_end < unit.row_end ? view.y_end : unit.row_end;
    if (y >= y_end) return;
    const size_t words = 2 * layer.words;                                        // of 32 channels
    const size_t first = unit.block * V::block;
    const uint32_t* weights = layer.weights + first * layer.rows * layer.columns * words;
    const int32_t* base = view.base + first;

    const size_t across = view.x_end - view.x;
    const ptrdiff_t line = ptrdiff_t(layer.stride_y * call.width * words);
    const ptrdiff_t right = ptrdiff_t(layer.stride_x * words), down = line - ptrdiff_t(across) * right;
    const Half* at = reinterpret_cast<const Half*>(call.bits) + unit.picture * call.height * call.width * words +
                     view.start + ptrdiff_t(y - view.y) * line;
    size_t place = (unit.picture * call.out_height + y) * call.out_width + view.x;
    size_t x = 0;
    const Half* pixels[V::pixels] = {};
    size_t places[V::pixels] = {};
    for (size_t left = (y_end - y) * across; left > 0;) {
        const size_t now = left < V::pixels ? left : V::pixels;
        for (size_t p = 0; p < now; ++p) {
            pixels[p] = at;
            places[p] = place;
            at += right;
            ++place;
            if (++x == across) {
                x = 0;
                at += down;
                place += call.out_width - across;
            }
        }
        if (now == V::pixels) {
            pixels_by_filters<V, V::pixels, F>(pixels, places, view, weights, base, finish);
        } else if (now == 2) {
            few_by_filters<V, V::pixels < 2 ? 1 : 2, F>(pixels, places, view, weights, base, finish);
        } else {
            few_by_filters<V, 1, F>(pixels, places, view, weights, base, finish);
        }
        left -= now;
    }
}

template <class V, int F, Result R, Activation A>
void views_of(const Layer& layer, const Call& call, const Unit& unit) {
    const Finish<V, F, R, A> finish(layer, call, unit.block);
    for (size_t i = 0; i < call.view_count; ++i) rectangle<V, F>(layer, call, unit, call.views[i], finish);
}

template <class V, int F>
void views_of(const Layer& layer, const Call& call, const Unit& unit) {
    if (call.result == Result::bits) return views_of<V, F, Result::bits, Activation::linear>(layer, call, unit);
    if (call.result == Result::counts) return views_of<V, F, Result::counts, Activation::linear>(layer, call, unit);
    switch (layer.activation) {
        case Activation::linear: return views_of<V, F, Result::reals, Activation::linear>(layer, call, unit);
        case Activation::leaky: return views_of<V, F, Result::reals, Activation::leaky>(layer, call, unit);
        case Activation::relu: return views_of<V, F, Result::reals, Activation::relu>(layer, call, unit);
    }
}

template <class V>
void convolve(const Layer& layer, const Call& call, const Unit& unit) {
    static_assert(V::pixels <= 3 && V::vectors == 4 && V::block == V::vectors * V::lanes && V::block <= MOST_BLOCK, "");
    const size_t left = layer.filters - unit.block * V::block;
    switch (left >= V::block ? V::vectors : (left + V::lanes - 1) / V::lanes) {
        case 1: return views_of<V, 1>(layer, call, unit);
        case 2: return views_of<V, 2>(layer, call, unit);
        case 3: return views_of<V, 3>(layer, call, unit);
        default: return views_of<V, 4>(layer, call, unit);
    }
}

// The signs of a pixel's channels from number `first` on; NaN is not above 0.
inline void pack_rest(const float* values, size_t first, size_t channels, uint64_t* words) {
    for (; first < channels; first += WORD) {
        uint64_t bits = 0;
        const size_t end = channels - first < WORD ? channels - first : WORD;
        for (size_t i = 0; i < end; ++i) bits |= uint64_t(values[first + i] > 0) << i;
        words[first / WORD] = bits;
    }
}

}  // namespace
}  // namespace lookonce

#endif
