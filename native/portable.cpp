// Any processor: two filters of 32 channels side by side in 64 bits, counted by shifts and sums.

#include "blocked.h"

namespace lookonce {
namespace {

struct V {
    using Lanes = uint64_t;
    static constexpr size_t lanes = 2, vectors = 4, block = 8, pixels = 1, most = 31;       // 31 x 8 < 256

    static Lanes zero() { return 0; }
    static Lanes load(const uint32_t* at) {
        Lanes lanes;
        memcpy(&lanes, at, sizeof lanes);
        return lanes;
    }
    static Lanes broadcast(uint32_t word) { return uint64_t(word) << 32 | word; }
    static void store(void* at, Lanes lanes) { memcpy(at, &lanes, sizeof lanes); }

    static void count(Lanes& bytes, Lanes bits, Lanes weight) {
        Lanes x = bits ^ weight;
        x -= x >> 1 & 0x5555555555555555;
        x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
        bytes += (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
    }

    static Lanes add_bytes(Lanes sum, Lanes bytes) {
        bytes = (bytes & 0x00ff00ff00ff00ff) + (bytes >> 8 & 0x00ff00ff00ff00ff);
        return sum + (bytes & 0x0000ffff0000ffff) + (bytes >> 16 & 0x0000ffff0000ffff);
    }

    static int32_t sum_of(Lanes differing, size_t i, const int32_t* base) {
        return int32_t(uint32_t(base[i]) - 2 * uint32_t(differing >> 32 * i));
    }

    struct PerFilter {
        const int32_t* base;
        const float *scale, *shift;

        PerFilter(const int32_t* base_at, const float* scale_at, const float* shift_at)
            : base(base_at), scale(scale_at), shift(shift_at) {}

        Lanes sum(Lanes differing) const {
            return uint64_t(uint32_t(sum_of(differing, 1, base))) << 32 | uint32_t(sum_of(differing, 0, base));
        }

        template <Activation A, bool Scaled>
        void store_real(void* at, Lanes differing, float factor, const float* added) const {
            float values[lanes];
            for (size_t i = 0; i < lanes; ++i) {
                float value = float(sum_of(differing, i, base)) * scale[i];
                if (Scaled) value *= factor;
                value += shift[i];
                const float below = A == Activation::leaky ? value * LEAK : 0;
                values[i] = A != Activation::linear && value < below ? below : value;
                if (added != nullptr) values[i] += added[i];
            }
            memcpy(at, values, sizeof values);
        }
    };

    struct PerLimit {
        const int32_t *base, *flip, *limit;

        PerLimit(const int32_t* base_at, const int32_t* flip_at, const int32_t* limit_at)
            : base(base_at), flip(flip_at), limit(limit_at) {}

        uint64_t reached(Lanes differing) const {
            const uint64_t first = (sum_of(differing, 0, base) ^ flip[0]) >= limit[0];
            return first | uint64_t((sum_of(differing, 1, base) ^ flip[1]) >= limit[1]) << 1;
        }
    };
};

void pack(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    if (as.scale != nullptr || as.magnitude != nullptr) return pack_as(values, pixels, channels, words, as);
    const size_t count = (channels + WORD - 1) / WORD;
    for (size_t p = 0; p < pixels; ++p) pack_rest(values + p * channels, 0, channels, words + p * count);
}

}  // namespace

extern const Path portable = {"portable", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
