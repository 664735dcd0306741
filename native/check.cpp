// Every path that runs here against plain loops, on drawn layers, without Python: binary_check [count] [seed].
//
// For processors that have no Python at hand (aarch64 under qemu-user), and for sanitizers of threads.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "convolution.h"
#include "paths.h"
#include "planes.h"

using namespace lookonce;

namespace {

struct Drawn {
    Options options;
    size_t pictures, height, width, out_height, out_width;
    std::vector<float> x, weights, scale, shift, factor, residual, norm_scale, norm_shift;
};

size_t between(std::mt19937& random, size_t least, size_t most) {
    return std::uniform_int_distribution<size_t>(least, most)(random);
}

std::vector<float> normal(std::mt19937& random, size_t count) {
    std::normal_distribution<float> draw;
    std::vector<float> values(count);
    for (float& value : values) value = between(random, 0, 30) == 0 ? NAN : draw(random);
    return values;
}

Drawn draw(std::mt19937& random, size_t number) {
    Drawn d;
    Options& o = d.options;
    o.channels = number % 130 + 1;
    o.filters = between(random, 1, 100);
    o.rows = between(random, 1, 4);
    o.columns = between(random, 1, 4);
    o.stride_y = between(random, 1, 3);
    o.stride_x = between(random, 1, 3);
    o.padding = between(random, 0, 3);
    o.dilation = between(random, 1, 2);
    o.ternary = between(random, 0, 1) == 0;
    o.activation = Activation(between(random, 0, 2));
    const bool large = number % 100 == 0;     // threads share it
    d.pictures = between(random, 1, 2);
    d.height = o.dilation * o.rows + between(random, 0, large ? 40 : 6);
    d.width = o.dilation * o.columns + between(random, 0, large ? 40 : 6);
    d.out_height = (d.height + 2 * o.padding - o.dilation * (o.rows - 1) - 1) / o.stride_y + 1;
    d.out_width = (d.width + 2 * o.padding - o.dilation * (o.columns - 1) - 1) / o.stride_x + 1;
    d.x = normal(random, d.pictures * d.height * d.width * o.channels);
    d.weights = normal(random, o.filters * o.rows * o.columns * o.channels);
    for (size_t i = 0; i < o.filters; ++i) {
        d.scale.push_back(float(int(between(random, 0, 200)) - 100) / 64);
        d.shift.push_back(float(int(between(random, 0, 200)) - 100) / 8);
    }
    d.factor = normal(random, d.pictures * d.out_height * d.out_width);
    d.residual = normal(random, d.factor.size() * o.filters);
    d.norm_scale = normal(random, o.channels);
    d.norm_shift = normal(random, o.channels);
    return d;
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Signs and magnitudes of normalized values, channel by channel; magnitudes in 16 parts, added by halves.
bool packs(const Drawn& d, const Path& path, int threads) {
    const size_t channels = d.options.channels, words = (channels + WORD - 1) / WORD, pixels = d.x.size() / channels;
    std::vector<uint64_t> bits(pixels * words, ~uint64_t(0));
    std::vector<float> magnitude(pixels);
    pack(path, d.x.data(), pixels, channels, bits.data(), {d.norm_scale.data(), d.norm_shift.data(), magnitude.data()},
         threads);
    for (size_t p = 0; p < pixels; ++p) {
        volatile float parts[16] = {};
        for (size_t i = 0; i < WORD * words; ++i) {
            const bool bit = bits[p * words + i / WORD] >> i % WORD & 1;
            const volatile float product = i < channels ? d.x[p * channels + i] * d.norm_scale[i] : 0;
            const volatile float value = i < channels ? product + d.norm_shift[i] : 0;
            if (bit != (value > 0)) return false;
            parts[i % 16] = parts[i % 16] + std::fabs(value);
        }
        for (size_t half = 8; half > 0; half /= 2)
            for (size_t i = 0; i < half; ++i) parts[i] = parts[i] + parts[i + half];
        if (!same(parts[0], magnitude[p])) return false;
    }
    return true;
}

// What a tap sees at a place that counts from `padding` outside the edge.
int sign_at(const Drawn& d, size_t picture, size_t row, size_t column, size_t channel) {
    const Options& o = d.options;
    const size_t y = row - o.padding, x = column - o.padding;
    const bool inside = row >= o.padding && y < d.height && column >= o.padding && x < d.width;
    if (!inside) return o.ternary ? 0 : -1;
    return d.x[((picture * d.height + y) * d.width + x) * o.channels + channel] > 0 ? 1 : -1;
}

std::vector<int32_t> plain_loops(const Drawn& d) {
    const Options& o = d.options;
    std::vector<int32_t> sums;
    for (size_t b = 0; b < d.pictures; ++b)
        for (size_t y = 0; y < d.out_height; ++y)
            for (size_t x = 0; x < d.out_width; ++x)
                for (size_t f = 0; f < o.filters; ++f) {
                    int32_t sum = 0;
                    for (size_t r = 0; r < o.rows; ++r)
                        for (size_t c = 0; c < o.columns; ++c) {
                            const size_t row = y * o.stride_y + r * o.dilation;
                            const size_t column = x * o.stride_x + c * o.dilation;
                            for (size_t i = 0; i < o.channels; ++i) {
                                const float w = d.weights[((f * o.rows + r) * o.columns + c) * o.channels + i];
                                const int seen = sign_at(d, b, row, column, i);
                                sum += w > 0 ? seen : -seen;
                            }
                        }
                    sums.push_back(sum);
                }
    return sums;
}

float activated(Activation activation, float value) {
    if (activation == Activation::leaky && value < 0) return value * LEAK;
    return activation == Activation::relu && value < 0 ? 0 : value;
}

bool agrees(const Drawn& d, const Path& path, int threads) {
    const Options& o = d.options;
    const size_t words = (o.channels + WORD - 1) / WORD, out_words = (o.filters + WORD - 1) / WORD;
    std::vector<uint64_t> weights(o.filters * o.rows * o.columns * words);
    std::vector<uint64_t> bits(d.pictures * d.height * d.width * words);
    pack(path, d.weights.data(), o.filters * o.rows * o.columns, o.channels, weights.data(), {}, 1);
    pack(path, d.x.data(), d.pictures * d.height * d.width, o.channels, bits.data(), {}, threads);
    const Convolution layer(path, o, weights.data(), d.scale.data(), d.shift.data());
    const std::vector<int32_t> wanted = plain_loops(d);
    const size_t pixels = d.pictures * d.out_height * d.out_width;
    std::vector<int32_t> counts(wanted.size());
    std::vector<float> reals(wanted.size());
    std::vector<uint64_t> signs(pixels * out_words, ~uint64_t(0));
    layer.run(nullptr, bits.data(), d.pictures, d.height, d.width, {Result::counts, counts.data()}, threads);
    layer.run(d.x.data(), nullptr, d.pictures, d.height, d.width, {Result::reals, reals.data()}, threads);
    layer.run(nullptr, bits.data(), d.pictures, d.height, d.width, {Result::bits, signs.data()}, threads);
    std::vector<float> joined(wanted.size());
    layer.run(nullptr, bits.data(), d.pictures, d.height, d.width,
              {Result::reals, joined.data(), d.factor.data(), d.residual.data()}, threads);
    if (counts != wanted || !packs(d, path, threads)) return false;
    for (size_t p = 0; p < pixels; ++p) {
        for (size_t f = 0; f < 64 * out_words; ++f) {
            const bool bit = signs[p * out_words + f / WORD] >> f % WORD & 1;
            if (f >= o.filters) {
                if (bit) return false;
                continue;
            }
            const volatile float product = float(wanted[p * o.filters + f]) * d.scale[f];
            const volatile float multiplied = product * d.factor[p];
            if (bit != (product + d.shift[f] > 0)) return false;
            const float value = activated(o.activation, product + d.shift[f]);
            if (reals[p * o.filters + f] != value) return false;
            const volatile float last = activated(o.activation, multiplied + d.shift[f]);
            if (!same(joined[p * o.filters + f], last + d.residual[p * o.filters + f])) return false;
        }
    }
    return true;
}

}  // namespace

int main(int count, char** words) {
    const size_t layers = count > 1 ? size_t(atoll(words[1])) : 1000;
    std::mt19937 random(count > 2 ? unsigned(atoi(words[2])) : 0);
    for (size_t i = 0; i < layers; ++i) {
        const Drawn d = draw(random, i);
        for (const Path* path : paths_here()) {
            if (!agrees(d, *path, 1 + int(i / 100 % 2))) {
                printf("layer %zu: %s is wrong\n", i, path->name);
                return 1;
            }
        }
    }
    printf("%zu layers, exact on", layers);
    for (const Path* path : paths_here()) printf(" %s", path->name);
    printf("\n");
    return 0;
}
