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

// Writes the sums of pixels where they belong: as they are, as floats after the activation A, or as bits.
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
        factor_ = call.factor;
        residual_ = call.residual == nullptr ? nullptr : call.residual + first;
        count_bytes_ = left > V::block ? V::block / 8 : bytes - first / 8;       // the last block fills the word up
    }

    // P pixels at a time: what belongs to a filter is loaded once for all of them.
    template <int P>
    void operator()(
        const size_t (&places)[V::pixels], const typename V::Lanes (&differing)[P][F], const int32_t* base
    ) const {
        if constexpr (R == Result::bits) {
            write_bits(places, differing, base);
        } else if (count_ != wide) {
            typename V::Lanes copy[P][F];     // whose address is known elsewhere cannot stay in registers
            #pragma GCC unroll 8
            for (int p = 0; p < P; ++p)
                #pragma GCC unroll 8
                for (int f = 0; f < F; ++f) copy[p][f] = differing[p][f];
            write_last(places, copy, base);
        } else if (factor_ == nullptr) {
            write<false>(places, differing, base);
        } else {
            write<true>(places, differing, base);
        }
    }

private:
    static constexpr size_t wide = size_t(F) * V::lanes;

    template <bool Scaled, int P>
    INLINE void write(
        const size_t (&places)[V::pixels], const typename V::Lanes (&differing)[P][F], const int32_t* base
    ) const {
        // All of a pixel in a row: stores to one place after the other are faster than to several in turn.
        const auto each = [&](const auto&... filters) {
            #pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                unsigned char* to = out_ + places[p] * step_;
                const float factor = Scaled ? factor_[places[p]] : 1;
                const float* added = nullptr;
                if (R == Result::reals && residual_ != nullptr) added = residual_ + places[p] * (step_ / 4);
                int f = 0;
                (write_one<Scaled>(to, differing[p], f++, filters, factor, added), ...);
            }
        };
        if constexpr (F == 1) each(filter_at(base, 0));
        if constexpr (F == 2) each(filter_at(base, 0), filter_at(base, 1));
        if constexpr (F == 3) each(filter_at(base, 0), filter_at(base, 1), filter_at(base, 2));
        if constexpr (F == 4) each(filter_at(base, 0), filter_at(base, 1), filter_at(base, 2), filter_at(base, 3));
    }

    INLINE typename V::PerFilter filter_at(const int32_t* base, int f) const {
        const size_t at = size_t(f) * V::lanes;
        return typename V::PerFilter(base + at, scale_ + at, shift_ + at);
    }

    template <bool Scaled>
    INLINE void write_one(
        unsigned char* to, const typename V::Lanes (&differing)[F], int f, const typename V::PerFilter& filter,
        float factor, const float* added
    ) const {
        const size_t at = size_t(f) * V::lanes;
        if constexpr (R == Result::counts) {
            V::store(to + 4 * at, filter.sum(differing[f]));
        } else {
            filter.template store_real<A, Scaled>(to + 4 * at, differing[f], factor, added ? added + at : nullptr);
        }
    }

    // The last filters, which do not fill their vectors: by way of memory of their own.
    template <int P>
    NOINLINE void write_last(
        const size_t (&places)[V::pixels], const typename V::Lanes (&differing)[P][F], const int32_t* base
    ) const {
        for (int p = 0; p < P; ++p) {
            unsigned char some[wide * 4];
            float added[wide] = {};
            const bool adds = R == Result::reals && residual_ != nullptr;
            if (adds) memcpy(added, residual_ + places[p] * (step_ / 4), count_ * 4);
            #pragma GCC unroll 8
            for (int f = 0; f < F; ++f) {
                const size_t at = size_t(f) * V::lanes;
                const typename V::PerFilter filter(base + at, scale_ + at, shift_ + at);
                if constexpr (R == Result::counts) {
                    V::store(some + 4 * at, filter.sum(differing[p][f]));
                } else {
                    const float factor = factor_ == nullptr ? 1 : factor_[places[p]];
                    const float* more = adds ? added + at : nullptr;
                    filter.template store_real<A, true>(some + 4 * at, differing[p][f], factor, more);
                }
            }
            memcpy(out_ + places[p] * step_, some, count_ * 4);
        }
    }

    template <int P>
    INLINE void write_bits(
        const size_t (&places)[V::pixels], const typename V::Lanes (&differing)[P][F], const int32_t* base
    ) const {
        uint64_t bits[P] = {};
        #pragma GCC unroll 8
        for (int f = 0; f < F; ++f) {
            const size_t at = size_t(f) * V::lanes;
            const typename V::PerLimit limit(base + at, flip_ + at, limit_ + at);
            #pragma GCC unroll 8
            for (int p = 0; p < P; ++p) bits[p] |= limit.reached(differing[p][f]) << at;
        }
        #pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            unsigned char* out = out_ + places[p] * step_;
            if (count_bytes_ == 8) {
                memcpy(out, &bits[p], 8);
            } else {
                memcpy(out, &bits[p], count_bytes_);
            }
        }
    }

    unsigned char* out_;
    size_t step_, count_, count_bytes_;
    const float *scale_, *shift_, *factor_, *residual_;
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

template <class V, int P, int F>
INLINE void set_zero(typename V::Lanes (&counts)[P][F]) {
    #pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
        #pragma GCC unroll 8
        for (int f = 0; f < F; ++f) counts[p][f] = V::zero();
}

// Counts of bytes to those of lanes.
template <class V, int P, int F>
INLINE void add_bytes(typename V::Lanes (&total)[P][F], const typename V::Lanes (&bytes)[P][F]) {
    #pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
        #pragma GCC unroll 8
        for (int f = 0; f < F; ++f) total[p][f] = V::add_bytes(total[p][f], bytes[p][f]);
}

// P pixels and F vectors of filters: counts the bits that differ, over all words that they share.
template <class V, int P, int F, class Finished>
INLINE void pixels_by_filters(
    const Half* const (&pixels)[V::pixels], const size_t (&places)[V::pixels], const View& view,
    const uint32_t* weights, const int32_t* base, const Finished& finish
) {
    using Lanes = typename V::Lanes;
    Lanes total[P][F], bytes[P][F];           // where most > 0 bits are counted in bytes first, at most so many steps
    set_zero<V>(total);
    set_zero<V>(bytes);
    size_t room = V::most;
    const Segment* const end = view.segments + view.segment_count;
    for (const Segment* segment = view.segments; segment != end; ++segment) {
        const uint32_t* w = weights + segment->weights * (F * V::lanes);
        const Half* at[P];
        #pragma GCC unroll 8
        for (int p = 0; p < P; ++p) at[p] = pixels[p] + segment->picture;
        if constexpr (V::most == 0) {
            for (size_t k = 0; k < view.run; ++k) step<V>(at, k, w, total);
        } else {
            for (size_t k = 0; k < view.run;) {
                if (room == 0) {
                    add_bytes<V>(total, bytes);
                    set_zero<V>(bytes);
                    room = V::most;
                }
                const size_t stop = view.run - k > room ? k + room : view.run;
                room -= stop - k;
                for (; k < stop; ++k) step<V>(at, k, w, bytes);
            }
        }
    }
    if constexpr (V::most != 0) add_bytes<V>(total, bytes);
    finish(places, total, base);
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

// The sum of 16 parts, by halves.
inline float sum_of_parts(float (&parts)[16]) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
    return parts[0];
}

// Any packing, a value at a time.
inline void pack_as(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    for (size_t p = 0; p < pixels; ++p, values += channels, words += (channels + WORD - 1) / WORD) {
        float parts[16] = {};
        uint64_t bits = 0;
        for (size_t i = 0; i < channels; ++i) {
            const float value = as.scale == nullptr ? values[i] : values[i] * as.scale[i] + as.shift[i];
            parts[i % 16] += value < 0 ? -value : value;
            bits |= uint64_t(value > 0) << i % WORD;
            if (i % WORD == WORD - 1 || i + 1 == channels) {
                words[i / WORD] = bits;
                bits = 0;
            }
        }
        if (as.magnitude != nullptr) as.magnitude[p] = sum_of_parts(parts);
    }
}

}  // namespace
}  // namespace lookonce

#endif
