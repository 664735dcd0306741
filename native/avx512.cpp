// x86-64 with AVX-512 and VPOPCNTDQ: Ice Lake, Zen 4 and later.

#include <immintrin.h>

#include "blocked.h"

namespace lookonce {
namespace {

struct V {
    using Lanes = __m512i;
    static constexpr size_t lanes = 16, vectors = 4, block = 64, pixels = 3, most = 0;

    static Lanes zero() { return _mm512_setzero_si512(); }
    static Lanes load(const uint32_t* at) { return _mm512_load_si512(at); }
    static Lanes broadcast(uint32_t word) { return _mm512_set1_epi32(int(word)); }
    static void store(void* at, Lanes lanes) { _mm512_storeu_si512(at, lanes); }

    // In assembly, since gcc 12 otherwise copies its sums from register to register at every step.
    static void count(Lanes& sum, Lanes bits, Lanes weight) {
        Lanes each;
        asm("vpxord %2, %3, %1\n\tvpopcntd %1, %1\n\tvpaddd %1, %0, %0"
            : "+v"(sum), "=&v"(each)
            : "v"(bits), "v"(weight));
    }

    struct PerFilter {
        Lanes base;
        __m512 start, scale, shift;

        PerFilter(const int32_t* base_at, const float* scale_at, const float* shift_at)
            : base(_mm512_load_si512(base_at)), start(_mm512_cvtepi32_ps(base)), scale(_mm512_load_ps(scale_at)),
              shift(_mm512_load_ps(shift_at)) {}

        Lanes sum(Lanes differing) const { return _mm512_sub_epi32(_mm512_sub_epi32(base, differing), differing); }

        template <Activation A, bool Scaled>
        void store_real(void* at, Lanes differing, float factor, const float* added) const {
            // One instruction for a whole number below 2^24: nothing is rounded.
            const __m512 sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(differing), _mm512_set1_ps(2), start);
            __m512 value = _mm512_mul_ps(sum, scale);
            if constexpr (Scaled) value = _mm512_mul_ps(value, _mm512_set1_ps(factor));
            value = _mm512_add_ps(value, shift);
            if constexpr (A == Activation::leaky) value = _mm512_max_ps(value, _mm512_mul_ps(value, _mm512_set1_ps(LEAK)));
            if constexpr (A == Activation::relu) value = _mm512_max_ps(_mm512_setzero_ps(), value);
            if (added != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(added));
            _mm512_storeu_ps(at, value);
        }
    };

    struct PerLimit {
        Lanes base, flip, limit;

        PerLimit(const int32_t* base_at, const int32_t* flip_at, const int32_t* limit_at)
            : base(_mm512_load_si512(base_at)), flip(_mm512_load_si512(flip_at)), limit(_mm512_load_si512(limit_at)) {}

        uint64_t reached(Lanes differing) const {
            const Lanes sum = _mm512_sub_epi32(_mm512_sub_epi32(base, differing), differing);
            return _mm512_cmpge_epi32_mask(_mm512_xor_si512(sum, flip), limit);
        }
    };
};

template <bool Scaled, bool Magnitude>
void pack_each(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as) {
    const size_t count = (channels + WORD - 1) / WORD;
    const __m512 zero = _mm512_setzero_ps();
    for (size_t p = 0; p < pixels; ++p, values += channels, words += count) {
        Quarter* parts = reinterpret_cast<Quarter*>(words);
        __m512 sums = zero;
        const auto take = [&](size_t i, __mmask16 some) {
            __m512 value = _mm512_maskz_loadu_ps(some, values + i);
            if constexpr (Scaled) {
                const __m512 product = _mm512_mul_ps(value, _mm512_maskz_loadu_ps(some, as.scale + i));
                value = _mm512_add_ps(product, _mm512_maskz_loadu_ps(some, as.shift + i));
            }
            if constexpr (Magnitude) sums = _mm512_add_ps(sums, _mm512_abs_ps(value));
            *parts++ = uint16_t(_mm512_cmp_ps_mask(value, zero, _CMP_GT_OQ));
        };
        size_t i = 0;
        for (; i + 16 <= channels; i += 16) take(i, 0xffff);
        if (i < channels) take(i, __mmask16((1u << (channels - i)) - 1));
        while (parts < reinterpret_cast<Quarter*>(words + count)) *parts++ = 0;
        if constexpr (Magnitude) {
            const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
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
    const bool whole = channels % WORD == 0;          // no pixel ends inside a word: all are one
    pack_each<false, false>(values, whole ? 1 : pixels, whole ? channels * pixels : channels, words, as);
}

}  // namespace

extern const Path avx512 = {"avx512", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
