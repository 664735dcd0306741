#include "paths.h"

namespace lookonce {

extern const Path portable;
#if LOOKONCE_X86
extern const Path avx512, avx2;
#endif
#if LOOKONCE_NEON
extern const Path neon;
#endif

std::vector<const Path*> paths_here() {
    std::vector<const Path*> found;
#if LOOKONCE_X86
    // These also ask whether the operating system keeps the registers.
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (wide && __builtin_cpu_supports("avx512vpopcntdq")) found.push_back(&avx512);
    if (__builtin_cpu_supports("avx2")) found.push_back(&avx2);
#endif
#if LOOKONCE_NEON
    found.push_back(&neon);                   // every 64-bit ARM has it
#endif
    found.push_back(&portable);
    return found;
}

const Path* path_named(const std::string& name) {
    for (const Path* path : paths_here()) {
        if (name == path->name) return path;
    }
    return nullptr;
}

}  // namespace lookonce
