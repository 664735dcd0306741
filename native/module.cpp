// The Python module lookonce._binary: arguments checked, the interpreter's lock let go, work handed on.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <string.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "convolution.h"
#include "paths.h"
#include "planes.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lookonce {
namespace {

constexpr size_t LARGEST_LENGTH = size_t(1) << 31;     // of any axis, and of steps and paddings
constexpr size_t LARGEST_SUM = size_t(1) << 24;        // whole numbers up to it are exact as floats
constexpr size_t LARGEST_ARRAY = size_t(1) << 40;      // elements
constexpr int64_t MOST_ASKED = 1 << 16;                // threads: more than there are cores is no mistake

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

std::string shape_of(const std::vector<size_t>& lengths) {
    std::string text = "(";
    for (size_t i = 0; i < lengths.size(); ++i) text += (i ? ", " : "") + std::to_string(lengths[i]);
    return text + ")";
}

// The memory of an array, by the buffer protocol, which costs a fraction of what DLPack does.
class Array {
public:
    // Raises ValueError if `object` is no array without gaps, or is to be written and may not.
    Array(const char* name, nb::handle object, bool written = false) : name_(name) {
        const int wanted = PyBUF_ANY_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object.ptr(), &view_, wanted) != 0) {
            PyErr_Clear();
            refuse(std::string(name) + (written ? " is no writable array" : " is no array") +
                   " without gaps between its rows (np.ascontiguousarray)");
        }
        shape.assign(view_.shape, view_.shape + view_.ndim);
        size = 1;
        for (const size_t length : shape) {
            if (length > LARGEST_LENGTH || size * length > LARGEST_ARRAY) {
                PyBuffer_Release(&view_);         // what is not made whole is not unmade either
                refuse(std::string(name) + " of shape " + shape_of(shape) + " is too large");
            }
            size *= length;
        }
    }
    ~Array() { PyBuffer_Release(&view_); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    template <class T>
    bool holds() const {
        const char* const kinds = std::is_floating_point_v<T> ? "fd" : std::is_signed_v<T> ? "bhilq" : "BHILQ";
        const char* const found = view_.format == nullptr ? "B" : view_.format;
        const bool alike = strlen(found) == 1 && strchr(kinds, *found) != nullptr;        // not big-endian, no structure
        return alike && size_t(view_.itemsize) == sizeof(T);
    }

    // Raises ValueError unless it holds T along so many axes.
    template <class T>
    T* data(size_t axes, const char* wanted) const {
        if (!holds<T>() || shape.size() != axes) {
            refuse(std::string(name_) + " has the wrong element type, or " + std::to_string(shape.size()) +
                   " axes; wanted " + wanted);
        }
        if (size != 0 && (!PyBuffer_IsContiguous(&view_, 'C') || reinterpret_cast<uintptr_t>(view_.buf) % alignof(T))) {
            refuse(std::string(name_) + " is not aligned, or not in the order of rows (np.ascontiguousarray)");
        }
        return static_cast<T*>(view_.buf);
    }

    void check_shape(const std::vector<size_t>& wanted) const {
        if (shape != wanted) {
            refuse(std::string(name_) + " has shape " + shape_of(shape) + ", wanted " + shape_of(wanted));
        }
    }

    // Raises ValueError if two arrays have memory in common: one would be read while it is written.
    void check_apart(const Array& other) const {
        const char *a = static_cast<const char*>(view_.buf), *b = static_cast<const char*>(other.view_.buf);
        if (a < b + other.view_.len && b < a + view_.len) {
            refuse(std::string(name_) + " and " + other.name_ + " share memory; wanted two arrays");
        }
    }

    std::vector<size_t> shape;
    size_t size;

private:
    const char* name_;
    Py_buffer view_;
};

void check_range(const char* name, int64_t found, int64_t least, int64_t most) {
    if (found < least || found > most) {
        refuse(std::string(name) + "=" + std::to_string(found) + ", wanted " + std::to_string(least) + " to " +
               std::to_string(most));
    }
}

// Raises ValueError if a bit beyond the last channel is set: it would be counted.
void check_spare(const char* name, const uint64_t* words, size_t pixels, size_t channels) {
    if (channels % WORD == 0) return;
    const size_t count = (channels + WORD - 1) / WORD;
    const uint64_t spare = ~uint64_t(0) << channels % WORD;
    uint64_t any = 0;
    for (size_t p = 0; p < pixels; ++p) any |= words[p * count + count - 1];
    if (any & spare) {
        refuse(std::string(name) + " has bits beyond its " + std::to_string(channels) + " channels; wanted zeros");
    }
}

const Path& path_by(const std::string& name) {
    const Path* path = path_named(name);
    if (path == nullptr) refuse("path " + name.substr(0, 40) + " does not run on this processor");
    return *path;
}

Activation activation_by(const std::string& name) {
    if (name == "linear") return Activation::linear;
    if (name == "leaky") return Activation::leaky;
    if (name == "relu") return Activation::relu;
    refuse("activation " + name.substr(0, 40) + " cannot follow a binary layer; wanted linear, leaky or relu");
}

std::unique_ptr<Convolution> make(
    nb::handle weights_given, int64_t channels, int64_t stride_y, int64_t stride_x, int64_t padding, int64_t dilation,
    bool ternary, nb::handle scale_given, nb::handle shift_given, const std::string& activation,
    const std::string& path, nb::handle flip_given, nb::handle limit_given
) {
    const Array weights("weights", weights_given), scale("scale", scale_given), shift("shift", shift_given);
    const uint64_t* const bits = weights.data<uint64_t>(4, "uint64 (O, kh, kw, words)");
    check_range("channels", channels, 1, int64_t(LARGEST_SUM));
    check_range("stride", stride_y, 1, int64_t(LARGEST_LENGTH));
    check_range("stride", stride_x, 1, int64_t(LARGEST_LENGTH));
    check_range("padding", padding, 0, int64_t(LARGEST_LENGTH));
    check_range("dilation", dilation, 1, int64_t(LARGEST_LENGTH));
    Options options;
    options.filters = weights.shape[0];
    options.rows = weights.shape[1];
    options.columns = weights.shape[2];
    options.channels = size_t(channels);
    options.stride_y = size_t(stride_y);
    options.stride_x = size_t(stride_x);
    options.padding = size_t(padding);
    options.dilation = size_t(dilation);
    options.ternary = ternary;
    options.activation = activation_by(activation);
    weights.check_shape({options.filters, options.rows, options.columns, (options.channels + WORD - 1) / WORD});
    if (weights.size == 0) refuse("weights of shape " + shape_of(weights.shape) + " hold nothing");
    if (options.rows > LARGEST_SUM || options.columns > LARGEST_SUM / options.rows ||
        options.rows * options.columns > LARGEST_SUM / options.channels) {
        refuse("weights of shape " + shape_of(weights.shape) + " sum over more than 2**24 products");
    }
    check_spare("weights", bits, options.filters * options.rows * options.columns, options.channels);
    const float* values[2];
    for (const int i : {0, 1}) {
        const Array& array = i == 0 ? scale : shift;
        values[i] = array.data<float>(1, "float32 (O,)");
        array.check_shape({options.filters});
        for (size_t o = 0; o < options.filters; ++o) {
            if (!std::isfinite(values[i][o])) {
                refuse(std::string(i == 0 ? "scale" : "shift") + " holds " + std::to_string(values[i][o]) +
                       " for filter " + std::to_string(o) + "; wanted finite values");
            }
        }
    }
    if (flip_given.is_none()) {
        return std::make_unique<Convolution>(path_by(path), options, bits, values[0], values[1]);
    }
    const Array flip("flip", flip_given), limit("limit", limit_given);
    const int32_t* const turned = flip.data<int32_t>(1, "int32 (O,)");
    const int32_t* const least = limit.data<int32_t>(1, "int32 (O,)");
    flip.check_shape({options.filters});
    limit.check_shape({options.filters});
    return std::make_unique<Convolution>(path_by(path), options, bits, values[0], values[1], turned, least);
}

// The floats of an argument that may be None: null then. Raises ValueError if it has another shape or shares memory.
const float* optional_floats(
    const char* name, nb::handle given, const std::vector<size_t>& shape, const Array& out, std::optional<Array>& array
) {
    if (given.is_none()) return nullptr;
    array.emplace(name, given);
    const float* const values = array->data<float>(shape.size(), "float32");
    array->check_shape(shape);
    out.check_apart(*array);
    return values;
}

void run(
    const Convolution& layer, nb::handle x_given, nb::handle out_given, int64_t threads, nb::handle factor_given,
    nb::handle residual_given
) {
    const Array x("x", x_given), out("out", out_given, true);
    const Options& options = layer.options();
    const char* const wanted_x = "float32 (B, H, W, C) or uint64 (B, H, W, words)";
    const bool packed = x.holds<uint64_t>();
    const uint64_t* const bits = packed ? x.data<uint64_t>(4, wanted_x) : nullptr;
    const float* const reals = packed ? nullptr : x.data<float>(4, wanted_x);
    const size_t pictures = x.shape[0], height = x.shape[1], width = x.shape[2];
    x.check_shape({pictures, height, width, packed ? layer.words() : options.channels});
    check_range("threads", threads, 1, MOST_ASKED);
    const size_t out_height = height ? layer.out_height(height) : 0, out_width = width ? layer.out_width(width) : 0;
    if (out_height == 0 || out_width == 0) refuse("x of shape " + shape_of(x.shape) + " is smaller than the window");
    if (packed) check_spare("x", bits, pictures * height * width, options.channels);

    const char* const wanted_out = "int32 or float32 (B, H', W', O), or uint64 (B, H', W', words)";
    Outcome outcome{Result::reals, nullptr};
    if (out.holds<uint64_t>()) {
        outcome = {Result::bits, out.data<uint64_t>(4, wanted_out)};
    } else if (out.holds<int32_t>()) {
        outcome = {Result::counts, out.data<int32_t>(4, wanted_out)};
    } else {
        outcome.out = out.data<float>(4, wanted_out);
    }
    const size_t last = outcome.result == Result::bits ? (options.filters + WORD - 1) / WORD : options.filters;
    out.check_shape({pictures, out_height, out_width, last});
    out.check_apart(x);
    std::optional<Array> factor, residual;
    outcome.factor = optional_floats("factor", factor_given, {pictures, out_height, out_width}, out, factor);
    outcome.residual = optional_floats("residual", residual_given, out.shape, out, residual);
    if (outcome.result != Result::reals && (factor || residual)) {
        refuse("factor and residual go with an out of float32");
    }
    const nb::gil_scoped_release unlocked;
    layer.run(reals, bits, pictures, height, width, outcome, int(threads));
}

void pack_signs(
    nb::handle x_given, nb::handle out_given, const std::string& path, int64_t threads, nb::handle scale_given,
    nb::handle shift_given, nb::handle magnitude_given
) {
    const Array x("x", x_given), out("out", out_given, true);
    const float* const from = x.data<float>(4, "float32 (B, H, W, C)");
    uint64_t* const to = out.data<uint64_t>(4, "uint64 (B, H, W, words)");
    const size_t channels = x.shape[3];
    if (channels == 0) refuse("x of shape " + shape_of(x.shape) + " has no channels");
    out.check_shape({x.shape[0], x.shape[1], x.shape[2], (channels + WORD - 1) / WORD});
    check_range("threads", threads, 1, MOST_ASKED);
    out.check_apart(x);
    const Path& chosen = path_by(path);
    std::optional<Array> scale, shift, magnitude;
    Packing as{};
    as.scale = optional_floats("scale", scale_given, {channels}, out, scale);
    as.shift = optional_floats("shift", shift_given, {channels}, out, shift);
    if ((as.scale == nullptr) != (as.shift == nullptr)) refuse("scale and shift go together");
    if (!magnitude_given.is_none()) {
        magnitude.emplace("magnitude", magnitude_given, true);
        as.magnitude = magnitude->data<float>(3, "float32 (B, H, W)");
        magnitude->check_shape({x.shape[0], x.shape[1], x.shape[2]});
        for (const Array* other : {&x, &out}) magnitude->check_apart(*other);
        if (scale) magnitude->check_apart(*scale);
        if (shift) magnitude->check_apart(*shift);
    }
    const nb::gil_scoped_release unlocked;
    pack(chosen, from, x.size / channels, channels, to, as, int(threads));
}

void sum_windows(
    nb::handle x_given, nb::handle out_given, int64_t rows, int64_t columns, int64_t stride_y, int64_t stride_x,
    int64_t padding, int64_t dilation, float factor
) {
    const Array x("x", x_given), out("out", out_given, true);
    const float* const from = x.data<float>(3, "float32 (B, H, W)");
    float* const to = out.data<float>(3, "float32 (B, H', W')");
    for (const int64_t length : {rows, columns, stride_y, stride_x, dilation}) {
        check_range("window, stride or dilation", length, 1, int64_t(LARGEST_LENGTH));
    }
    check_range("padding", padding, 0, int64_t(LARGEST_LENGTH));
    const size_t pictures = x.shape[0], height = x.shape[1], width = x.shape[2];
    const size_t high = height + 2 * size_t(padding), wide = width + 2 * size_t(padding);
    const size_t covered = size_t(dilation) * size_t(rows - 1) + 1, across = size_t(dilation) * size_t(columns - 1) + 1;
    if (height == 0 || width == 0 || high < covered || wide < across) {
        refuse("x of shape " + shape_of(x.shape) + " is smaller than the window");
    }
    const size_t out_height = (high - covered) / size_t(stride_y) + 1;
    const size_t out_width = (wide - across) / size_t(stride_x) + 1;
    out.check_shape({pictures, out_height, out_width});
    out.check_apart(x);
    const nb::gil_scoped_release unlocked;
    window_sums(from, pictures, height, width,
                {size_t(rows), size_t(columns), size_t(stride_y), size_t(stride_x), size_t(padding), size_t(dilation),
                 factor},
                out_height, out_width, to);
}

void pool_bits(
    nb::handle x_given, nb::handle out_given, int64_t size, int64_t stride_y, int64_t stride_x, int64_t padding,
    int64_t threads
) {
    const Array x("x", x_given), out("out", out_given, true);
    const uint64_t* const from = x.data<uint64_t>(4, "uint64 (B, H, W, words)");
    uint64_t* const to = out.data<uint64_t>(4, "uint64 (B, H', W', words)");
    check_range("size", size, 1, int64_t(LARGEST_LENGTH) / 2);
    check_range("stride", stride_y, 1, int64_t(LARGEST_LENGTH));
    check_range("stride", stride_x, 1, int64_t(LARGEST_LENGTH));
    check_range("padding", padding, 0, 2 * (size - 1));
    check_range("threads", threads, 1, MOST_ASKED);
    const size_t pictures = x.shape[0], height = x.shape[1], width = x.shape[2], words = x.shape[3];
    const size_t window = size_t(size), both = size_t(padding);
    if (height == 0 || width == 0 || height + both < window || width + both < window) {
        refuse("x of shape " + shape_of(x.shape) + " is smaller than the window of " + std::to_string(size));
    }
    const size_t out_height = (height + both - window) / size_t(stride_y) + 1;
    const size_t out_width = (width + both - window) / size_t(stride_x) + 1;
    out.check_shape({pictures, out_height, out_width, words});
    out.check_apart(x);
    const nb::gil_scoped_release unlocked;
    max_pool(from, pictures, height, width, words, {window, size_t(stride_y), size_t(stride_x), both / 2}, out_height,
             out_width, to, int(threads));
}

nb::list path_names() {
    nb::list names;
    for (const Path* path : paths_here()) names.append(path->name);
    return names;
}

}  // namespace
}  // namespace lookonce

NB_MODULE(_binary, module) {
    using namespace lookonce;
    module.doc() = "Convolutions of single bits; lookonce.binary.kernel is the door to it.";
    module.def("paths", &path_names, "The ways to compute that run on this processor, the fastest first.");
    module.def("pack", &pack_signs, "x"_a.none(), "out"_a.none(), "path"_a, "threads"_a = 1, "scale"_a = nb::none(),
               "shift"_a = nb::none(), "magnitude"_a = nb::none(),
               "Signs of x * scale + shift as words: 1 above 0.");
    module.def("window_sums", &sum_windows, "x"_a.none(), "out"_a.none(), "rows"_a, "columns"_a, "stride_y"_a,
               "stride_x"_a, "padding"_a, "dilation"_a, "factor"_a,
               "The sum of each window times factor; beyond the edge stands 0.");
    module.def("max_pool", &pool_bits, "x"_a.none(), "out"_a.none(), "size"_a, "stride_y"_a, "stride_x"_a, "padding"_a,
               "threads"_a = 1, "The union of each window's bits.");
    nb::class_<Convolution>(module, "Convolution", "A binary convolution, its weights laid out for one path.")
        .def(nb::new_(&make), "weights"_a.none(), "channels"_a, "stride_y"_a, "stride_x"_a, "padding"_a, "dilation"_a,
             "ternary"_a, "scale"_a.none(), "shift"_a.none(), "activation"_a, "path"_a, "flip"_a = nb::none(),
             "limit"_a = nb::none())
        .def("run", &run, "x"_a.none(), "out"_a.none(), "threads"_a = 1, "factor"_a = nb::none(),
             "residual"_a = nb::none(),
             "Sums (int32), scaled and activated (float32), or bits of that (uint64), by what out is.")
        .def_prop_ro("path", [](const Convolution& layer) { return layer.path().name; });
}
