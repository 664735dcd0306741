// What bench/binary_conv.py and `lookonce bench binary` compare with: a convolution as matrix product in three plain
// loops, the way Darknet's CPU code goes about it (im2col, then gemm in the order i, k, j), and how fast this processor
// counts bits at most.

#include <stddef.h>
#include <string.h>

#include <chrono>

#if defined(__GNUC__) && defined(__x86_64__)
#define CAN_MEASURE 1
#else
#define CAN_MEASURE 0
#endif

namespace {

// Each column holds the pixels that one output sees; x is (C, H, W), columns (C * k * k, H' * W').
void spread(const float* x, int channels, int height, int width, int size, int stride, int pad, float* columns) {
    const int rows = (height + 2 * pad - size) / stride + 1, across = (width + 2 * pad - size) / stride + 1;
    for (int c = 0; c < channels; ++c)
        for (int dy = 0; dy < size; ++dy)
            for (int dx = 0; dx < size; ++dx)
                for (int y = 0; y < rows; ++y)
                    for (int z = 0; z < across; ++z) {
                        const int row = y * stride + dy - pad, column = z * stride + dx - pad;
                        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
                        *columns++ = inside ? x[(c * height + row) * width + column] : 0;
                    }
}

// c (M, N) += a (M, K) times b (K, N).
void multiply(int m, int n, int k, const float* a, const float* b, float* c) {
    for (int i = 0; i < m; ++i)
        for (int p = 0; p < k; ++p) {
            const float each = a[i * k + p];
            for (int j = 0; j < n; ++j) c[i * n + j] += each * b[p * n + j];
        }
}

}  // namespace

extern "C" {

// A convolution of one picture: weights (O, C * k * k), columns as memory for `spread`, out (O, H' * W').
void im2col_gemm(
    const float* x, const float* weights, int channels, int height, int width, int filters, int size, int stride,
    int pad, float* columns, float* out
) {
    const int rows = (height + 2 * pad - size) / stride + 1, across = (width + 2 * pad - size) / stride + 1;
    memset(out, 0, sizeof(float) * size_t(filters) * size_t(rows * across));
    spread(x, channels, height, width, size, stride, pad, columns);
    multiply(filters, rows * across, channels * size * size, weights, columns, out);
}

// Products of single bits a second, in registers only: exclusive or, population count and sum, of 512 bits, in twelve
// chains. 0 where the processor cannot.
double peak_products() {
#if CAN_MEASURE
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vpopcntdq")) return 0;
    constexpr int turns = 500, chains = 12;
    const auto start = std::chrono::steady_clock::now();
#define CHAIN(sum, each) \
    "vpxord %%zmm30, %%zmm31, %%zmm" #each "\n\tvpopcntd %%zmm" #each ", %%zmm" #each "\n\t" \
    "vpaddd %%zmm" #each ", %%zmm" #sum ", %%zmm" #sum "\n\t"
    asm volatile(
        "mov %0, %%eax\n\t"
        "1:\n\t" CHAIN(0, 16) CHAIN(1, 17) CHAIN(2, 18) CHAIN(3, 19) CHAIN(4, 20) CHAIN(5, 21) CHAIN(6, 22) CHAIN(7, 23)
        CHAIN(8, 24) CHAIN(9, 25) CHAIN(10, 26) CHAIN(11, 27)
        "dec %%eax\n\tjnz 1b\n\tvzeroupper"
        :
        : "i"(turns)
        : "eax", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
    );
#undef CHAIN
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return double(turns) * chains * 512 / took.count();
#else
    return 0;
#endif
}

// The same by looking up each half of a byte and summing in bytes, which is what AVX2 has for it.
double peak_products_avx2() {
#if CAN_MEASURE
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return 0;
    constexpr int turns = 500, chains = 4;
    const auto start = std::chrono::steady_clock::now();
#define CHAIN(sum, low, high) \
    "vpxor %%ymm12, %%ymm13, %%ymm" #low "\n\tvpsrlw $4, %%ymm" #low ", %%ymm" #high "\n\t" \
    "vpand %%ymm14, %%ymm" #low ", %%ymm" #low "\n\tvpand %%ymm14, %%ymm" #high ", %%ymm" #high "\n\t" \
    "vpshufb %%ymm" #low ", %%ymm15, %%ymm" #low "\n\tvpshufb %%ymm" #high ", %%ymm15, %%ymm" #high "\n\t" \
    "vpaddb %%ymm" #low ", %%ymm" #high ", %%ymm" #low "\n\tvpaddb %%ymm" #low ", %%ymm" #sum ", %%ymm" #sum "\n\t"
    asm volatile(
        "mov %0, %%eax\n\t"
        "1:\n\t" CHAIN(0, 4, 5) CHAIN(1, 6, 7) CHAIN(2, 8, 9) CHAIN(3, 10, 11)
        "dec %%eax\n\tjnz 1b\n\tvzeroupper"
        :
        : "i"(turns)
        : "eax", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
    );
#undef CHAIN
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return double(turns) * chains * 256 / took.count();
#else
    return 0;
#endif
}
}
