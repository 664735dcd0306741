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

    static Lanes signed_sum(Lanes differing, const int32_t* base) {
        return _mm512_sub_epi32(_mm512_sub_epi32(_mm512_load_si512(base), differing), differing);
    }

    template <Activation A>
    static void store_real(void* at, Lanes sum, const float* scale, const float* shift) {
        const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(scale));
        __m512 value = _mm512_add_ps(product, _mm512_load_ps(shift));
        if constexpr (A == Activation::leaky) value = _mm512_max_ps(value, _mm512_mul_ps(value, _mm512_set1_ps(LEAK)));
        if constexpr (A == Activation::relu) value = _mm512_max_ps(value, _mm512_setzero_ps());
        _mm512_storeu_ps(at, value);
    }

    static uint64_t reached(Lanes sum, const int32_t* flip, const int32_t* limit) {
        return _mm512_cmpge_epi32_mask(_mm512_xor_si512(sum, _mm512_load_si512(flip)), _mm512_load_si512(limit));
    }
};

void pack(const float* values, size_t pixels, size_t channels, uint64_t* words) {
    if (channels % WORD == 0) {                       // no pixel ends inside a word
        channels *= pixels;
        pixels = 1;
    }
    const size_t count = (channels + WORD - 1) / WORD;
    const __m512 zero = _mm512_setzero_ps();
    for (size_t p = 0; p < pixels; ++p, values += channels, words += count) {
        Quarter* parts = reinterpret_cast<Quarter*>(words);
        size_t i = 0;
        for (; i + 16 <= channels; i += 16) {
            *parts++ = uint16_t(_mm512_cmp_ps_mask(_mm512_loadu_ps(values + i), zero, _CMP_GT_OQ));
        }
        if (i < channels) {
            const __mmask16 some = __mmask16((1u << (channels - i)) - 1);
            const __m512 last = _mm512_maskz_loadu_ps(some, values + i);
            *parts++ = uint16_t(_mm512_cmp_ps_mask(last, zero, _CMP_GT_OQ));
        }
        while (parts < reinterpret_cast<Quarter*>(words + count)) *parts++ = 0;
    }
}

}  // namespace

extern const Path avx512 = {"avx512", V::lanes, V::block, pack, convolve<V>};

}  // namespace lookonce
