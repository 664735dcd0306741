#include "convolution.h"

#include <limits.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "pool.h"

namespace lookonce {
namespace {

constexpr size_t TILE_BYTES = 64 << 10;       // of bits that a block of filters passes over: they stay in the cache
constexpr size_t UNITS_A_THREAD = 4;
constexpr size_t MOST_SINGLE_TAPS = 64;
constexpr size_t MOST_SEGMENTS = 1 << 22, MOST_BASES = 1 << 25;      // 64 and 128 MiB: windows of hundreds of pixels

size_t ones_in(uint64_t word) {
    size_t count = 0;
    for (; word != 0; word &= word - 1) ++count;
    return count;
}

// The float arithmetic of a result: kept in variables so that no compiler fuses or widens it.
bool is_above_zero(int32_t sum, float scale, float shift) {
    const volatile float product = float(sum) * scale;
    const volatile float value = product + shift;
    return value > 0;
}

// A bit is 1 where scale * sum + shift > 0 as floats. That is monotonic in the sum, so a limit says the same exactly:
// (sum ^ flip) >= limit, where a flip of -1 turns the order round for a negative scale.
void find_limit(int32_t most, float scale, float shift, int32_t& flip, int32_t& limit) {
    flip = scale < 0 ? -1 : 0;
    int32_t low = -most, high = most + 1;     // the first place, in rising order of scale * sum, that is above 0
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (is_above_zero(scale < 0 ? -middle : middle, scale, shift)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (low > most) {
        flip = 0;
        limit = INT_MAX;                      // never
    } else {
        limit = scale < 0 ? low - 1 : low;    // sum <= -low means ~sum >= low - 1
    }
}

// Outputs begin .. end - 1 along one axis all see the taps first .. last - 1 inside the picture.
struct Span {
    size_t begin, end, first, last;
};

std::vector<Span> spans_along(
    size_t length, size_t taps, size_t stride, size_t padding, size_t dilation, size_t count
) {
    std::vector<Span> found;
    for (size_t i = 0; i < count; ++i) {
        const size_t start = i * stride;      // of the window, from `padding` places outside the edge
        size_t first = start >= padding ? 0 : std::min((padding - start + dilation - 1) / dilation, taps);
        size_t last = start >= padding + length ? 0 : std::min((padding + length - start - 1) / dilation + 1, taps);
        if (last <= first) first = last = 0;
        if (!found.empty() && found.back().first == first && found.back().last == last) {
            found.back().end = i + 1;
        } else {
            found.push_back({i, i + 1, first, last});
        }
    }
    return found;
}

// All that the threads of one call share, in neighbouring cache lines: a line from another core's cache takes as long
// as a hundred products. What does not change between calls lies elsewhere, where every core has a copy of its own.
struct alignas(64) Work {
    const Layer* layer;
    const Path* path;
    Call call;
    const float* reals;
    uint64_t* packed;                         // of the reals
    size_t pixels, part, parts;               // pixels that go in, packed `part` at a time
    size_t tile, tiles, blocks, units;        // a unit is a tile, so many rows of one picture, for one block of filters
    Shares<2>* shares;
    alignas(64) std::atomic<size_t> packed_parts{0};

    void run(int who) {
        for (size_t p; (p = shares->take(0, who)) < parts;) {
            const size_t first = p * part;
            path->pack(reals + first * layer->channels, std::min(part, pixels - first), layer->channels,
                       packed + first * layer->words, Packing{});
            packed_parts.fetch_add(1, std::memory_order_release);
        }
        for (unsigned round = 0; parts > 0 && packed_parts.load(std::memory_order_acquire) < parts; ++round) {
            pause_a_little(round);
        }
        for (size_t u; (u = shares->take(1, who)) < units;) {
            const size_t row = u / blocks % tiles * tile;
            path->convolve(*layer, call, {u / blocks / tiles, row, std::min(row + tile, call.out_height), u % blocks});
        }
    }
};

// Bits of the input, packed; each thread keeps its memory, since fresh memory costs more than the packing.
uint64_t* scratch(size_t words) {
    static thread_local std::vector<uint64_t> memory;
    if (memory.size() < words) memory.resize(words);
    return memory.data();
}

}  // namespace

void Convolution::Free::operator()(void* memory) const {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
}

template <class T>
Convolution::Aligned<T> Convolution::aligned(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
#if defined(_WIN32)
    void* memory = _aligned_malloc(bytes, 64);
#else
    void* memory = std::aligned_alloc(64, bytes);
#endif
    if (memory == nullptr) throw std::bad_alloc();
    memset(memory, 0, bytes);
    return Aligned<T>(static_cast<T*>(memory));
}

Convolution::Convolution(
    const Path& path, const Options& options, const uint64_t* weights, const float* scale, const float* shift,
    const int32_t* flip, const int32_t* limit
) : path_(path), options_(options), padded_((options.filters + path.block - 1) / path.block * path.block) {
    const size_t words = (options.channels + WORD - 1) / WORD, halves = 2 * words;
    const size_t taps = options.rows * options.columns;
    weights_ = aligned<uint32_t>(padded_ * taps * halves);
    scale_ = aligned<float>(padded_);
    shift_ = aligned<float>(padded_);
    flip_ = aligned<int32_t>(padded_);
    limit_ = aligned<int32_t>(padded_);
    if (!options.ternary) ones_ = aligned<int32_t>(padded_ * taps);

    for (size_t o = 0; o < options.filters; ++o) {
        const size_t block = o / path.block, first = block * path.block;
        // The last block is only as many vectors wide as it needs.
        const size_t left = std::min(options.filters - first, path.block);
        const size_t wide = (left + path.lanes - 1) / path.lanes * path.lanes;
        for (size_t tap = 0; tap < taps; ++tap) {
            const uint64_t* from = weights + (o * taps + tap) * words;
            uint32_t* to = weights_.get() + first * taps * halves + tap * halves * wide + (o - first);
            size_t ones = 0;
            for (size_t w = 0; w < words; ++w) {
                to[2 * w * wide] = uint32_t(from[w]);
                to[(2 * w + 1) * wide] = uint32_t(from[w] >> 32);
                ones += ones_in(from[w]);
            }
            if (!options.ternary) ones_[tap * padded_ + o] = int32_t(ones);
        }
        scale_[o] = scale[o];
        shift_[o] = shift[o];
    }
    const int32_t most = int32_t(taps * options.channels);
    for (size_t o = 0; o < padded_; ++o) {
        if (o < options.filters && limit != nullptr) {
            flip_[o] = flip[o];
            limit_[o] = limit[o];
        } else if (o < options.filters) {
            find_limit(most, scale_[o], shift_[o], flip_[o], limit_[o]);
        } else {
            limit_[o] = INT_MAX;
        }
    }
    layer_.filters = options.filters;
    layer_.rows = options.rows;
    layer_.columns = options.columns;
    layer_.channels = options.channels;
    layer_.words = words;
    layer_.stride_y = options.stride_y;
    layer_.stride_x = options.stride_x;
    layer_.padding = options.padding;
    layer_.dilation = options.dilation;
    layer_.activation = options.activation;
    layer_.weights = weights_.get();
    layer_.scale = scale_.get();
    layer_.shift = shift_.get();
    layer_.flip = flip_.get();
    layer_.limit = limit_.get();
}

size_t Convolution::out_length(size_t length, size_t taps, size_t stride) const {
    const size_t window = layer_.dilation * (taps - 1) + 1, space = length + 2 * layer_.padding;
    return space < window ? 0 : (space - window) / stride + 1;
}

struct Convolution::Views {
    size_t height, width;
    std::vector<View> views;
    std::vector<Segment> segments;
    Aligned<int32_t> bases;
};

// The parts of the output whose pixels see the same taps: the inside, and along the edges.
std::shared_ptr<const Convolution::Views> Convolution::views(size_t height, size_t width) const {
    const std::lock_guard<std::mutex> lock(lock_);
    if (latest_ == nullptr || latest_->height != height || latest_->width != width) latest_ = made_views(height, width);
    return latest_;
}

std::shared_ptr<const Convolution::Views> Convolution::made_views(size_t height, size_t width) const {
    const size_t step = layer_.dilation, margin = layer_.padding, halves = 2 * layer_.words;
    // Taps in a row are neighbours, and read as one; unless the last half of their words is empty, and can be left out.
    const size_t used = (layer_.channels + WORD / 2 - 1) / (WORD / 2);
    const bool joined = step == 1 && (used == halves || layer_.rows * layer_.columns > MOST_SINGLE_TAPS);
    const auto rows = spans_along(height, layer_.rows, layer_.stride_y, margin, step, out_height(height));
    const auto columns = spans_along(width, layer_.columns, layer_.stride_x, margin, step, out_width(width));
    size_t high_in_all = 0, wide_in_all = 0;
    for (const Span& row : rows) high_in_all += row.last - row.first;
    for (const Span& column : columns) wide_in_all += joined ? 1 : column.last - column.first;
    if (high_in_all * wide_in_all > MOST_SEGMENTS || rows.size() * columns.size() * padded_ > MOST_BASES) {
        throw std::length_error("a window of " + std::to_string(layer_.rows) + " x " + std::to_string(layer_.columns) +
                                " with padding " + std::to_string(margin) + " takes too much memory");
    }
    const auto result = std::make_shared<Views>();
    Views& made = *result;
    made.height = height;
    made.width = width;
    made.bases = aligned<int32_t>(rows.size() * columns.size() * padded_);
    std::vector<size_t> begins;
    for (const Span& row : rows) {
        for (const Span& column : columns) {
            const size_t high = row.last - row.first, wide = column.last - column.first;
            View view{};
            view.y = row.begin;
            view.y_end = row.end;
            view.x = column.begin;
            view.x_end = column.end;
            begins.push_back(made.segments.size());
            if (high != 0 && wide != 0) {
                const size_t top = row.begin * layer_.stride_y + row.first * step - margin;
                const size_t left = column.begin * layer_.stride_x + column.first * step - margin;
                view.start = ptrdiff_t((top * width + left) * halves);
                view.run = joined ? wide * halves : used;
                for (size_t r = 0; r < high; ++r) {
                    for (size_t c = 0; c < (joined ? 1 : wide); ++c) {
                        const size_t tap = (row.first + r) * layer_.columns + column.first + c;
                        made.segments.push_back({ptrdiff_t((r * width + c) * step * halves), tap * halves});
                    }
                }
            }
            view.segment_count = made.segments.size() - begins.back();

            int32_t* const base = made.bases.get() + made.views.size() * padded_;
            std::fill_n(base, padded_, int32_t(high * wide * layer_.channels));
            view.base = base;
            made.views.push_back(view);
            if (options_.ternary || high * wide == layer_.rows * layer_.columns) continue;
            for (size_t tap = 0; tap < layer_.rows * layer_.columns; ++tap) {
                const size_t r = tap / layer_.columns, c = tap % layer_.columns;
                if (r >= row.first && r < row.last && c >= column.first && c < column.last) continue;
                const int32_t* ones = ones_.get() + tap * padded_;
                for (size_t o = 0; o < padded_; ++o) base[o] += int32_t(layer_.channels) - 2 * ones[o];
            }
        }
    }
    for (size_t i = 0; i < made.views.size(); ++i) made.views[i].segments = made.segments.data() + begins[i];
    return result;
}

void Convolution::run(
    const float* reals, const uint64_t* bits, size_t pictures, size_t height, size_t width, const Outcome& outcome,
    int wanted
) const {
    if (pictures == 0) return;
    Call call;
    call.height = height;
    call.width = width;
    call.out_height = out_height(height);
    call.out_width = out_width(width);
    call.out = outcome.out;
    call.result = outcome.result;
    call.factor = outcome.factor;
    call.residual = outcome.residual;
    const std::shared_ptr<const Views> seen = views(height, width);
    call.views = seen->views.data();
    call.view_count = seen->views.size();

    const size_t pixels = pictures * height * width;
    uint64_t* packed = bits == nullptr ? scratch(pixels * layer_.words) : nullptr;
    call.bits = bits == nullptr ? packed : bits;

    const size_t taps = layer_.rows * layer_.columns;
    const size_t pairs = pictures * call.out_height * call.out_width * layer_.filters * taps * layer_.words;
    const int threads = threads_for_work(wanted, pairs, LEAST_PAIRS);
    const size_t blocks = (layer_.filters + path_.block - 1) / path_.block;
    const size_t row_bytes = std::max<size_t>(1, width * layer_.words * layer_.stride_y * sizeof(uint64_t));
    size_t tile = std::max<size_t>(1, TILE_BYTES / row_bytes);
    if (threads > 1) {
        const size_t tiles = (UNITS_A_THREAD * size_t(threads) + pictures * blocks - 1) / (pictures * blocks);
        tile = std::min(tile, std::max<size_t>(1, (call.out_height + tiles - 1) / tiles));
    }
    Work work;
    work.layer = &layer_;
    work.path = &path_;
    work.call = call;
    work.reals = reals;
    work.packed = packed;
    work.pixels = pixels;
    work.part = std::max<size_t>(1, PACKED_AT_A_TIME / layer_.channels);
    work.parts = bits == nullptr ? (pixels + work.part - 1) / work.part : 0;
    work.tile = std::min(tile, call.out_height);
    work.tiles = (call.out_height + work.tile - 1) / work.tile;
    work.blocks = blocks;
    work.units = pictures * work.tiles * blocks;
    Shares<2> shares({work.parts, work.units}, threads);
    work.shares = &shares;
    run_together(threads, [&work](int who) { work.run(who); });
}

}  // namespace lookonce
