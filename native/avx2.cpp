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

    static Lanes signed_sum(Lanes differing, const int32_t* base) {
        return _mm256_sub_epi32(_mm256_sub_epi32(whole(base), differing), differing);
    }

    template <Activation A>
    static void store_real(void* at, Lanes sum, const float* scale, const float* shift) {
        const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_load_ps(scale));
        __m256 value = _mm256_add_ps(product, _mm256_load_ps(shift));
        if constexpr (A == Activation::leaky) value = _mm256_max_ps(value, _mm256_mul_ps(value, _mm256_set1_ps(LEAK)));
        if constexpr (A == Activation::relu) value = _mm256_max_ps(value, _mm256_setzero_ps());
        _mm256_storeu_ps(static_cast<float*>(at), value);
    }

    static uint64_t reached(Lanes sum, const int32_t* flip, const int32_t* limit) {
        const __m256i below = _mm256_cmpgt_epi32(whole(limit), _mm256_xor_si256(sum, whole(flip)));
        return uint8_t(~_mm256_movemask_ps(_mm256_castsi256_ps(below)));
    }

    static __m256i whole(const int32_t* at) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }
};

void pack(const float* values, size_t pixels, size_t channels, uint64_t* words) {
    const size_t count = (channels + WORD - 1) / WORD;
    const __m256 zero = _mm256_setzero_ps();
    for (size_t p = 0; p < pixels; ++p, values += channels, words += count) {
        size_t i = 0;
        for (; i + WORD <= channels; i += WORD) {
            uint64_t bits = 0;
            for (size_t j = 0; j < WORD; j += 8) {
                const __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(values + i + j), zero, _CMP_GT_OQ);
                bits |= uint64_t(unsigned(_mm256_movemask_ps(above))) << j;
            }
            words[i / WORD] = bits;
        }
        pack_rest(values, i, channels, words);
    }
}

}  // namespace

extern const Path avx2 = {"avx2", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
