// Helper threads that wait between calls, since starting one takes as long as a convolution.

#ifndef LOOKONCE_POOL_H
#define LOOKONCE_POOL_H

#include <stddef.h>

#include <array>
#include <atomic>

namespace lookonce {

constexpr int MOST_THREADS = 64;

// How many threads a call that may use `wanted` will have: no more than the cores this thread may run on.
int threads_for(int wanted);

// The same for so much work, of which `least` takes as long as a helper to come.
int threads_for_work(int wanted, size_t work, size_t least);

constexpr size_t LEAST_PAIRS = 1 << 16;       // words compared: microseconds of them
constexpr size_t LEAST_VALUES = 1 << 15;      // floats packed
constexpr size_t PACKED_AT_A_TIME = 16 << 10; // floats that one thread takes at a time

// A function of a thread's number, without owning it.
struct Body {
    void (*call)(const void* object, int who);
    const void* object;
};
void run_together(int threads, Body body);

// Runs body(0) on this thread and body(1) .. body(threads - 1) on helpers, as far as they come in time: whoever comes
// must find out what is left to do. Returns when all that began have ended. While one call has the helpers, another
// goes without: two calls at once use no more threads than one and its caller.
template <class Function>
void run_together(int threads, const Function& body) {
    const auto call = [](const void* object, int who) { (*static_cast<const Function*>(object))(who); };
    run_together(threads, Body{call, &body});
}

// For each of several kinds of work the numbers 0 .. count - 1, each handed out once: to each of several takers from
// its own part first, then from others'.
template <size_t Kinds>
class Shares {
public:
    Shares(const std::array<size_t, Kinds>& counts, int takers) : counts_(counts), takers_(takers) {
        for (int i = 0; i < takers; ++i) {
            for (size_t k = 0; k < Kinds; ++k) {
                shares_[i].next[k].store(counts[k] * size_t(i) / size_t(takers), std::memory_order_relaxed);
                shares_[i].end[k] = counts[k] * size_t(i + 1) / size_t(takers);
            }
        }
    }

    // The next number for this taker, or the count when all are taken.
    size_t take(size_t kind, int taker) {
        for (int turn = 0; turn < takers_; ++turn) {
            Share& share = shares_[(taker + turn) % takers_];
            if (share.next[kind].load(std::memory_order_relaxed) >= share.end[kind]) continue;
            const size_t next = share.next[kind].fetch_add(1, std::memory_order_relaxed);
            if (next < share.end[kind]) return next;
        }
        return counts_[kind];
    }

private:
    struct alignas(64) Share {                // a cache line of its own
        std::atomic<size_t> next[Kinds];
        size_t end[Kinds];
    };
    std::array<size_t, Kinds> counts_;
    int takers_;
    Share shares_[MOST_THREADS];              // those beyond the takers are never touched
};

// Lets the other threads of this core go on, for short waits.
void pause_a_little(unsigned round);

}  // namespace lookonce

#endif
