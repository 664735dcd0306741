// Which paths this build holds, and which of them this processor can run.

#ifndef LOOKONCE_PATHS_H
#define LOOKONCE_PATHS_H

#include <string>
#include <vector>

#include "layer.h"

namespace lookonce {

// Those that run here, the fastest first.
std::vector<const Path*> paths_here();

// One that runs here, by name; null if there is none.
const Path* path_named(const std::string& name);

}  // namespace lookonce

#endif
