// What a binary convolution is, in plain structs: prepared once, read by every thread.
//
// Bits are little-endian: channel i of a pixel is bit i % 64 of its word i / 64, 1 for a value above 0. Bits beyond the
// last channel are 0 in pictures and in weights, so that their exclusive or counts nothing.

#ifndef LOOKONCE_LAYER_H
#define LOOKONCE_LAYER_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the order of bits in a word is that of little-endian processors"
#endif

namespace lookonce {

// A part of a word in memory that is written and read as whole words too.
#if defined(__GNUC__)
typedef uint32_t __attribute__((may_alias)) Half;
typedef uint16_t __attribute__((may_alias)) Quarter;
#else
typedef uint32_t Half;
typedef uint16_t Quarter;
#endif

enum class Activation { linear, leaky, relu };      // NaN stays NaN
enum class Result { counts, reals, bits };

constexpr float LEAK = 0.1f;
constexpr size_t WORD = 64;
constexpr size_t MOST_BLOCK = 64;             // filters that a path takes at a time: a block is a part of a word

struct Layer {
    size_t filters, rows, columns;            // of the kernel: O, kh, kw
    size_t channels, words;                   // of a pixel that goes in: C, and 64-bit words
    size_t stride_y, stride_x, padding, dilation;
    Activation activation;

    // By blocks of filters, then tap, then 32 channels, then filter (blocked.h); 64-byte aligned.
    const uint32_t* weights;
    // One value a filter, up to a whole block:
    const float* scale;
    const float* shift;
    const int32_t* flip;                      // a bit is 1 where (sum ^ flip) >= limit
    const int32_t* limit;
};

// A run of neighbouring words that a pixel and a filter share.
struct Segment {
    ptrdiff_t picture;                        // in words of 32 channels, from the first word that the pixel sees
    size_t weights;                           // in words of 32 channels, from the filter's first
};

// Outputs that see the same taps: rows y .. y_end - 1, columns x .. x_end - 1 of every picture.
struct View {
    size_t y, y_end, x, x_end;
    ptrdiff_t start;                          // of the first word that output (y, x) sees, from the picture's first
    const Segment* segments;
    size_t segment_count, run;                // `run` words in each segment
    const int32_t* base;                      // one a filter: what the sum is if no bit differs
};

struct Call {
    size_t height, width;                     // of what goes in
    size_t out_height, out_width;
    const uint64_t* bits;
    void* out;
    Result result;
    const float* factor;                      // reals alone: one a place that comes out, times the scaled sum; or null
    const float* residual;                    // reals alone: as many as come out, added at the end; or null
    const View* views;
    size_t view_count;
};

// A part of a call: these rows of one picture, this block of filters.
struct Unit {
    size_t picture, row_begin, row_end, block;
};

// What values become before their signs are taken.
struct Packing {
    const float* scale;                       // value * scale + shift, one each a channel; null: as they are
    const float* shift;
    float* magnitude;                         // one a pixel: the sum of |value|; null if not wanted
};

// One way to compute, for one kind of processor.
struct Path {
    const char* name;
    size_t lanes, block;                      // filters in a vector, and in a block
    // Magnitudes are summed in 16 parts, part i the channels i, i + 16, ..., and the parts by halves: the same floats
    // on every path.
    void (*pack)(const float* values, size_t pixels, size_t channels, uint64_t* words, const Packing& as);
    void (*convolve)(const Layer& layer, const Call& call, const Unit& unit);
};

}  // namespace lookonce

#endif
