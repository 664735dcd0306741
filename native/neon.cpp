// ARM, 64 bits: CNT counts the bits of each byte, and bytes are summed.

#include <arm_neon.h>

#include "blocked.h"

namespace lookonce {
namespace {

struct V {
    using Lanes = uint32x4_t;
    static constexpr size_t lanes = 4, vectors = 4, block = 16, pixels = 2, most = 31;      // 31 x 8 < 256

    static Lanes zero() { return vdupq_n_u32(0); }
    static Lanes load(const uint32_t* at) { return vld1q_u32(at); }
    static Lanes broadcast(uint32_t word) { return vdupq_n_u32(word); }
    static void store(void* at, Lanes lanes) { vst1q_u32(static_cast<uint32_t*>(at), lanes); }

    static void count(Lanes& bytes, Lanes bits, Lanes weight) {
        const uint8x16_t each = vcntq_u8(vreinterpretq_u8_u32(veorq_u32(bits, weight)));
        bytes = vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(bytes), each));
    }

    static Lanes add_bytes(Lanes sum, Lanes bytes) {
        return vpadalq_u16(sum, vpaddlq_u8(vreinterpretq_u8_u32(bytes)));
    }

    struct PerFilter {
        Lanes base;
        float32x4_t scale, shift;

        PerFilter(const int32_t* base_at, const float* scale_at, const float* shift_at)
            : base(vreinterpretq_u32_s32(vld1q_s32(base_at))), scale(vld1q_f32(scale_at)), shift(vld1q_f32(shift_at)) {}

        Lanes sum(Lanes differing) const { return vsubq_u32(base, vshlq_n_u32(differing, 1)); }

        template <Activation A, bool Scaled>
        void store_real(void* at, Lanes differing, float factor, const float* added) const {
            float32x4_t value = vmulq_f32(vcvtq_f32_s32(vreinterpretq_s32_u32(sum(differing))), scale);
            if constexpr (Scaled) value = vmulq_n_f32(value, factor);
            value = vaddq_f32(value, shift);
            if constexpr (A == Activation::leaky) value = vmaxq_f32(value, vmulq_n_f32(value, LEAK));
            if constexpr (A == Activation::relu) value = vmaxq_f32(value, vdupq_n_f32(0));
            if (added != nullptr) value = vaddq_f32(value, vld1q_f32(added));
            vst1q_f32(static_cast<float*>(at), value);
        }
    };

    struct PerLimit {
        Lanes base;
        int32x4_t flip, limit;

        PerLimit(const int32_t* base_at, const int32_t* flip_at, const int32_t* limit_at)
            : base(vreinterpretq_u32_s32(vld1q_s32(base_at))), flip(vld1q_s32(flip_at)), limit(vld1q_s32(limit_at)) {}

        uint64_t reached(Lanes differing) const {
            const int32x4_t sum = vreinterpretq_s32_u32(vsubq_u32(base, vshlq_n_u32(differing, 1)));
            const uint32x4_t yes = vcgeq_s32(veorq_s32(sum, flip), limit);
            const uint32_t places[4] = {1, 2, 4, 8};
            return vaddvq_u32(vandq_u32(yes, vld1q_u32(places)));
        }
    };
};

void pack(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    if (as.scale != nullptr || as.magnitude != nullptr) return pack_as(values, pixels, channels, words, as);
    const size_t count = (channels + WORD - 1) / WORD;
    const uint32_t places[4] = {1, 2, 4, 8};
    const uint32x4_t place = vld1q_u32(places);
    const float32x4_t zero = vdupq_n_f32(0);
    for (size_t p = 0; p < pixels; ++p, values += channels, words += count) {
        size_t i = 0;
        for (; i + WORD <= channels; i += WORD) {
            uint64_t bits = 0;
            for (size_t j = 0; j < WORD; j += 4) {
                const uint32x4_t above = vcgtq_f32(vld1q_f32(values + i + j), zero);
                bits |= uint64_t(vaddvq_u32(vandq_u32(above, place))) << j;
            }
            words[i / WORD] = bits;
        }
        pack_rest(values, i, channels, words);
    }
}

}  // namespace

extern const Path neon = {"neon", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
