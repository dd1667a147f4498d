// An ordinary .cu includes <cuda_runtime.h>. What it declares is in launch.hpp, which is read before.
