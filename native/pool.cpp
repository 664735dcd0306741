#include "pool.h"

#include <stdint.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#elif !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace lookonce {
namespace {

// How long a helper looks for the next call before it sleeps: the layers of a network follow each other in less.
constexpr auto PATIENCE = std::chrono::microseconds(50);

// `state` says how many helpers may still join the call (low half) and how many are in it (high half).
constexpr uint64_t JOINED = uint64_t(1) << 32;
constexpr uint64_t OPEN_PLACES = JOINED - 1;

class Pool {
public:
    void run(int threads, Body body) {
        std::unique_lock<std::mutex> mine(busy_, std::try_to_lock);
        if (!mine.owns_lock() || !grow(threads - 1)) {
            body.call(body.object, 0);
            return;
        }
        body_ = body;
        places_ = threads - 1;
        state_.store(uint64_t(threads - 1));
        if (sleeping_.load() > 0) {
            const std::lock_guard<std::mutex> lock(sleep_);
            wake_.notify_all();
        }
        body.call(body.object, 0);
        state_.fetch_and(~OPEN_PLACES);
        for (unsigned round = 0; state_.load(std::memory_order_acquire) != 0; ++round) pause_a_little(round);
    }

private:
    // Whether there are so many helpers; they are started when first wanted.
    bool grow(int wanted) {
        try {
            for (; helpers_ < wanted; ++helpers_) start();
        } catch (const std::system_error&) {
            return helpers_ > 0;              // fewer must do
        }
        return true;
    }

    void start() {
#if defined(_WIN32)
        std::thread([this] { help(); }).detach();
#else
        sigset_t all, before;                 // signals are for the program's own threads
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            std::thread([this] { help(); }).detach();
        } catch (...) {
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
            throw;
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    }

    void help() {
        for (;;) {
            wait();
            uint64_t state = state_.load();
            while ((state & OPEN_PLACES) != 0) {
                if (state_.compare_exchange_weak(state, state - 1 + JOINED)) {
                    body_.call(body_.object, places_ + 1 - int(state & OPEN_PLACES));
                    state_.fetch_sub(JOINED, std::memory_order_release);
                    break;
                }
            }
        }
    }

    // Returns when a call has an open place.
    void wait() {
        const auto start = std::chrono::steady_clock::now();
        for (unsigned round = 1; (state_.load() & OPEN_PLACES) == 0; ++round) {
            pause_a_little(0);
            if (round % 32 != 0) continue;
            std::this_thread::yield();        // the next call may come from this very core
            if (std::chrono::steady_clock::now() - start > PATIENCE) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleeping_.fetch_add(1);
                wake_.wait(lock, [this] { return (state_.load() & OPEN_PLACES) != 0; });
                sleeping_.fetch_sub(1);
            }
        }
    }

    std::mutex busy_;                         // held by the call that has the helpers
    int helpers_ = 0;
    alignas(64) std::atomic<uint64_t> state_{0};         // with the next two in one cache line
    Body body_{};
    int places_ = 0;
    alignas(64) std::atomic<int> sleeping_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

// Never destroyed: its helpers run until the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
    Pool* found = pool.load();
    if (found == nullptr) {
        Pool* made = new Pool;
        if (pool.compare_exchange_strong(found, made)) {
#if !defined(_WIN32)
            static std::once_flag once;       // a forked child has none of its parent's threads
            std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); }); });
#endif
            return *made;
        }
        delete made;
    }
    return *found;
}

}  // namespace

int threads_for(int wanted) {
    if (wanted <= 1) return 1;
    static const int all = int(std::thread::hardware_concurrency());      // asks the file system: once
    int cores = all;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
    return std::max(1, std::min({wanted, cores, MOST_THREADS}));
}

int threads_for_work(int wanted, size_t work, size_t least) {
    return threads_for(int(std::min<size_t>(size_t(wanted), 1 + work / least)));
}

void run_together(int threads, Body body) {
    if (threads <= 1) {
        body.call(body.object, 0);
    } else {
        the_pool().run(threads, body);
    }
}

void pause_a_little(unsigned round) {
    if (round > 200) {
        std::this_thread::yield();
        return;
    }
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace lookonce
