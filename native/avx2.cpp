// x86-64 with AVX2. Bits are counted by looking up each half of a byte (vpshufb), and summed in bytes.

#include <immintrin.h>

#include "blocked.h"

namespace lookonce {
namespace {

struct V {
    using Lanes = __m256i;
    static constexpr size_t lanes = 8, vectors = 4, block = 32, pixels = 1, most = 31;      // 31 x 8 < 256

    static Lanes zero() { return _mm256_setzero_si256(); }
    static Lanes load(const uint32_t* at) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }
    static Lanes broadcast(uint32_t word) { return _mm256_set1_epi32(int(word)); }
    static void store(void* at, Lanes lanes) { _mm256_storeu_si256(static_cast<__m256i*>(at), lanes); }

    static void count(Lanes& bytes, Lanes bits, Lanes weight) {
        const __m256i ones = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4
        );
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i differing = _mm256_xor_si256(bits, weight);
        const __m256i below = _mm256_shuffle_epi8(ones, _mm256_and_si256(differing, low));
        const __m256i above = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(differing, 4), low));
        bytes = _mm256_add_epi8(bytes, _mm256_add_epi8(below, above));
    }

    static Lanes add_bytes(Lanes sum, Lanes bytes) {
        const __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

    struct PerFilter {
        Lanes base;
        __m256 scale, shift;

        PerFilter(const int32_t* base_at, const float* scale_at, const float* shift_at)
            : base(whole(base_at)), scale(_mm256_load_ps(scale_at)), shift(_mm256_load_ps(shift_at)) {}

        Lanes sum(Lanes differing) const { return _mm256_sub_epi32(_mm256_sub_epi32(base, differing), differing); }

        template <Activation A, bool Scaled>
        void store_real(void* at, Lanes differing, float factor, const float* added) const {
            __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum(differing)), scale);
            if constexpr (Scaled) value = _mm256_mul_ps(value, _mm256_set1_ps(factor));
            value = _mm256_add_ps(value, shift);
            if constexpr (A == Activation::leaky) value = _mm256_max_ps(value, _mm256_mul_ps(value, _mm256_set1_ps(LEAK)));
            if constexpr (A == Activation::relu) value = _mm256_max_ps(_mm256_setzero_ps(), value);
            if (added != nullptr) value = _mm256_add_ps(value, _mm256_loadu_ps(added));
            _mm256_storeu_ps(static_cast<float*>(at), value);
        }
    };

    struct PerLimit {
        Lanes base, flip, limit;

        PerLimit(const int32_t* base_at, const int32_t* flip_at, const int32_t* limit_at)
            : base(whole(base_at)), flip(whole(flip_at)), limit(whole(limit_at)) {}

        uint64_t reached(Lanes differing) const {
            const Lanes sum = _mm256_sub_epi32(_mm256_sub_epi32(base, differing), differing);
            const Lanes below = _mm256_cmpgt_epi32(limit, _mm256_xor_si256(sum, flip));
            return uint8_t(~_mm256_movemask_ps(_mm256_castsi256_ps(below)));
        }
    };

    static __m256i whole(const int32_t* at) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }
};

template <bool Scaled, bool Magnitude>
void pack_each(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    const size_t count = (channels + WORD - 1) / WORD;
    const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f);
    for (size_t p = 0; p < pixels; ++p, values += channels, words += count) {
        __m256 sums[2] = {zero, zero};
        uint64_t bits = 0;
        const auto take = [&](size_t i, const float* from, const float* scale, const float* shift) {
            __m256 value = _mm256_loadu_ps(from);
            if constexpr (Scaled) {
                value = _mm256_add_ps(_mm256_mul_ps(value, _mm256_loadu_ps(scale)), _mm256_loadu_ps(shift));
            }
            if constexpr (Magnitude) sums[i / 8 % 2] = _mm256_add_ps(sums[i / 8 % 2], _mm256_andnot_ps(sign, value));
            bits |= uint64_t(unsigned(_mm256_movemask_ps(_mm256_cmp_ps(value, zero, _CMP_GT_OQ)))) << i % WORD;
        };
        size_t i = 0;
        for (; i + 8 <= channels; i += 8) {
            take(i, values + i, Scaled ? as.scale + i : nullptr, Scaled ? as.shift + i : nullptr);
            if (i % WORD == WORD - 8) {
                words[i / WORD] = bits;
                bits = 0;
            }
        }
        if (i < channels) {
            float last[3][8] = {};
            memcpy(last[0], values + i, (channels - i) * sizeof(float));
            if constexpr (Scaled) memcpy(last[1], as.scale + i, (channels - i) * sizeof(float));
            if constexpr (Scaled) memcpy(last[2], as.shift + i, (channels - i) * sizeof(float));
            take(i, last[0], last[1], last[2]);
        }
        if (channels % WORD != 0) words[count - 1] = bits;
        if constexpr (Magnitude) {
            const __m256 eight = _mm256_add_ps(sums[0], sums[1]);
            __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
            four = _mm_add_ps(four, _mm_movehl_ps(four, four));
            four = _mm_add_ss(four, _mm_movehdup_ps(four));
            as.magnitude[p] = _mm_cvtss_f32(four);
        }
    }
}

void pack(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    if (as.scale != nullptr && as.magnitude != nullptr) return pack_each<true, true>(values, pixels, channels, words, as);
    if (as.scale != nullptr) return pack_each<true, false>(values, pixels, channels, words, as);
    if (as.magnitude != nullptr) return pack_each<false, true>(values, pixels, channels, words, as);
    pack_each<false, false>(values, pixels, channels, words, as);
}

}  // namespace

extern const Path avx2 = {"avx2", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
