// An ordinary .cu includes <cuda_bf16.h>. What it declares is in launch.hpp, which is read before.
