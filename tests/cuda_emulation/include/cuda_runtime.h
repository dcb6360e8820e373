// Stands where the toolkit's <cuda_runtime.h> would: the runtime of the emulated device.
#pragma once
#include "emulated_runtime.h"
#include "emulated_types.h"
